"""The weights of a PyTorch network, read without PyTorch and without running anything that a file says.

What `torch.save` of versions before 1.6 wrote: five pickles (a magic number, the protocol, the machine, the state, the
names of the storages), then each storage as a count and its raw values. A pickle can call anything; the reader knows
three names and refuses every other.
"""

import math
import os
import pickle
import struct
from collections import OrderedDict
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.errors import RecipeError

MAGIC = 0x1950A86A20F9469CFC6C

DTYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}
"""Storages that a state of weights consists of."""

WANTED = "wanted is what `torch.save(network.state_dict(), path, _use_new_zipfile_serialization=False)` writes"

OTHER_KINDS = {
    b"PK\x03\x04": "a zip archive, as PyTorch from 1.6 on and Keras from 3 on write them",
    b"\x89HDF\r\n\x1a\n": "an HDF5 file, as Keras writes them",
}
"""First bytes of files of weights that are taken for the one wanted."""


class _Storage(NamedTuple):
    key: str
    dtype: np.dtype[Any]


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


def _tensor(
    storage: _Storage, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_others: object
) -> _Tensor:
    return _Tensor(storage, offset, shape, stride)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, *_others = pid
        if kind != "storage":
            raise pickle.UnpicklingError(f"it holds a {kind}")
        return _Storage(key, dtype)


def read_state(path: Path) -> dict[str, NDArray[Any]]:
    """Read the named arrays of a file that `torch.save(network.state_dict())` wrote.

    Returns
    -------
    dict
        Name to float32 or int64 array, contiguous.

    Raises
    ------
    RecipeError
        If the file is missing, is no such file, or asks for anything but arrays.
    """
    try:
        with path.open("rb") as stream:
            _need_magic(stream)
            _Unpickler(stream).load()  # the protocol
            _Unpickler(stream).load()  # the machine it was written on
            state = _Unpickler(stream).load()
            dtypes = {tensor.storage.key: tensor.storage.dtype for tensor in state.values()}
            storages = {key: _values(stream, dtypes[key]) for key in _Unpickler(stream).load()}
            return {name: _array(storages[tensor.storage.key], tensor) for name, tensor in state.items()}
    except FileNotFoundError:
        raise RecipeError(
            f"{path}: there is no such file (--backbone-weights takes a file's path, imagenet or none)"
        ) from None
    except (OSError, EOFError, pickle.UnpicklingError, struct.error) as error:
        raise RecipeError(f"{path}: this is no state of a PyTorch network: {error}") from None
    except MemoryError:
        raise RecipeError(
            f"{path}: this is no state of a PyTorch network: it asks for more memory than there is"
        ) from None
    except (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError) as error:  # a damaged pickle
        raise RecipeError(f"{path}: the state of a PyTorch network in it is damaged: {error}") from None


def _need_magic(stream: IO[bytes]) -> None:
    """Read the first pickle; raise if it begins no such file, and say what the file is where that can be told."""
    start = stream.read(8)
    stream.seek(0)
    for first, kind in OTHER_KINDS.items():
        if start.startswith(first):
            raise pickle.UnpicklingError(f"it is {kind}; {WANTED}")
    if _Unpickler(stream).load() != MAGIC:
        raise pickle.UnpicklingError(WANTED)


def _values(stream: IO[bytes], dtype: np.dtype[Any]) -> NDArray[Any]:
    (count,) = struct.unpack("<q", stream.read(8))
    left = os.fstat(stream.fileno()).st_size - stream.tell()
    if count < 0 or count * dtype.itemsize > left:  # before anything is set aside for it
        raise EOFError("it ends too early")
    return np.frombuffer(stream.read(count * dtype.itemsize), dtype)


def _array(storage: NDArray[Any], tensor: _Tensor) -> NDArray[Any]:
    """Lay a tensor's shape and strides (in elements) over its storage, within its bounds."""
    reach = tensor.offset + sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride, strict=True))
    if tensor.offset < 0 or min((*tensor.shape, *tensor.stride), default=1) < 0 or reach >= storage.size:
        raise ValueError("a tensor reaches beyond its storage")
    if math.prod(tensor.shape) > storage.size:  # steps of zero would make terabytes of a single value
        raise ValueError("a tensor is larger than its storage")
    strides = [step * storage.itemsize for step in tensor.stride]
    return np.lib.stride_tricks.as_strided(storage[tensor.offset :], tensor.shape, strides).copy()
