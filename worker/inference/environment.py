"""What a prediction was made with, in a few words: enough to say, years later, why it comes out differently."""

import platform
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.preprocessing import VERSIONS
from worker.inference.grayscale import RENDERING_VERSION

if TYPE_CHECKING:
    from models.card import Card

DISTRIBUTIONS = (
    "firstread", "keras", "tensorflow", "tensorflow-cpu", "onnxruntime", "numpy", "pillow", "pydicom", "pylibjpeg",
    "pylibjpeg-libjpeg", "pylibjpeg-openjpeg", "pylibjpeg-rle", "pyjpegls",
)  # fmt: skip
"""What has a part in a probability, from the decoder to the network."""

WITHOUT = {"onnx": frozenset({"keras", "tensorflow", "tensorflow-cpu"})}
"""What has none by an engine; by any other, ONNX Runtime has none."""

INSTRUCTIONS = frozenset({"avx", "avx2", "fma", "avx512f", "avx512_vnni", "amx_tile", "asimd", "sve"})
"""What of a processor decides in which order numbers are added up."""


def environment(card: "Card", engine: str) -> dict[str, Any]:
    """Return, as JSON, what a prediction by this model is made with here and now.

    Returns
    -------
    dict
        Versions of the recipe and of the rendering before it, the card's tolerance and golden pair, the processor, the
        libraries, and, where ONNX Runtime computes, the SHA-256 of the ONNX file.
    """
    without = WITHOUT.get(engine, {"onnxruntime"})
    made_with = {
        "recipe_version": VERSIONS[card.recipe],
        "rendering_version": RENDERING_VERSION,
        "tolerance": card.tolerance,
        "golden_sha256": card.golden_sha256,
        "processor": processor(),
        "libraries": {name: found for name, found in libraries().items() if name not in without},
    }
    if engine == "onnx" and card.onnx is not None:
        made_with["onnx_sha256"] = card.onnx.sha256
    return made_with


@cache
def processor() -> str:
    """Return the name of this machine's processor, and its instructions that matter."""
    facts: dict[str, str] = {}
    with suppress(OSError), Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            name, _, value = line.partition(":")
            facts.setdefault(name.strip(), value.strip())
    flags = set((facts.get("flags") or facts.get("Features") or "").split())
    return " ".join([facts.get("model name") or platform.machine(), *sorted(INSTRUCTIONS & flags)])


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
