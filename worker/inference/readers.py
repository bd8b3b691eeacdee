"""Several readers of pixels, each with a guarded child of its own, for several objects at once."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from queue import LifoQueue
from types import TracebackType
from typing import TYPE_CHECKING, Self

from worker.inference.pixels import Frame, PixelReader, Prepared
from worker.inference.preview import Preview
from worker.logs import get_logger, where

if TYPE_CHECKING:
    from models.card import Card, Window

log = get_logger(__name__)

MOST = 8
"""Decoding children that a process starts unasked."""


def decoders_for(cores: int, workers: int) -> int:
    """Return how many decoding children suit a process.

    Parameters
    ----------
    cores
        How many there are. None is set aside for the network: a child that has nobody to decode for takes no core.
    workers
        How many such processes share them.
    """
    return max(1, min(MOST, cores // max(workers, 1)))


class PixelReaders:
    """As `PixelReader`, for as many threads at once as there are children; the next one waits.

    The children are warm, and independent: what one dies of costs its object, and the others do not notice.

    Parameters
    ----------
    count
        How many children.
    seconds, memory_bytes, max_pixels, announce
        As of `PixelReader`, each.

    Attributes
    ----------
    count
        How many children.
    """

    def __init__(
        self,
        count: int,
        *,
        seconds: float,
        memory_bytes: int,
        max_pixels: int = 400_000_000,
        announce: bool = False,
    ) -> None:
        self.count = count
        self._readers = [
            PixelReader(
                seconds=seconds, memory_bytes=memory_bytes, max_pixels=max_pixels, announce=announce and not number
            )
            for number in range(count)
        ]
        # The last one used is the next one used: its memory is warm.
        self._free: LifoQueue[PixelReader] = LifoQueue()
        for reader in reversed(self._readers):
            self._free.put(reader)
        self._previews = ThreadPoolExecutor(count, "previews")
        self._made: set[Future[None]] = set()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start the children now rather than with the first objects; nobody waits for them.

        Raises
        ------
        ChildLost
            One cannot be started.
        """
        for reader in self._readers:
            reader.child.start()

    def wait_until_ready(self) -> None:
        """Wait until the children have imported what they need; started before, they did so meanwhile.

        Raises
        ------
        ChildLost
            One cannot be started, or did not become ready.
        """
        for reader in self._readers:
            reader.child.layers()

    def close(self) -> None:
        """Wait for what is under way, then end the children; a later call starts others."""
        self.settle()
        for reader in self._readers:
            reader.close()

    def settle(self) -> None:
        """Wait until every preview is kept whose object is prepared."""
        wait(set(self._made))

    def read(self, path: Path, frame_policy: str, window: "Window | None" = None) -> Frame:
        """Read one object as it is displayed; see `PixelReader.read`."""
        with self._one() as reader:
            return reader.read(path, frame_policy, window)

    def prepared(self, path: Path, card: "Card", keep: Callable[[Preview], None] | None = None) -> Prepared:
        """Read one object as the input of a network; see `PixelReader.prepared`.

        Parameters
        ----------
        keep
            Is given the preview, soon and in another thread: nobody waits for it. Where the child cannot make one, or
            this process ends before, it is never called.
        """
        reader = self._free.get()
        later = False
        try:
            prepared = reader.prepared(path, card, with_preview=keep is not None)
            later = keep is not None and self._later(reader, prepared, keep)
        finally:
            if not later:
                self._free.put(reader)
        return prepared

    @contextmanager
    def _one(self) -> Iterator[PixelReader]:
        reader = self._free.get()
        try:
            yield reader
        finally:
            self._free.put(reader)

    def _later(self, reader: PixelReader, prepared: Prepared, keep: Callable[[Preview], None]) -> bool:
        """Have the preview made while others go on; the reader is free again afterwards."""

        def make() -> None:
            try:
                preview = reader.preview(prepared)
            finally:
                self._free.put(reader)
            if preview is not None:
                keep(preview)

        try:
            made = self._previews.submit(make)
        except RuntimeError:  # this process is ending: it waits for no more threads
            make()
            return True
        self._made.add(made)
        made.add_done_callback(self._over)
        return True

    def _over(self, made: Future[None]) -> None:
        self._made.discard(made)
        if error := made.exception():  # it costs the picture on the page, not the result
            log.warning("preview_not_made", error=where(error))
