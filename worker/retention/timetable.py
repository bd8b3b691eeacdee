"""When retention runs by itself, beside registration and without holding it up."""

import time
from collections.abc import Iterator
from itertools import chain

from worker.retention.finished_work import FinishedWork
from worker.retention.removal import Retention

DAY_SECONDS = 86_400.0
SHORT_SECONDS = 60.0
"""After a run that could not reach the floor, space is looked at again after so long."""
TURN_SECONDS = 0.2
"""So long removal goes on before registration has its turn."""


class Timetable:
    """Runs retention once a day, and whenever space is short; at the start in any case, to finish what was begun.

    Parameters
    ----------
    retention
        Removes stored bytes.
    work
        Removes the rows of finished work; None: they stay.
    """

    def __init__(self, retention: Retention, work: FinishedWork | None = None) -> None:
        self._retention = retention
        self._work = work
        self._running: Iterator[object] | None = None
        self._is_begun = False
        self._next_day = self._next_look = float("-inf")

    def turn(self) -> None:
        """Go on with a run, or begin one when it is time to; one that an error ended is begun again."""
        now = time.monotonic()
        running = self._running
        if running is None and self._is_time(now):
            running = chain(self._retention.run(), self._work.run() if self._work else ())
        self._running = None
        while running is not None and time.monotonic() < now + TURN_SECONDS:
            if next(running, None) is None:
                self._is_begun, self._next_day, running = True, now + DAY_SECONDS, None
        self._running = running

    def _is_time(self, now: float) -> bool:
        daily = self._retention.days or (self._work and self._work.days)
        if not self._is_begun or (daily and now >= self._next_day):
            return True
        if self._retention.floor_bytes and now >= self._next_look:
            self._next_look = now + SHORT_SECONDS
            return self._retention.is_short()
        return False
