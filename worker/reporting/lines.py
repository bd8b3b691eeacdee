"""Associations that stay open between deliveries: opening one costs more than what goes over it."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

from pynetdicom.presentation import PresentationContext

from worker.config import Peer
from worker.errors import FirstreadError
from worker.logs import get_logger
from worker.reporting.association import BrokenOff, association

log = get_logger(__name__)

LONGEST_SECONDS = 60.0
"""An association that is older is let go and opened anew, so that the peer gets its own back, and renewed certificates
are used."""

Sent = TypeVar("Sent")
_Key = tuple[str, str, tuple[str | None, ...]]


@dataclass(frozen=True)
class _Line:
    opened: Any
    closing: ExitStack
    began: float


class Lines:
    """Open associations, at most one for each peer and set of SOP Classes; all are released at the end of the block.

    To be used by one thread.

    Parameters
    ----------
    clock
        Returns seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lines: dict[_Key, _Line] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for key in list(self._lines):
            self._let_go(key)

    def send(
        self,
        peer: Peer,
        calling_ae: str,
        contexts: Sequence[PresentationContext],
        send: Callable[[Any], Sent],
        **more: Any,
    ) -> Sent:
        """Send something over the association with a peer; open it where there is none.

        Parameters
        ----------
        contexts
            What is proposed; another proposal has an association of its own.
        send
            Gets the association; raises `BrokenOff` where no answer comes over it. Called again, with a new one,
            where that had been open before: the peer may have had enough of it in between.
        more
            Credentials and waits, for `association`.

        Raises
        ------
        PeerUnreachable
            As `association` does, and from `send`.
        """
        key = (str(peer), calling_ae, tuple(context.abstract_syntax for context in contexts))
        if self._is_fit(key):
            try:
                return self._sent(key, send)
            except BrokenOff:
                log.info("called_again", peer=str(peer))
        closing = ExitStack()
        opened = closing.enter_context(association(peer, calling_ae, contexts, **more))
        self._lines[key] = _Line(opened, closing, self._clock())
        return self._sent(key, send)

    def _sent(self, key: _Key, send: Callable[[Any], Sent]) -> Sent:
        opened = self._lines[key].opened
        try:
            return send(opened)
        except BaseException as error:
            if isinstance(error, BrokenOff) or not isinstance(error, FirstreadError):
                opened.abort()
                self._let_go(key)
            raise

    def _is_fit(self, key: _Key) -> bool:
        """Say whether there is an association that can be used; one that cannot is let go."""
        line = self._lines.get(key)
        if line is None:
            return False
        if line.opened.is_established and self._clock() - line.began < LONGEST_SECONDS:
            return True
        self._let_go(key)
        return False

    def _let_go(self, key: _Key) -> None:
        """Release an association that has not broken off."""
        self._lines.pop(key).closing.close()
