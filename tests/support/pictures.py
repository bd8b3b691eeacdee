"""Small picture files for tests of data sets: each of its own bytes."""

from pathlib import Path

import numpy as np
from PIL import Image


def picture(path: Path, number: int) -> Path:
    """Write an 8x8 picture in the format of its ending, PNG without one; another number, another picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 255, (8, 8), np.uint8)
    Image.fromarray(pixels).save(path, "JPEG" if path.suffix.lower() in {".jpg", ".jpeg"} else "PNG")
    return path


def pictures(root: Path, *names: str) -> Path:
    """Write pictures under a folder, all different."""
    for number, name in enumerate(names):
        picture(root / name, number)
    return root
