"""The golden pair of a package: one made-up film, and the probabilities that its network gave when it was packed.

Replayed before a classifier takes work, it tells a damaged environment (another library version, a broken GPU, changed
preprocessing) before a patient's film does.
"""

import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.errors import PackageError
from models.preprocessing import FloatArray


def golden_image(rows: int = 160, columns: int = 136) -> NDArray[np.uint8]:
    """Draw something like a chest film: two dark lungs in a bright body, ribs, a heart, a shadow in one lung.

    Made by a formula and a fixed noise, so that no patient's image is in a package.

    Returns
    -------
    NDArray[np.uint8]
        (rows, columns), 0 black to 255 white.
    """
    y, x = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]

    def blob(centre_x: float, centre_y: float, width: float, height: float) -> NDArray[np.float64]:
        radius = ((x - centre_x) / width) ** 2 + ((y - centre_y) / height) ** 2
        return np.asarray(1.0 / (1.0 + np.exp(np.minimum(12.0 * (radius - 1.0), 50.0))))

    film = 20.0 + 165.0 * blob(0.0, 0.15, 0.95, 1.2)
    film -= 115.0 * (blob(-0.42, -0.05, 0.33, 0.62) + blob(0.42, -0.05, 0.33, 0.62))
    film += 60.0 * blob(0.12, 0.25, 0.3, 0.36) + 35.0 * blob(0.0, 0.0, 0.1, 1.0)
    film += 12.0 * np.cos(18.0 * (y + 0.35 * x**2)) * blob(0.0, 0.0, 0.8, 0.75)
    film += 45.0 * blob(-0.4, 0.28, 0.2, 0.16)
    film += np.random.default_rng(20161116).normal(0.0, 3.0, film.shape)
    return np.clip(np.rint(film), 0, 255).astype(np.uint8)


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
