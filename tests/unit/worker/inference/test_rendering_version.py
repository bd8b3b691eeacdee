"""A rendering that gives other values has another version: it stands in every prediction and is replayed."""

from typing import Any

import numpy as np

from tests.support.images import image
from worker.inference.grayscale import RENDERING_VERSION

KNOWN = (1, [[0.0, 45.32, 127.71, 255.0], [0.0, 63.75, 127.5, 191.25], [255.0, 127.5, 85.0, 0.0]])
"""The version, and what it makes of a window, of a slice in a model's window, and of a film without a window."""


def test_a_rendering_is_what_its_version_says(show: Any) -> None:
    from models.card import Window

    windowed = show(image(np.array([[0, 300, 500, 900]], np.uint16), WindowCenter=500, WindowWidth=620))
    hounsfield = np.array([[-1350, -975, -600, -225]], np.int16)
    stated = {"Modality": "CT", "RescaleSlope": 1, "RescaleIntercept": 0}
    lung = show(image(hounsfield, **stated), window=Window(centre=-600, width=1500))
    plain = show(image(np.array([[10, 40, 50, 70]], np.uint16), bits=12, PhotometricInterpretation="MONOCHROME1"))
    made = [[round(float(one), 2) for one in frame.image[0]] for frame in (windowed, lung, plain)]
    assert made == KNOWN[1], "raise RENDERING_VERSION, then write it down here"
    assert KNOWN[0] == RENDERING_VERSION
