"""What a `.keras` archive may hold, looked at before Keras sees it.

The SHA-256 of the card says that a file is the one that was packed; it does not say that whoever packed it meant well.
A `.keras` archive can name Python objects, files and saved models to load (CVE-2025-1550, -8747, -9905, -9906,
CVE-2026-0897, -1669), so only layers and helpers from a list are let through, and the weights may not point outside.
"""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

from models.errors import PackageError

MEMBERS = frozenset({"metadata.json", "config.json", "model.weights.h5"})
MAX_CONFIG_BYTES = 16 << 20
MAX_WEIGHTS_BYTES = 4 << 30
MAX_RATIO = 200

MODULES = frozenset({
    "keras", "keras.layers", "keras.models", "keras.initializers", "keras.regularizers", "keras.constraints",
    "keras.src.models.functional", "keras.src.models.sequential", "builtins",
})  # fmt: skip

CLASSES = frozenset({
    "Functional", "Sequential", "InputLayer", "DTypePolicy", "__tensor__", "__keras_tensor__",
    "Conv2D", "DepthwiseConv2D", "SeparableConv2D", "Dense", "Flatten", "Reshape", "Permute", "ZeroPadding2D",
    "Cropping2D", "MaxPooling2D", "AveragePooling2D", "GlobalAveragePooling2D", "GlobalMaxPooling2D",
    "Activation", "ReLU", "LeakyReLU", "Softmax", "Dropout", "SpatialDropout2D", "GaussianNoise",
    "BatchNormalization", "LayerNormalization", "GroupNormalization", "UnitNormalization",
    "Add", "Subtract", "Multiply", "Average", "Maximum", "Concatenate", "Rescaling", "Resizing", "Normalization",
    "Zeros", "Ones", "Constant", "RandomNormal", "RandomUniform", "TruncatedNormal", "VarianceScaling",
    "GlorotNormal", "GlorotUniform", "HeNormal", "HeUniform", "LecunNormal", "LecunUniform", "Orthogonal",
    "L1", "L2", "L1L2", "MaxNorm", "NonNeg", "UnitNorm",
})  # fmt: skip
"""Classes a shipped or added network may be made of: none of them runs code, or opens a file, of its own."""


def check_archive(path: Path) -> None:
    """Refuse a `.keras` archive that holds anything but plain layers and their weights.

    Raises
    ------
    PackageError
        Naming what is in the archive and may not be.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(path, archive)
            config = json.loads(archive.read("config.json"))
            _check_weights(path, archive)
    except (OSError, zipfile.BadZipFile, json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise PackageError(f"{path}: this is no .keras archive that can be read: {error}") from None
    _check_config(path, config)


def _check_members(path: Path, archive: zipfile.ZipFile) -> None:
    names = [member.filename for member in archive.infolist()]
    if len(set(names)) != len(names) or set(names) != MEMBERS:
        raise PackageError(f"{path}: holds {', '.join(sorted(names))}; a network holds {', '.join(sorted(MEMBERS))}")
    for member in archive.infolist():
        limit = MAX_WEIGHTS_BYTES if member.filename == "model.weights.h5" else MAX_CONFIG_BYTES
        if member.file_size > limit or member.file_size > max(member.compress_size, 1024) * MAX_RATIO:
            raise PackageError(f"{path}: {member.filename} would unpack to {member.file_size} bytes")


def _check_config(path: Path, config: Any) -> None:
    """Walk the whole configuration: every named class is on the list, nothing is a function or a module of its own."""
    waiting = [config]
    while waiting:
        item = waiting.pop()
        if isinstance(item, list):
            waiting.extend(item)
        if not isinstance(item, dict):
            continue
        waiting.extend(item.values())
        if "class_name" not in item:
            continue
        name = str(item["class_name"])
        module = str(item.get("module") or "keras")
        if name not in CLASSES or module not in MODULES:
            raise PackageError(f"{path}: names {module}.{name}, which is not among the layers let through")
        if item.get("registered_name") not in {None, name}:
            raise PackageError(f"{path}: {name} registers itself as {item['registered_name']!r}")


def _check_weights(path: Path, archive: zipfile.ZipFile) -> None:
    """Refuse links and external storage in the HDF5 file: they read other files of this machine."""
    import h5py

    with h5py.File(io.BytesIO(archive.read("model.weights.h5")), "r") as file:
        waiting = [file]
        seen: set[Any] = set()
        while waiting:
            group = waiting.pop()
            for name in group:
                link = group.get(name, getlink=True)
                if not isinstance(link, h5py.HardLink):
                    raise PackageError(f"{path}: the weight {group.name}/{name} is a link")
                item = group[name]
                if isinstance(item, h5py.Group):
                    address = h5py.h5o.get_info(item.id).addr
                    if address not in seen:
                        seen.add(address)
                        waiting.append(item)
                elif item.external or item.is_virtual:
                    raise PackageError(f"{path}: the weight {item.name} lies in another file")
