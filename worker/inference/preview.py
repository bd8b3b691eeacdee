"""The preview that the worklist shows: a PNG small enough to load at once."""

import contextlib
import os
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

LONGEST_SIDE = 1024
_COMPRESSION = 3
"""zlib level; higher ones cost three times the time for a few per cent."""


def write_preview(image: NDArray[np.float32], path: Path) -> None:
    """Write an image as an 8-bit grey PNG, whole or not at all, readable by nobody else (0600).

    Parameters
    ----------
    image
        float32 (rows, columns), 0 (black) to 255 (white). Larger than 1024 pixels on a side, it is reduced, each pixel
        the mean of those it stands for.
    path
        Where; replaced if it is there. Its directory is made (0700) if it is not.

    Raises
    ------
    OSError
        It cannot be written; nothing is left behind.
    """
    picture = Image.fromarray(np.rint(np.clip(image, 0, 255)).astype(np.uint8))
    longest = max(picture.size)
    if longest > LONGEST_SIDE:
        width, height = (max(1, round(side * LONGEST_SIDE / longest)) for side in picture.size)
        picture = picture.resize((width, height), Image.Resampling.BOX)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, partial = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # made 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            picture.save(file, "PNG", compress_level=_COMPRESSION)
        Path(partial).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(partial).unlink()
        raise
