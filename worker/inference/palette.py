"""Palette colour to grey (PS3.3 C.7.6.3.1.5, C.7.6.3.1.6, C.7.9)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels.processing import apply_color_lut

from worker.errors import PixelError
from worker.inference.attributes import LookupTable, named, numbers, value

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue (ITU-R BT.601), the Y of YBR_FULL."""


def palette_luma(
    header: Dataset, stored: NDArray[np.float64], *, signed: bool, little_endian: bool
) -> NDArray[np.float64]:
    """Map stored values through the palette and to their luma, 0 to 255.

    Parameters
    ----------
    header
        Has the Palette Color Lookup Table module.
    stored
        Stored values.
    signed, little_endian
        Of the pixels, and of the data set.

    Raises
    ------
    PixelError
        The palette is missing or damaged.
    """
    luma: Any = 0.0
    for colour, weight in zip(("Red", "Green", "Blue"), LUMA, strict=True):
        descriptor, data = f"{colour}PaletteColorLookupTableDescriptor", f"{colour}PaletteColorLookupTableData"
        if value(header, data) is None and value(header, f"Segmented{data}") is not None:
            return _segmented(header, stored)
        table = LookupTable.read(header, descriptor, data, signed=signed, little_endian=little_endian)
        luma = luma + weight * 255 / table.top * table(stored)
    return np.asarray(luma)


def _segmented(header: Dataset, stored: NDArray[np.float64]) -> NDArray[np.float64]:
    """Expand a segmented palette (PS3.3 C.7.9.2)."""
    descriptor = numbers(header, "RedPaletteColorLookupTableDescriptor")
    if len(descriptor) != 3:
        raise PixelError(f"{named('RedPaletteColorLookupTableDescriptor')} needs 3 values")
    count, first = int(descriptor[0]) & 0xFFFF or 1 << 16, int(descriptor[1])
    try:
        colours = apply_color_lut(np.arange(first, first + count), header)
    except (ValueError, TypeError, IndexError, AttributeError, KeyError) as error:
        raise PixelError(f"the segmented colour palette is damaged: {str(error)[:100]}") from error
    grey = colours[:, :3].astype(np.float64) @ np.array(LUMA) * (255 / np.iinfo(colours.dtype).max)
    result: NDArray[np.float64] = grey[np.clip(stored - first, 0, count - 1).astype(np.int64)]
    return result
