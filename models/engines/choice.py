"""Which engine a package runs on here, and why; found out without importing any of them where that can be."""

import os
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from models.errors import ModelError
from models.registry import Package

ENGINES = ("auto", "keras", "onnx")
REMEDY = "install firstread[onnx]"


@dataclass(frozen=True)
class Choice:
    """An engine, and why it is that one, in words."""

    engine: str
    why: str


def choose(package: Package, wanted: str = "auto") -> Choice:
    """Choose the engine of a package.

    `auto` is ONNX Runtime on a CPU, where it is installed and the card says that the package was verified with it:
    within the tolerance of Keras, and the same to the bit in batches of any size. Else it is Keras.

    Parameters
    ----------
    wanted
        `auto`, `keras` or `onnx`.

    Raises
    ------
    ModelError
        If `onnx` is wanted and cannot be had, or the engine is unknown.
    """
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
