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
    """Runs retention once a day, and whenever space is short; at the start in any case, to finish what was begun."""

    def __init__(self, retention: Retention) -> None:
        self._retention = retention
        self._running: Iterator[Removal] | None = None
        self._is_begun = False
        self._next_day = self._next_look = float("-inf")

    def turn(self) -> None:
        """Go on with a run, or begin one when it is time to; one that an error ended is begun again."""
        now = time.monotonic()
        running = self._running
        if running is None and self._is_time(now):
            running = self._retention.run()
        self._running = None
        while running is not None and time.monotonic() < now + TURN_SECONDS:
            if next(running, None) is None:
                self._is_begun, self._next_day, running = True, now + DAY_SECONDS, None
        self._running = running

    def _is_time(self, now: float) -> bool:
        if not self._is_begun or (self._retention.days and now >= self._next_day):
            return True
        if self._retention.floor_bytes and now >= self._next_look:
            self._next_look = now + SHORT_SECONDS
            return self._retention.is_short()
        return False
