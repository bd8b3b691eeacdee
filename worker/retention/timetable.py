"""When retention runs by itself, beside registration and without holding it up."""

import time
from collections.abc import Iterator

from worker.retention.removal import Removal, Retention

DAY_SECONDS = 86_400.0
SHORT_SECONDS = 60.0
"""After a run that could not reach the floor, space is looked at again after so long."""
TURN_SECONDS = 0.2
"""So long removal goes on before registration has its turn."""


class Timetable:
    """Runs retention once a day, at the start too, and whenever space is short."""

    def __init__(self, retention: Retention) -> None:
        self._retention = retention
        self._running: Iterator[Removal] | None = None
        self._next_day = self._next_look = float("-inf")

    def turn(self) -> None:
        """Go on with a run, or begin one when it is time to."""
        now = time.monotonic()
        if self._running is None and self._is_time(now):
            self._running = self._retention.run()
        while self._running is not None and time.monotonic() < now + TURN_SECONDS:
            if next(self._running, None) is None:
                self._running = None

    def _is_time(self, now: float) -> bool:
        if self._retention.days and now >= self._next_day:
            self._next_day = now + DAY_SECONDS
            return True
        if self._retention.floor_bytes and now >= self._next_look:
            self._next_look = now + SHORT_SECONDS
            return self._retention.is_short()
        return False
