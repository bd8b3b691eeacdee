"""From a DICOM file to the network's input: ours, in this process and through the guarded child, and pydicom's way."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom import dcmread
from pydicom.pixels import apply_modality_lut, apply_voi_lut

from models.card import Card
from models.preprocessing import FloatArray, prepare_shown
from tests.bench.receivers import OURS
from worker.inference.decoder import Bounds, show
from worker.inference.grayscale import Window
from worker.inference.pixels import PixelReader

PREPARING = "CR, file to network input"
PYDICOM, GUARDED = "pydicom and Pillow", f"{OURS}, through the guarded child"
MEMORY_BYTES = 1 << 31
MAX_PIXELS = 1 << 23
SECONDS = 60.0


@contextmanager
def contenders(film: Path, card: Card) -> Iterator[dict[str, Callable[[], FloatArray]]]:
    """Give whoever prepares `film` for the network of `card`, warm, by name."""
    with PixelReader(seconds=SECONDS, memory_bytes=MEMORY_BYTES) as reader:
        yield {
            OURS: lambda: in_process(film, card),
            GUARDED: lambda: reader.prepared(film, card).image,
            PYDICOM: lambda: straightforward(film, card),
        }


def in_process(film: Path | str, card: Card) -> FloatArray:
    """Decode and prepare as the guarded child does, here; float32 (H, W, C)."""
    file = os.open(film, os.O_RDONLY)
    try:
        window = Window(card.window.centre, card.window.width) if card.window else None
        shown, _ = show(file, card.frame_policy, window, Bounds(MEMORY_BYTES, MAX_PIXELS))
        shape = card.input
        return prepare_shown(card.recipe, shown, shape.rows, shape.columns, shape.channels)
    finally:
        os.close(file)


def straightforward(film: Path, card: Card) -> FloatArray:
    """What most programs do: pydicom's look-up tables, 8 bits, Pillow's resize, mean 0 and deviation 1."""
    ds = dcmread(film)
    shown = apply_voi_lut(apply_modality_lut(ds.pixel_array, ds), ds)
    low, high = float(shown.min()), float(shown.max())
    grey = np.round((shown - low) * (255 / ((high - low) or 1.0))).astype(np.uint8)
    small = Image.fromarray(grey).resize((card.input.columns, card.input.rows), Image.Resampling.BILINEAR)
    values = np.asarray(small, np.float32)
    standard = (values - values.mean()) / (values.std() or 1.0)
    return np.repeat(standard[..., np.newaxis], card.input.channels, axis=-1)
