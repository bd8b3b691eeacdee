"""Augmentation: what a station, a positioning or a conversion may change about a film without changing what it shows.

It works on the image itself, before the preprocessing recipe of the network, so that training runs through exactly the
code that serves. A kind of augmentation is a short row of the named changes below.
"""

import io
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
SMALLEST_SIDE = 128
NOISE = 4.0
KNOTS = 6
JPEG_QUALITY = (35, 92)
SHARPER = (-0.3, 0.6)
BORDER = 0.1
PATCH = (0.04, 0.2)

ARTICLE_TURN_DEGREES = 10.0
ARTICLE_ZOOM = (0.8, 1.2)

_GREYS = np.arange(256, dtype=np.float32) / np.float32(255.0)
_BELL = np.array([NormalDist().inv_cdf((step + 0.5) / 256) for step in range(256)], np.float32)


def augmented(image: Grey, random: Generator) -> FloatArray:
    """Change a film as another station might have made it, so that a hospital is not recognised by its films.

    It is turned by up to 8 degrees, shifted by up to 6 % and zoomed by 0.85 to 1.12; mirrored (half the time); its grey
    scale is bent or given another curve; half the time its resolution is reduced, it is sharpened or blurred,
    compressed as JPEG, or gets noise, and edges and patches of it are covered: by grey scale, resolution, processing,
    borders and markers one hospital's films are told from another's.

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
    changed = bent(changed, random) if random.random() < 0.65 else toned(changed, random)
    changed = coarsened(changed, random)
    changed = compressed(sharpened(changed, random), random)
    return covered(noisy(changed, random), random)


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


def toned(image: Grey, random: Generator) -> FloatArray:
    """Give the grey scale another curve: rising, through random knots, laid over the straight one."""
    steps = random.dirichlet(np.full(KNOTS, 1.5))
    curve = np.interp(_GREYS, np.linspace(0, 1, KNOTS + 1), np.concatenate([[0.0], np.cumsum(steps)]))
    share = random.uniform(0.2, 0.8)
    table = (255.0 * (share * curve + (1.0 - share) * _GREYS)).astype(np.float32)
    return np.asarray(table[eight_bit(image)], dtype=np.float32)


def sharpened(image: FloatArray, random: Generator) -> FloatArray:
    """Add or take away the difference from a coarse copy, a third of the time: what stations call edge enhancement."""
    if random.random() >= 0.33:
        return image
    coarse = resized(resized(image, 64, 64), *image.shape)
    sharper = image + np.float32(random.uniform(*SHARPER)) * (image - coarse)
    return np.asarray(np.clip(sharper, 0, 255), dtype=np.float32)


def compressed(image: FloatArray, random: Generator) -> FloatArray:
    """Store the film as a lossy JPEG and read it again, a third of the time."""
    if random.random() >= 0.33:
        return image
    stored = io.BytesIO()
    Image.fromarray(eight_bit(image)).save(stored, "JPEG", quality=int(random.integers(*JPEG_QUALITY)))
    return np.asarray(Image.open(stored), dtype=np.float32)


def covered(image: FloatArray, random: Generator) -> FloatArray:
    """Cover strips at the edges and small patches with one grey, half the time: collimation, markers, words."""
    if random.random() >= 0.5:
        return image
    changed = image.copy()
    rows, columns = image.shape
    for edge in range(4):
        if random.random() < 0.35:
            grey = random.choice([0.0, 255.0 * random.random(), float(image.mean())])
            turned = np.rot90(changed, edge)  # a view: what is written there stands in `changed`
            turned[: int(random.uniform(0, BORDER) * len(turned))] = grey
    for _ in range(int(random.integers(0, 3))):
        height, width = (random.uniform(*PATCH, size=2) * (rows, columns)).astype(int)
        top, left = random.integers(0, rows - height), random.integers(0, columns - width)
        changed[top : top + height, left : left + width] = 255.0 * random.random()
    return changed


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
