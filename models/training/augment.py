"""Augmentation: what a station, a positioning or a conversion may change about a film without changing what it shows.

It works on the image itself, before the preprocessing recipe of the network, so that training runs through exactly the
code that serves.
"""

import numpy as np
from numpy.random import Generator
from PIL import Image

from models.preprocessing import FloatArray, resized

TURN_DEGREES = 8.0
SHIFT = 0.06
ZOOM = (0.85, 1.12)
GAMMA = (0.7, 1.45)
SMALLEST_SIDE = 160
NOISE = 6.0


def augmented(image: FloatArray, random: Generator) -> FloatArray:
    """Change an image at random.

    It is mirrored (half the time), turned by up to 8 degrees, shifted by up to 6 % and zoomed by 0.85 to 1.12; its
    grey scale is bent (gamma 0.7 to 1.45); half the time it is reduced to a lower resolution, half the time it gets
    noise of up to 6 grey values: by resolution, grey scale and noise one hospital's films are told from another's.

    Parameters
    ----------
    image
        float32 (rows, columns), 0 to 255.
    random
        Source of chance; the same state gives the same image.

    Returns
    -------
    FloatArray
        float32, 0 to 255; rows and columns may be fewer.
    """
    changed = moved(image, random)
    if random.random() < 0.5:
        changed = changed[:, ::-1]
    changed = np.asarray(255.0 * (np.clip(changed, 0, 255) / 255.0) ** random.uniform(*GAMMA), dtype=np.float32)
    longest = max(changed.shape)
    if random.random() < 0.5 and longest > SMALLEST_SIDE:
        share = random.uniform(SMALLEST_SIDE / longest, 1.0)
        changed = resized(changed, *(max(1, round(side * share)) for side in changed.shape))
    if random.random() < 0.5:
        changed = changed + random.standard_normal(changed.shape, np.float32) * np.float32(random.uniform(0.0, NOISE))
    return np.clip(changed, 0, 255).astype(np.float32)


def moved(image: FloatArray, random: Generator) -> FloatArray:
    """Turn, shift and zoom at random about the centre; black where nothing was."""
    rows, columns = image.shape
    angle = np.deg2rad(random.uniform(-TURN_DEGREES, TURN_DEGREES))
    zoom = random.uniform(*ZOOM)
    shift_x, shift_y = random.uniform(-SHIFT, SHIFT, 2) * (columns, rows)
    cosine, sine = np.cos(angle) / zoom, np.sin(angle) / zoom
    centre_x, centre_y = columns / 2, rows / 2
    # Pillow wants the inverse: for a pixel of the result, where in the source it comes from.
    matrix = (
        cosine, sine, centre_x - cosine * (centre_x + shift_x) - sine * (centre_y + shift_y),
        -sine, cosine, centre_y + sine * (centre_x + shift_x) - cosine * (centre_y + shift_y),
    )  # fmt: skip
    picture = Image.fromarray(np.ascontiguousarray(image, dtype=np.float32))
    turned = picture.transform((columns, rows), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    return np.asarray(turned, dtype=np.float32)
