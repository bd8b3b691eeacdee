"""How much one peer can make us log: enough to see what it does, too little to fill a disk with."""

from collections.abc import Callable
from dataclasses import dataclass

import structlog
from structlog.typing import EventDict, WrappedLogger

LINES = 100
"""Lines of one event about one address in a window; what is beyond is counted, and the count told."""
WINDOW_SECONDS = 60.0
ADDRESSES = 1024
"""So many pairs of event and address are told apart; further addresses share one."""

NEVER_WITHHELD = frozenset({"object_stored"})
"""What was accepted is told of, one line each; it costs the peer an object."""


@dataclass
class _Told:
    since: float
    lines: int = 0
    withheld: int = 0


class LineLimit:
    """A processor of structlog: it drops lines about a peer (key `peer`, `HOST:PORT`) beyond their number.

    Parameters
    ----------
    clock
        Returns the time, seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._told: dict[tuple[str, str], _Told] = {}
        self._over: list[tuple[str, str, int]] = []

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        """Let a line through, or count it and raise `structlog.DropEvent`."""
        if "peer" not in event or event["event"] in NEVER_WITHHELD:
            return event
        key = str(event["event"]), str(event["peer"]).rpartition(":")[0]
        if key not in self._told and len(self._told) >= ADDRESSES:
            key = key[0], "others"
        now = self._clock()
        told = self._told.setdefault(key, _Told(now))
        if now - told.since > WINDOW_SECONDS:
            self._end(key)
            told = self._told.setdefault(key, _Told(now))
        if told.lines >= LINES:
            told.withheld += 1
            raise structlog.DropEvent
        told.lines += 1
        return event

    def withheld(self, *, at_the_end: bool = False) -> list[tuple[str, str, int]]:
        """Return event, address and number of the lines withheld in windows that are over, each once.

        Parameters
        ----------
        at_the_end
            No line follows: all windows are over.
        """
        now = self._clock()
        for key, told in list(self._told.items()):
            if at_the_end or now - told.since > WINDOW_SECONDS:
                self._end(key)
        over, self._over = self._over, []
        return over

    def _end(self, key: tuple[str, str]) -> None:
        told = self._told.pop(key, None)
        if told is not None and told.withheld:
            self._over.append((*key, told.withheld))
