"""Who may be here at once: connections, and of them associations; the slow give way when all places are taken.

Nobody is hurried while there is room: a sender may take its time. Only where a newcomer finds everything taken does
one that is slow, or has said nothing, have to go; first of an address that holds more places than others, so that one
machine with two hundred crawling connections keeps nobody out but itself.
"""

import threading
from collections import Counter
from typing import Protocol

from worker.logs import get_logger

log = get_logger(__name__)

SLOW_SECONDS = 10.0
"""An association that has moved less than `inflow.PACE_BYTES` in so long may have to give way."""
CROWDING_SECONDS = 1.0
"""The same, where its address holds at least two places more than the newcomer's."""


class Occupant(Protocol):
    """A connection, as far as its place is concerned; `number` is that of its association, for the log."""

    number: int

    @property
    def address(self) -> str:
        """The peer's address."""

    @property
    def peer(self) -> str:
        """The same with the port, for the log."""

    @property
    def slow_seconds(self) -> float:
        """How long it has been moving next to nothing."""

    def give_way(self) -> None:
        """Close the connection at once, from any thread."""


class FrontDesk(Protocol):
    """Who gives out places: `Places` in a process of its own, or the one process that counts for several."""

    def enter(self, newcomer: Occupant) -> bool:
        """Take a connection in; False: there is no place for it."""

    def associate(self, newcomer: Occupant) -> bool:
        """Give a connection an association; False: all are taken."""

    def dissociate(self, occupant: Occupant) -> None:
        """Take an association back."""

    def leave(self, occupant: Occupant) -> None:
        """Take a place back."""


class Places:
    """The places of a server.

    Parameters
    ----------
    associations
        Associations at once.
    connections
        Connections at once, with those that are not yet associated; more than `associations`.
    """

    def __init__(self, associations: int, connections: int) -> None:
        self.associations = associations
        self.connections = connections
        self._lock = threading.Lock()
        self._waiting: dict[Occupant, None] = {}
        """Oldest first."""
        self._associated: dict[Occupant, None] = {}
        self._leaving: set[Occupant] = set()
        """They were told to go and hold no place any more."""

    def enter(self, newcomer: Occupant) -> bool:
        """Take a connection in; where all places are taken, the oldest that has not yet asked for anything goes.

        Returns False when even those that were told to go are too many: then it is to be closed.
        """
        silent = None
        with self._lock:
            if len(self._leaving) >= self.connections:
                return False
            if len(self._waiting) + len(self._associated) >= self.connections:
                crowd = Counter(one.address for one in self._waiting)
                silent = max(self._waiting, key=lambda one: crowd[one.address])  # the first of the largest
                self._send_away(silent)
            self._waiting[newcomer] = None
        if silent is not None:
            _tell("silent_connection_gave_way", silent)
        return True

    def associate(self, newcomer: Occupant) -> bool:
        """Give a connection that has asked for it an association; where all are taken, the slowest goes.

        Returns False when nobody is slow, or when the newcomer itself was told to go meanwhile.
        """
        slowest = None
        with self._lock:
            if newcomer not in self._waiting:
                return False
            if len(self._associated) >= self.associations:
                slowest = self._slowest(newcomer.address)
                if slowest is None:
                    return False
                self._send_away(slowest)
            del self._waiting[newcomer]
            self._associated[newcomer] = None
        if slowest is not None:
            _tell("slow_association_gave_way", slowest)
        return True

    def dissociate(self, occupant: Occupant) -> None:
        """Give an association back; its connection still has to close."""
        with self._lock:
            if occupant in self._associated:
                del self._associated[occupant]
                self._waiting[occupant] = None

    def leave(self, occupant: Occupant) -> None:
        """Give a place back; it may have been taken away before."""
        with self._lock:
            self._waiting.pop(occupant, None)
            self._associated.pop(occupant, None)
            self._leaving.discard(occupant)

    def _slowest(self, address: str) -> Occupant | None:
        crowd = Counter(one.address for one in self._associated)
        seconds = {one: one.slow_seconds for one in self._associated}
        slow = [
            one
            for one in self._associated
            if seconds[one] > (CROWDING_SECONDS if crowd[one.address] > crowd[address] + 1 else SLOW_SECONDS)
        ]
        return max(slow, key=lambda one: (crowd[one.address], seconds[one]), default=None)

    def _send_away(self, occupant: Occupant) -> None:
        self._waiting.pop(occupant, None)
        self._associated.pop(occupant, None)
        self._leaving.add(occupant)
        occupant.give_way()


def _tell(event: str, gone: Occupant) -> None:
    """Log who gave way; without the lock, as whoever takes the log may be slow."""
    log.warning(
        event,
        association=gone.number,
        peer=gone.peer,
        slow_seconds=round(gone.slow_seconds, 1),
        fix="raise FIRSTREAD_MAX_ASSOCIATIONS if so many senders are expected; else see what that address does",
    )
