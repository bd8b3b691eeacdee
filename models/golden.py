"""The golden pair of a package: one made-up film or slice, and the probabilities its network gave when it was packed.

Replayed before a classifier takes work, it tells a damaged environment (another library version, a broken GPU, changed
preprocessing) before a patient's film does.
"""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.errors import PackageError
from models.preprocessing import FloatArray


def phantom_for(modalities: Sequence[str]) -> NDArray[np.uint8]:
    """Draw what a network for these modalities (the card's `default_for`) is to see: a slice for CT, else a film.

    Returns
    -------
    NDArray[np.uint8]
        (rows, columns), 0 black to 255 white.
    """
    return golden_slice() if "CT" in modalities else golden_image()


def golden_image(rows: int = 160, columns: int = 136) -> NDArray[np.uint8]:
    """Draw something like a chest film: two dark lungs in a bright body, ribs, a heart, a shadow in one lung.

    Made by a formula and a fixed noise, so that no patient's image is in a package.

    Returns
    -------
    NDArray[np.uint8]
        (rows, columns), 0 black to 255 white.
    """
    y, x = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    film = 20.0 + 165.0 * _blob(x, y, 0.0, 0.15, 0.95, 1.2)
    film -= 115.0 * (_blob(x, y, -0.42, -0.05, 0.33, 0.62) + _blob(x, y, 0.42, -0.05, 0.33, 0.62))
    film += 60.0 * _blob(x, y, 0.12, 0.25, 0.3, 0.36) + 35.0 * _blob(x, y, 0.0, 0.0, 0.1, 1.0)
    film += 12.0 * np.cos(18.0 * (y + 0.35 * x**2)) * _blob(x, y, 0.0, 0.0, 0.8, 0.75)
    film += 45.0 * _blob(x, y, -0.4, 0.28, 0.2, 0.16)
    return _grained(film)


def golden_slice(rows: int = 160, columns: int = 160) -> NDArray[np.uint8]:
    """Draw something like an axial slice of a chest in a lung window: a round body in air, two dark lungs with vessels.

    Between them the heart, behind it the spine, in the right lung (on the left of the picture) a hazy patch.

    Returns
    -------
    NDArray[np.uint8]
        (rows, columns), 0 black to 255 white.
    """
    y, x = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    lungs = _blob(x, y, -0.42, -0.05, 0.32, 0.46) + _blob(x, y, 0.42, -0.05, 0.32, 0.46)
    vessels = np.maximum(np.cos(23.0 * x + 9.0 * y) * np.cos(19.0 * y - 7.0 * x), 0.0) ** 6
    piece = 5.0 + 205.0 * _blob(x, y, 0.0, 0.05, 0.9, 0.72)
    piece += lungs * (120.0 * vessels - 165.0)
    piece += 150.0 * _blob(x, y, 0.16, -0.12, 0.3, 0.26) * np.minimum(lungs, 1.0)
    piece += 40.0 * _blob(x, y, 0.0, 0.5, 0.13, 0.12)
    piece += 55.0 * _blob(x, y, -0.5, 0.16, 0.15, 0.13)
    return _grained(piece)


def _blob(
    x: NDArray[np.float64], y: NDArray[np.float64], centre_x: float, centre_y: float, width: float, height: float
) -> NDArray[np.float64]:
    """Draw a soft-edged ellipse: near 1 inside, near 0 outside."""
    radius = ((x - centre_x) / width) ** 2 + ((y - centre_y) / height) ** 2
    return np.asarray(1.0 / (1.0 + np.exp(np.minimum(12.0 * (radius - 1.0), 50.0))))


def _grained(image: NDArray[np.float64]) -> NDArray[np.uint8]:
    noisy = image + np.random.default_rng(20161116).normal(0.0, 3.0, image.shape)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def save_golden(path: Path, image: NDArray[np.uint8], probabilities: FloatArray) -> None:
    """Write a golden pair.

    Parameters
    ----------
    image
        uint8 (rows, columns).
    probabilities
        float32, one a label.
    """
    np.savez_compressed(path, image=image, probabilities=probabilities)


def load_golden(path: Path, labels: int) -> tuple[FloatArray, FloatArray]:
    """Read a golden pair.

    Returns
    -------
    tuple
        The image, float32 (rows, columns), and the probabilities, float32 (labels,).

    Raises
    ------
    PackageError
        If the file cannot be read or holds something else.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as pair:
            image, probabilities = pair["image"], pair["probabilities"]
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise PackageError(f"{path}: this is no golden pair: {error}") from None
    if image.dtype != np.uint8 or image.ndim != 2 or probabilities.shape != (labels,):
        raise PackageError(f"{path}: an image of uint8 (rows, columns) and {labels} probabilities are expected")
    return image.astype(np.float32), probabilities.astype(np.float32)
