"""What is not a frontal film: a lateral film and a few axial CT slices, drawn in the same schematic way."""

import numpy as np
import numpy.typing as npt

from worker.demo.canvas import Canvas, Image, step, through
from worker.demo.film import expose, line

AIR, LUNG, FAT, TISSUE, BONE = -1000.0, -850.0, -100.0, 45.0, 420.0
"""Hounsfield units."""


def lateral(n: int, seed: int) -> Image:
    """Draw a left lateral chest film, the patient facing left.

    Returns
    -------
    Image
        Brightness as displayed, 0 to 1, float32 (n, n).
    """
    canvas = Canvas(n, np.random.default_rng(seed))
    x, y = canvas.x, canvas.y
    front = through(((-1.0, -0.22), (-0.85, -0.24), (-0.7, -0.42), (-0.3, -0.62), (0.2, -0.7), (0.7, -0.68),
                     (1.0, -0.66)), y)  # fmt: skip
    back = through(((-1.0, 0.3), (-0.8, 0.42), (-0.5, 0.66), (-0.1, 0.72), (0.4, 0.64), (1.0, 0.58)), y)
    across = (2 * x - front - back) / (back - front)
    inside = np.sqrt(np.clip(1 - np.abs(across) ** 3, 0, None))
    arms = 0.5 * (1 - step(-0.55, y, 0.35))
    body = np.asarray(inside * (1.5 + arms), np.float32)
    floor = 0.36 + 0.42 * np.abs(x + 0.2) ** 1.6 + 0.25 * step(0.2, x, 0.7)
    lung = np.clip(1 - np.abs((2 * x - front - back) / (back - front - 0.24)) ** 4, 0, None)
    lung = np.sqrt(lung) * np.sqrt(np.clip((y + 0.78) / 0.4, 0, 1)) * (1 - step(floor, y, 0.02))
    heart = 0.55 * canvas.ellipsoid(-0.28, 0.14, 0.25, 0.33, 24)
    vessels = 0.2 * canvas.ellipsoid(-0.02, -0.14, 0.12, 0.14) + 0.14 * canvas.ellipsoid(-0.05, -0.42, 0.12, 0.1)
    spine_x = through(((-1.0, 0.2), (-0.5, 0.42), (0.0, 0.5), (0.5, 0.42), (1.0, 0.3)), y)
    phase = (y % 0.125) / 0.125
    vertebra = np.exp(-(((x - spine_x) / 0.07) ** 6)) * (0.25 + 0.2 * step(0.15, phase, 0.12))
    ribs = canvas.tubes([
        line([(0.47, -0.62 + 0.12 * k), (0.3, -0.6 + 0.13 * k), (-0.1, -0.42 + 0.13 * k), (-0.5, -0.2 + 0.12 * k)],
             0.02, 1.0)
        for k in range(9)
    ], hollow=0.78)  # fmt: skip
    windpipe = canvas.tubes([line([(0.02, -1.0), (0.05, -0.6), (0.08, -0.28)], 0.04, 1.0)])
    lost = body - 1.15 * lung + heart + vessels + vertebra + 5 * ribs - 3 * windpipe
    lost = np.asarray((lost + 0.05 * lung * canvas.clouds(1.0, finest=0.006)) * (body > 0), np.float32)
    return expose(canvas, lost, body, noise=0.014, scatter=0.3)


def axial(n: int, seed: int, level: float) -> npt.NDArray[np.int16]:
    """Draw one axial CT slice of a chest.

    Parameters
    ----------
    n
        Rows and columns.
    seed
        The same seed draws the same patient; the noise of each level is its own.
    level
        From 0 (upper chest) to 1 (lower chest).

    Returns
    -------
    numpy.ndarray
        Hounsfield units, int16 (n, n); the patient lies on the back, the right side on the left.
    """
    canvas = Canvas(n, np.random.default_rng([seed, round(1000 * level)]))
    size = 0.8 + 0.2 * np.sin(np.pi * (0.25 + 0.5 * level))
    body = canvas.ellipsoid(0, 0.02, 0.9, 0.64)
    muscle = canvas.ellipsoid(0, 0.02, 0.84, 0.57)
    slice_ = np.where(body > 0, np.where(muscle > 0, TISSUE, FAT), AIR)
    lungs = canvas.blank()
    for side in (-1, 1):
        lungs = np.maximum(lungs, canvas.ellipsoid(side * 0.42, 0.0, 0.31 * size, 0.46 * size, side * 8))
    lungs = lungs * (canvas.ellipsoid(0, 0.42, 0.16, 0.3) == 0)
    heart = canvas.ellipsoid(0.1, -0.14, 0.1 + 0.26 * level, 0.12 + 0.2 * level, 25) > 0
    lung = (lungs > 0) & ~heart
    gradient = 60 * canvas.y  # blood sinks: the back is denser
    slice_ = np.where(lung, LUNG + gradient + 12 * canvas.clouds(1.2, finest=0.01), slice_)
    rng = np.random.default_rng(seed)
    x, y, radius = rng.uniform(-0.75, 0.75, 260), rng.uniform(-0.45, 0.48, 260), 0.003 + rng.gamma(1.6, 0.003, 260)
    stubs = [
        line([(px, py), (px + 1.5 * r * np.sin(9 * px), py + 1.5 * r * np.cos(7 * py))], r, 1 / r)
        for px, py, r in zip(x + 0.06 * level * np.sign(x), y, radius, strict=True)
    ]
    slice_ = np.where(lung, slice_ + 850 * np.clip(0.6 * canvas.tubes(stubs), 0, 1), slice_)  # vessels
    slice_ = np.where(canvas.ellipsoid(0.0, -0.02 + 0.1 * level, 0.04, 0.045) > 0, AIR + 20, slice_)  # trachea
    slice_ = np.where(canvas.ellipsoid(0.12, 0.24, 0.065, 0.065) > 0, TISSUE + 10, slice_)  # aorta
    slice_ = np.where(canvas.ellipsoid(0, 0.36, 0.11, 0.09) > 0, BONE - 120, slice_)
    slice_ = np.where(canvas.ellipsoid(0, 0.485, 0.045, 0.045) > 0, TISSUE, slice_)  # spinal canal
    slice_ = np.where(canvas.ellipsoid(0, 0.57, 0.02, 0.05) > 0, BONE, slice_)
    slice_ = np.where(canvas.ellipsoid(0, -0.53, 0.1, 0.025) > 0, BONE - 180, slice_)  # sternum
    for turn in np.arange(0.35, 2.9, 0.42) + 0.3 * level:
        for side in (-1, 1):
            x, y = side * 0.77 * np.sin(turn), 0.02 + 0.52 * np.cos(turn)
            rib = canvas.ellipsoid(x, y, 0.085, 0.024, -side * np.degrees(turn) * 0.9)
            slice_ = np.where(rib > 0, BONE - 200 * rib, slice_)
    noisy = canvas.blur(np.asarray(slice_, np.float32), 0.003) + 9 * canvas.clouds(0.2, finest=0.003)
    return np.clip(np.round(noisy), -1024, 3071).astype(np.int16)
