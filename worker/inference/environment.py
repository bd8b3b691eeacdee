"""What a prediction was made with, in a few words: enough to say, years later, why it comes out differently."""

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from models.preprocessing import VERSIONS
from worker.inference.grayscale import RENDERING_VERSION

if TYPE_CHECKING:
    from models.card import Card

DISTRIBUTIONS = (
    "firstread", "keras", "tensorflow", "tensorflow-cpu", "numpy", "pillow", "pydicom", "pylibjpeg",
    "pylibjpeg-libjpeg", "pylibjpeg-openjpeg", "pylibjpeg-rle", "pyjpegls",
)  # fmt: skip
"""What has a part in a probability, from the decoder to the network."""


def environment(card: "Card") -> dict[str, Any]:
    """Return, as JSON, what a prediction by this model is made with here and now.

    Returns
    -------
    dict
        Versions of the recipe and of the rendering before it, the card's tolerance and golden pair, and the libraries.
    """
    return {
        "recipe_version": VERSIONS[card.recipe],
        "rendering_version": RENDERING_VERSION,
        "tolerance": card.tolerance,
        "golden_sha256": card.golden_sha256,
        "libraries": dict(libraries()),
    }


@cache
def libraries() -> dict[str, str]:
    """Return the versions of Python and of the libraries that are installed."""
    found = {"python": platform.python_version()}
    for name in DISTRIBUTIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # of the two TensorFlows one is installed
            continue
    return found
