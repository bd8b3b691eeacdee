"""A file that a parser cannot read for ever: hostile bytes end its patience before they end ours."""

from io import BufferedIOBase
from typing import BinaryIO, cast

STEPS_PER_ELEMENT = 2
"""Reads and skips that an element takes, or an item: its head and its value."""


class FrugalFile(BufferedIOBase):
    """A file of which only so many bytes are read, wherever they lie, in so many steps; skipping costs no bytes.

    Parsers turn an error within a sequence into one of their own, so why it ended is said in `exceeded` too.

    Parameters
    ----------
    file
        What is read, from where it stands; its position is this one's.
    max_bytes, max_elements
        How much; of elements at any depth, each item of a sequence counts as one more.

    Attributes
    ----------
    exceeded
        Which of the two was exceeded, in words for a person; empty while neither was.
    """

    def __init__(self, file: BinaryIO, *, max_bytes: int, max_elements: int) -> None:
        self.file = file
        self.name = "the data set"
        self.exceeded = ""
        self._max_bytes = self._bytes_left = max_bytes
        self._steps_left = STEPS_PER_ELEMENT * max_elements
        self._max_elements = max_elements

    def read(self, size: int | None = -1, /) -> bytes:
        """Read on.

        Raises
        ------
        ValueError
            It is more than was allowed.
        """
        self._step()
        allowed = self._bytes_left + 1
        data = self.file.read(allowed if size is None or size < 0 else min(size, allowed))
        self._bytes_left -= len(data)
        if self._bytes_left < 0:
            self._end(f"its header is longer than {self._max_bytes >> 20} MiB")
        return data

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Go to a position.

        Raises
        ------
        ValueError
            These were more steps than were allowed.
        """
        self._step()
        self.file.seek(offset, whence)
        return self.tell()

    def tell(self) -> int:
        """Return the position."""
        return self.file.tell()

    def _step(self) -> None:
        self._steps_left -= 1
        if self._steps_left < 0:
            self._end(f"its header has more than {self._max_elements} elements")

    def _end(self, why: str) -> None:
        self.exceeded = why
        raise ValueError(why)


def frugal(file: BinaryIO, *, max_bytes: int, max_elements: int) -> tuple[BinaryIO, FrugalFile]:
    """Return a frugal file twice: as pydicom's signatures want it, and as what it is."""
    one = FrugalFile(file, max_bytes=max_bytes, max_elements=max_elements)
    return cast("BinaryIO", one), one
