"""Associations that stay open between deliveries: opening one costs more than what goes over it."""

import time
from collections.abc import Callable, Collection, Sequence
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
_Key = tuple[str, str]


@dataclass(frozen=True)
class _Kept:
    opened: Any
    classes: tuple[str | None, ...]
    closing: ExitStack
    began: float


class KeptAssociations:
    """Open associations, at most one for each peer; all are released at the end of the block.

    To be used by one thread.

    Parameters
    ----------
    clock
        Returns seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: dict[_Key, _Kept] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with ExitStack() as all_of_them:  # one that cannot be released keeps none of the others
            for key in list(self._kept):
                all_of_them.callback(self._let_go, key)

    @property
    def peers(self) -> set[str]:
        """With whom an association is open."""
        return {name for name, _ in self._kept}

    def release(self, peer: str) -> None:
        """Release the association with a peer, who is to have another one or nothing more for now."""
        for key in [key for key in self._kept if _plain(key[0]) == _plain(peer)]:
            self._let_go(key)

    def release_all_but(self, peers: Collection[str]) -> None:
        """Release the associations with peers for whom nothing is due."""
        kept = {_plain(peer) for peer in peers}
        for name in [name for name, _ in self._kept if _plain(name) not in kept]:
            self.release(name)

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
            What is proposed; for another proposal the association is opened anew.
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
        key, classes = (str(peer), calling_ae), tuple(context.abstract_syntax for context in contexts)
        if self._is_fit(key, classes):
            try:
                return self._sent(key, send)
            except BrokenOff:
                log.info("called_again", peer=str(peer))
        closing = ExitStack()
        opened = closing.enter_context(association(peer, calling_ae, contexts, **more))
        opened.network_timeout_response = "A-RELEASE"  # one that waits for its turn is let go, and no failure
        self._kept[key] = _Kept(opened, classes, closing, self._clock())
        return self._sent(key, send)

    def _sent(self, key: _Key, send: Callable[[Any], Sent]) -> Sent:
        opened = self._kept[key].opened
        try:
            return send(opened)
        except BaseException as error:
            if isinstance(error, BrokenOff) or not isinstance(error, FirstreadError):
                opened.abort()
                self._let_go(key)
            raise

    def _is_fit(self, key: _Key, classes: tuple[str | None, ...]) -> bool:
        """Say whether there is an association that can be used; one that cannot is let go."""
        found = self._kept.get(key)
        if found is None:
            return False
        is_young = self._clock() - found.began < LONGEST_SECONDS
        if found.opened.is_established and found.classes == classes and is_young:
            return True
        self._let_go(key)
        return False

    def _let_go(self, key: _Key) -> None:
        """Release an association that has not broken off."""
        self._kept.pop(key).closing.close()


def _plain(peer: str) -> str:
    """Return a peer without its TLS: what is owed to it from before it had any is sent over it too."""
    return peer.removesuffix("/tls")
