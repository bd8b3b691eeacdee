"""Which engine a package runs on here, and why; found out without importing any of them where that can be."""

import os
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from models.errors import ModelError
from models.registry import Package

ENGINES = ("auto", "keras", "onnx")
MIXED = "keras-mixed"
"""Keras in mixed precision: what is multiplied is float16, what is kept and added up float32."""
REMEDY = "install firstread[onnx]"


@dataclass(frozen=True)
class Choice:
    """An engine, and why it is that one, in words.

    Attributes
    ----------
    refused
        Why mixed precision, which is asked for, is not used; empty where it is, or nobody asked.
    """

    engine: str
    why: str
    refused: str = ""


def choose(package: Package, wanted: str = "auto", precision: str = "float32") -> Choice:
    """Choose the engine of a package.

    `auto` is ONNX Runtime on a CPU, where it is installed and the card says that the package was verified with it:
    within the tolerance of Keras, and the same to the bit in batches of any size. Else it is Keras. In mixed precision
    Keras computes where that is asked for, there is a GPU and the card says that it was compared on one; else in
    float32, the reference: slower, and never wrong.

    Parameters
    ----------
    wanted
        `auto`, `keras` or `onnx`; or `keras-mixed`, as a prediction records it, where it is that or nothing.
    precision
        `float32` or `mixed`.

    Raises
    ------
    ModelError
        If `onnx` or `keras-mixed` is wanted and cannot be had, or the engine is unknown.
    """
    if wanted == MIXED:
        if why_not := _why_not_mixed(package):
            raise ModelError(f"engine {MIXED}: {why_not}")
        return Choice(MIXED, "it is asked for")
    choice = _choose(package, wanted)
    if precision != "mixed":
        return choice
    why_not = _why_not_mixed(package) if choice.engine == "keras" else f"{choice.engine} computes in float32 alone"
    if why_not:
        return Choice(choice.engine, choice.why, why_not)
    difference = package.card.mixed_precision.difference if package.card.mixed_precision else 0.0
    return Choice(MIXED, f"{choice.why}; mixed precision within {difference:.1g} of float32")


def _choose(package: Package, wanted: str) -> Choice:
    if wanted not in ENGINES:
        raise ModelError(f"engine {wanted!r} is not here; there are: {', '.join(ENGINES)}")
    if wanted == "onnx":
        _require_onnx(package)
    if wanted != "auto":
        return Choice(wanted, "it is what FIRSTREAD_ENGINE asks for")
    why_not = _why_not_onnx(package)
    if why_not or package.card.onnx is None:
        return Choice("keras", why_not)
    difference = package.card.onnx.difference
    return Choice("onnx", f"verified: within {difference:.1g} of Keras, the same bits in batches of any size")


def can_run(package: Package, engine: str) -> bool:
    """Say whether an engine is here, and has what it needs of a package."""
    if engine == "onnx":
        return package.card.onnx is not None and not missing("onnxruntime", "onnx")
    if engine == MIXED:
        return not _why_not_mixed(package)
    return engine == "keras" and not missing("tensorflow")


def _require_onnx(package: Package) -> None:
    name = package.card.identifier
    if absent := missing("onnxruntime", "onnx"):
        raise ModelError(f"engine onnx: {absent} is not installed; {REMEDY}, or set FIRSTREAD_ENGINE=auto")
    if package.card.onnx is None:
        raise ModelError(
            f"engine onnx: {name} has no ONNX file; `firstread models convert {name}` makes one, or set"
            " FIRSTREAD_ENGINE=auto"
        )


def _why_not_onnx(package: Package) -> str:
    """Say what speaks for Keras; empty where nothing does, or there is nothing but ONNX Runtime."""
    found = package.card.onnx
    if found is None:
        return f"the package has no ONNX file (`firstread models convert {package.card.identifier}`)"
    if absent := missing("onnxruntime", "onnx"):
        return f"{absent} is not installed ({REMEDY})"
    if missing("tensorflow"):
        return ""
    if not found.batch_invariant:
        return "its ONNX file does not give the same bits in batches of every size"
    return "there is a GPU" if sees_gpu() else ""


def _why_not_mixed(package: Package) -> str:
    """Say what speaks against mixed precision; empty where nothing does."""
    found, name = package.card.mixed_precision, package.card.identifier
    if found is None:
        return f"its card does not allow mixed precision (`firstread models convert {name} --mixed-precision`)"
    if found.device != "gpu":
        return f"mixed precision was compared on no GPU (`firstread models convert {name} --mixed-precision` on one)"
    if missing("tensorflow"):
        return "tensorflow is not installed"
    return "" if sees_gpu() else "mixed precision is for a GPU, and there is none here"


def missing(*modules: str) -> str:
    """Name the first module that is not installed; empty where all are. None is imported."""
    return next((name for name in modules if find_spec(name) is None), "")


def gpus(devices: Path = Path("/dev")) -> tuple[str, ...]:
    """Return the NVIDIA devices that this process may use, as CUDA_VISIBLE_DEVICES names them.

    Returns
    -------
    tuple of str
        Those that CUDA_VISIBLE_DEVICES names, where it is set, else the numbers of the device files.
    """
    numbers = sorted((path.name.removeprefix("nvidia") for path in devices.glob("nvidia[0-9]*")), key=int)
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None or not numbers:
        return tuple(numbers)
    listed = [part.strip() for part in named.split(",")]
    end = next((i for i, part in enumerate(listed) if part in {"", "-1"}), len(listed))  # CUDA reads no further
    return tuple(listed[:end])


def usable_gpus() -> tuple[str, ...]:
    """Return the devices that TensorFlow may compute on; none where it was built for processors alone."""
    try:
        version("tensorflow")
    except PackageNotFoundError:  # tensorflow-cpu
        return ()
    return gpus()


def sees_gpu() -> bool:
    """Whether TensorFlow would compute on a GPU; it is asked only where there is one and it was built for it."""
    if not usable_gpus():
        return False
    from models.backend import load_backend

    return bool(load_backend()[1].config.list_physical_devices("GPU"))
