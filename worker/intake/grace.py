"""Grace: after the database stood still, workers get the time to renew their leases before any is taken from them.

Whoever waited for the database waited with everybody else: a lease that ended meanwhile says nothing of its worker, and
taking it would cost the work an attempt.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Grace:
    """Whether leases that have ended are left alone for now.

    Parameters
    ----------
    lease_seconds
        How long grace lasts: workers renew three times in a lease, but may sit in a connection attempt that hangs.
    clock
        A monotonic clock, seconds.
    """

    def __init__(self, lease_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.lease_seconds = lease_seconds
        self._clock = clock
        self._until = self._not_again_until = float("-inf")

    def begin(self) -> None:
        """Give the time, from now on."""
        now = self._clock()
        self._until, self._not_again_until = now + self.lease_seconds, now + 3 * self.lease_seconds

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Give it when the block took longer than a renewal may; not again soon: a busy database is slow all day."""
        began = self._clock()
        yield
        if self._clock() - began > self.lease_seconds / 3 and self._clock() >= self._not_again_until:
            self.begin()

    def holds(self) -> bool:
        """Say whether it is being given."""
        return self._clock() < self._until
