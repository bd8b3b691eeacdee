"""Read the attributes that pixels need, one clear reason for each that is missing or absurd."""

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.datadict import tag_for_keyword
from pydicom.errors import BytesLengthException
from pydicom.sequence import Sequence as Items

from worker.errors import PixelError

_SHOWN = 40
_HARMLESS = re.compile(r"[0-9A-Z_ ]*|[0-9eE .,+\-\[\]']*")
"""What codes and numbers are written with; a value that is written with more may be a name in the wrong place."""


def named(keyword: str) -> str:
    """Return an attribute as a person looks it up: `Rows (0028,0010)`."""
    tag = tag_for_keyword(keyword) or 0
    return f"{keyword} ({tag >> 16:04X},{tag & 0xFFFF:04X})"


def quoted(found: Any) -> str:
    """Return a code or a number as a message may quote it; what is neither is not quoted."""
    words = str(found)[:_SHOWN]
    return words if _HARMLESS.fullmatch(words) else "neither code nor number"


def value(header: Dataset, keyword: str) -> Any:
    """Return the value of an attribute, None where it is absent or empty.

    Raises
    ------
    PixelError
        The bytes of the value are not of its value representation.
    """
    try:
        found = header.get(keyword)
    except (ValueError, TypeError, OverflowError, NotImplementedError, BytesLengthException) as error:
        raise PixelError(f"{named(keyword)} cannot be read: {type(error).__name__}") from error
    return None if found is None or (isinstance(found, (str, bytes, Sequence)) and not len(found)) else found


def text(header: Dataset, keyword: str) -> str:
    """Return a code string, in capitals; empty where it is absent.

    Raises
    ------
    PixelError
        It is a sequence.
    """
    found = value(header, keyword)
    if isinstance(found, Items):
        raise PixelError(f"{named(keyword)} is a sequence where a text belongs")
    return "" if found is None else str(found).strip().upper()


def whole(header: Dataset, keyword: str, default: int | None = None) -> int:
    """Return a whole number.

    Raises
    ------
    PixelError
        It is absent and has no default, has several values, or is no whole number.
    """
    found = value(header, keyword)
    if found is None:
        if default is None:
            raise PixelError(f"{named(keyword)} is missing; the pixels cannot be read without it")
        return default
    try:
        return int(found)
    except (TypeError, ValueError) as error:
        raise PixelError(f"{named(keyword)} is {quoted(found)}, not one whole number") from error


def numbers(header: Dataset, keyword: str) -> list[float]:
    """Return the values of a decimal attribute, an empty list where it is absent.

    Raises
    ------
    PixelError
        A value is no finite number.
    """
    found = value(header, keyword)
    if found is None:
        return []
    values = list(found) if isinstance(found, Sequence) and not isinstance(found, (str, bytes)) else [found]
    try:
        result = [float(one) for one in values]
    except (TypeError, ValueError) as error:
        raise PixelError(f"{named(keyword)} is {quoted(found)}, not a number") from error
    if not all(math.isfinite(one) for one in result):
        raise PixelError(f"{named(keyword)} is {quoted(found)}, not a finite number")
    return result


def items(header: Dataset, keyword: str) -> list[Dataset]:
    """Return the items of a sequence, an empty list where it is absent."""
    found = value(header, keyword)
    return [item for item in found if isinstance(item, Dataset)] if isinstance(found, Sequence) else []


class LookupTable:
    """A LUT Descriptor and its data (PS3.3 C.11.1.1, C.11.2.1.1, C.7.6.3.1.5).

    Attributes
    ----------
    first
        The first value mapped; smaller ones map to the first entry, larger ones than the last to the last entry.
    bits
        Bits of an entry as the descriptor says: the output range is 0 to 2**bits - 1.
    entries
        The entries, int64 (n,).
    """

    def __init__(self, first: int, bits: int, entries: NDArray[np.int64]) -> None:
        self.first = first
        self.bits = bits
        self.entries = entries

    @property
    def top(self) -> int:
        """The largest output, 2**bits - 1."""
        return int((1 << self.bits) - 1)

    def __call__(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Map values; what lies between two whole numbers is mapped as the smaller of them."""
        index = np.clip(np.floor(values - self.first), 0, len(self.entries) - 1).astype(np.int64)
        mapped: NDArray[np.float64] = self.entries[index].astype(np.float64)
        return mapped

    @classmethod
    def read(cls, holder: Dataset, descriptor: str, data: str, *, signed: bool, little_endian: bool) -> "LookupTable":
        """Read a table.

        Parameters
        ----------
        holder
            The data set or sequence item that has both attributes.
        descriptor, data
            Their keywords.
        signed
            Whether the values that are mapped may be negative; the descriptor's second value then is signed whatever
            value representation it was written with.
        little_endian
            Byte order of the data set.

        Raises
        ------
        PixelError
            A part is missing, or the data are fewer than the descriptor says.
        """
        described = numbers(holder, descriptor)
        if len(described) != 3:
            raise PixelError(f"{named(descriptor)} has {len(described)} values and needs 3")
        count, first, bits = (int(number) for number in described)
        count = count & 0xFFFF or 1 << 16  # 0 stands for 65536; written as SS, 32768 and more arrive negative
        if signed and first > 0x7FFF:
            first -= 1 << 16
        if not 1 <= bits <= 16:
            raise PixelError(f"{named(descriptor)} says {bits} bits an entry; 8 to 16 are allowed")
        found = value(holder, data)
        if found is None:
            raise PixelError(f"{named(data)} is missing")
        entries = _entries(found, count, little_endian=little_endian)
        if len(entries) < count:
            raise PixelError(f"{named(data)} has {len(entries)} entries and its descriptor says {count}")
        entries = entries[:count]
        if entries.itemsize == 1:
            bits = min(bits, 8)
        elif bits == 8 and entries.max() > 0xFF:
            bits = 16  # the descriptor contradicts its data; the data are what was meant to be shown
        return cls(first, bits, np.minimum(entries.astype(np.int64), (1 << bits) - 1))


def _entries(found: Any, count: int, *, little_endian: bool) -> NDArray[Any]:
    """Return the entries: words where there are enough of them, else bytes, two in a word (PS3.3 C.7.6.3.1.6)."""
    word = "<u2" if little_endian else ">u2"
    raw = found if isinstance(found, bytes) else (np.atleast_1d(np.asarray(found, np.int64)) & 0xFFFF).astype(word)
    if isinstance(raw, bytes):
        return np.frombuffer(raw, word, count) if len(raw) >= 2 * count else np.frombuffer(raw, np.uint8)
    return raw if len(raw) >= count else raw.view(np.uint8)
