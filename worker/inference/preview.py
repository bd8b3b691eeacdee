"""The preview that the worklist shows: a PNG small enough to load at once.

The guarded child reduces the image and deflates it; the PNG is put together around that by its parent, so that a child
taken over by what it reads says nothing but grey levels.
"""

import contextlib
import os
import struct
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray
from PIL import Image

LONGEST_SIDE = 1024
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY_8_BIT = (8, 0, 0, 0, 0)
"""Bits, colour type, compression, filter method, interlace (PNG, 11.2.1)."""
_UP = 2
"""Each pixel is written as what it differs from the one above (PNG, 9.2)."""


@dataclass(frozen=True)
class Preview:
    """A picture of 8-bit grey.

    Attributes
    ----------
    rows, columns
        Its size, pixels.
    deflated
        Its lines as a PNG has them: filtered, deflated.
    """

    rows: int
    columns: int
    deflated: bytes

    def png(self) -> bytes:
        """Return it as a PNG file (ISO/IEC 15948)."""
        head = struct.pack(">2I5B", self.columns, self.rows, *_GREY_8_BIT)
        chunks = (*_chunk(b"IHDR", head), *_chunk(b"IDAT", self.deflated), *_chunk(b"IEND", b""))
        return b"".join((_SIGNATURE, *chunks))


def whole_factor(rows: int, columns: int) -> int:
    """Return how many pixels on a side one of the preview stands for, 1 where that is no whole number."""
    factor = max(rows, columns) // LONGEST_SIDE
    whole = factor > 1 and max(rows, columns) == factor * LONGEST_SIDE and min(rows, columns) % factor == 0
    return factor if whole else 1


def make_preview(levels: NDArray[np.uint8]) -> Preview:
    """Make the preview of an image.

    Parameters
    ----------
    levels
        uint8 (rows, columns). Larger than 1024 pixels on a side, it is reduced, each pixel the mean of those it stands
        for.
    """
    picture = Image.fromarray(levels)
    longest = max(picture.size)
    if longest > LONGEST_SIDE:
        width, height = (max(1, round(side * LONGEST_SIDE / longest)) for side in picture.size)
        picture = picture.resize((width, height), Image.Resampling.BOX)
    small = np.asarray(picture)
    lines = np.empty((small.shape[0], 1 + small.shape[1]), np.uint8)
    lines[:, 0] = _UP
    lines[0, 1:] = small[0]
    np.subtract(small[1:], small[:-1], out=lines[1:, 1:])
    # ISA-L, not zlib: of a film, which is noise to both, as small as zlib's fastest in a third of its time.
    return Preview(small.shape[0], small.shape[1], isal_zlib.compress(lines.data, 1))


def write_preview(preview: Preview, path: Path) -> None:
    """Write a PNG, whole or not at all, readable by nobody else (0600).

    Parameters
    ----------
    path
        Where; replaced if it is there. Its directory is made (0700) if it is not.

    Raises
    ------
    OSError
        It cannot be written; nothing is left behind.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, partial = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # made 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(preview.png())
        Path(partial).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(partial).unlink()
        raise


def _chunk(kind: bytes, data: bytes) -> tuple[bytes, ...]:
    """Return the parts of a chunk (PNG, 5.3), to be joined once: a picture's data are not copied on the way."""
    return struct.pack(">I", len(data)), kind, data, struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))
