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
from models.preprocessing import FloatArray, prepare
from tests.bench.receivers import OURS
from worker.inference.decoder import Bounds, decode
from worker.inference.guard import PIXEL_BYTES
from worker.inference.pixels import PixelReader

PREPARING = "CR, file to network input"
PYDICOM, GUARDED = "pydicom and Pillow", f"{OURS}, through the guarded child"
MEMORY_BYTES = 1 << 31
MAX_PIXELS = 1 << 23
SECONDS = 60.0


@contextmanager
def contenders(film: Path, card: Card) -> Iterator[dict[str, Callable[[], FloatArray]]]:
    """Give whoever prepares `film` for the network of `card`, warm, by name."""
    memory = shared_memory()
    try:
        with PixelReader(seconds=SECONDS, memory_bytes=MEMORY_BYTES) as reader:
            yield {
                OURS: lambda: prepared(in_process(film, card, memory), card),
                GUARDED: lambda: prepared(reader.read(film, card.frame_policy).image, card),
                PYDICOM: lambda: straightforward(film, card),
            }
    finally:
        os.close(memory)


def shared_memory() -> int:
    """Return a descriptor of memory for the pixels of one film, as the guarded child has it."""
    memory = os.memfd_create("firstread-bench")
    os.ftruncate(memory, MAX_PIXELS * PIXEL_BYTES)
    return memory


def in_process(film: Path | str, card: Card, memory: int) -> FloatArray:
    """Decode as the guarded child does, here; float32 (rows, columns)."""
    file = os.open(film, os.O_RDONLY)
    try:
        told = decode(file, card.frame_policy, None, memory, Bounds(MEMORY_BYTES, MAX_PIXELS))
    finally:
        os.close(file)
    pixels = np.fromfile(f"/proc/self/fd/{memory}", np.float32, told["rows"] * told["columns"])
    return pixels.reshape(told["rows"], told["columns"])


def prepared(image: FloatArray, card: Card) -> FloatArray:
    """Make the network's input, float32 (H, W, C)."""
    shape = card.input
    return prepare(card.recipe, image, shape.rows, shape.columns, shape.channels)


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
