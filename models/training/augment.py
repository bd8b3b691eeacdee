"""Augmentation: what a station, a positioning or a conversion may change about a film without changing what it shows.

It works on the image itself, before the preprocessing recipe of the network, so that training runs through exactly the
code that serves. A kind of augmentation is a short row of the named changes below.
"""

from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

from models.preprocessing import FloatArray, resized

EightBit = NDArray[np.uint8]
"""A film of whole grey values: (rows, columns), 0 black to 255 white."""

Grey = NDArray[Any]
"""A film of uint8 or float32, (rows, columns), 0 black to 255 white."""

Augment = Callable[[EightBit, Generator], FloatArray]

TURN_DEGREES = 8.0
SHIFT = 0.06
ZOOM = (0.85, 1.12)
GAMMA = (0.7, 1.45)
SMALLEST_SIDE = 160
NOISE = 4.0

ARTICLE_TURN_DEGREES = 10.0
ARTICLE_ZOOM = (0.8, 1.2)

_GREYS = np.arange(256, dtype=np.float32) / np.float32(255.0)
_BELL = np.array([NormalDist().inv_cdf((step + 0.5) / 256) for step in range(256)], np.float32)


def augmented(image: Grey, random: Generator) -> FloatArray:
    """Change a film as another station might have: place, side, grey scale, sharpness, noise.

    It is turned by up to 8 degrees, shifted by up to 6 % and zoomed by 0.85 to 1.12; mirrored (half the time); its
    grey scale is bent (gamma 0.7 to 1.45); half the time it is reduced to a lower resolution, half the time it gets
    noise of up to 4 grey values: by resolution, grey scale and noise one hospital's films are told from another's.

    Parameters
    ----------
    image
        uint8 or float32 (rows, columns), 0 to 255.
    random
        Source of chance; the same state gives the same image.

    Returns
    -------
    FloatArray
        float32, 0 to 255; rows and columns may be fewer.
    """
    changed = mirrored(moved(image, random), random)
    return noisy(coarsened(bent(changed, random), random), random)


def as_in_article(image: Grey, random: Generator) -> FloatArray:
    """Zoom, rotate and mirror, which is what `pneumonia_small_vgg`'s article does; how far, it does not say.

    Parameters
    ----------
    image
        uint8 or float32 (rows, columns), 0 to 255.
    random
        Source of chance; the same state gives the same image.

    Returns
    -------
    FloatArray
        float32 (rows, columns), 0 to 255.
    """
    changed = moved(image, random, turn_degrees=ARTICLE_TURN_DEGREES, shift=0.0, zoom=ARTICLE_ZOOM)
    return np.asarray(mirrored(changed, random), dtype=np.float32)


def moved(
    image: Grey,
    random: Generator,
    *,
    turn_degrees: float = TURN_DEGREES,
    shift: float = SHIFT,
    zoom: tuple[float, float] = ZOOM,
) -> Grey:
    """Turn, shift and zoom at random about the centre; black where nothing was."""
    rows, columns = image.shape
    angle = np.deg2rad(random.uniform(-turn_degrees, turn_degrees))
    scale = random.uniform(*zoom)
    shift_x, shift_y = random.uniform(-shift, shift, 2) * (columns, rows)
    cosine, sine = np.cos(angle) / scale, np.sin(angle) / scale
    centre_x, centre_y = columns / 2, rows / 2
    # Pillow wants the inverse: for a pixel of the result, where in the source it comes from.
    matrix = (
        cosine, sine, centre_x - cosine * (centre_x + shift_x) - sine * (centre_y + shift_y),
        -sine, cosine, centre_y + sine * (centre_x + shift_x) - cosine * (centre_y + shift_y),
    )  # fmt: skip
    picture = Image.fromarray(np.ascontiguousarray(image))
    turned = picture.transform((columns, rows), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    return np.asarray(turned, dtype=image.dtype)


def mirrored(image: Grey, random: Generator) -> Grey:
    """Exchange left and right, half the time."""
    return image[:, ::-1] if random.random() < 0.5 else image


def bent(image: Grey, random: Generator) -> FloatArray:
    """Bend the grey scale by a random gamma, which for 256 grey values is a table."""
    table = np.float32(255.0) * _GREYS ** np.float32(random.uniform(*GAMMA))
    return np.asarray(table[eight_bit(image)], dtype=np.float32)


def coarsened(image: FloatArray, random: Generator) -> FloatArray:
    """Reduce the resolution, half the time, down to `SMALLEST_SIDE` at most."""
    longest = max(image.shape)
    if random.random() >= 0.5 or longest <= SMALLEST_SIDE:
        return image
    share = random.uniform(SMALLEST_SIDE / longest, 1.0)
    return resized(image, *(max(1, round(side * share)) for side in image.shape))


def noisy(image: FloatArray, random: Generator) -> FloatArray:
    """Add Gaussian noise of up to `NOISE` grey values, half the time; drawn as bytes, which is quicker by far."""
    if random.random() >= 0.5:
        return image
    table = _BELL * np.float32(random.uniform(0.0, NOISE))
    noise = table[random.integers(0, 256, image.shape, np.uint8)]
    return np.asarray(np.clip(image + noise, 0, 255), dtype=np.float32)


def eight_bit(image: Grey) -> EightBit:
    """Round to whole grey values."""
    return image if image.dtype == np.uint8 else np.rint(np.clip(image, 0, 255)).astype(np.uint8)


AUGMENTATIONS: dict[str, Augment] = {"article": as_in_article, "triage": augmented}
"""By the hyper-parameter `augmentation`."""
