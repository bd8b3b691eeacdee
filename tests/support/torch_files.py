"""Files as PyTorch before 1.6 wrote them, without PyTorch."""

import pickle
import struct
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAGIC = 0x1950A86A20F9469CFC6C
_NAMES = {"f": b"FloatStorage", "i": b"LongStorage"}


class _Global:
    """A name that a pickle asks for, without the module being there."""

    def __init__(self, module: str, name: str) -> None:
        self.line = f"c{module}\n{name}\n".encode()


class StatePickler(pickle._Pickler):
    """Writes storages as persistent ids and `_Global` as the name alone."""

    def persistent_id(self, obj: Any) -> Any:
        return obj[1:] if isinstance(obj, tuple) and obj and obj[0] == "persistent" else None

    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        if isinstance(obj, _Global):
            self.write(obj.line)
        elif isinstance(obj, StoredTensor):
            self.save(_Global("torch._utils", "_rebuild_tensor_v2"))
            self.save(obj.arguments)
            self.write(pickle.REDUCE)
        else:
            super().save(obj, save_persistent_id)


class StoredTensor:
    """An array as a state names it: its storage, shape and steps."""

    def __init__(self, key: str, array: NDArray[Any], strides: tuple[int, ...] | None) -> None:
        kind = _Global("torch", _NAMES[array.dtype.kind].decode())
        steps = strides or tuple(step // array.itemsize for step in array.strides)
        storage = ("persistent", "storage", kind, key, "cpu", array.size, None)
        self.arguments = (storage, 0, array.shape, steps, False, OrderedDict())


def write_state(
    path: Path, state: Mapping[str, NDArray[Any]], strides: Mapping[str, tuple[int, ...]] | None = None
) -> None:
    """Write a state of weights; an array that is a transposed view is stored as the view's base lies in memory."""
    keys = {name: str(1000 + index) for index, name in enumerate(state)}
    with path.open("wb") as stream:
        for part in (MAGIC, 1001, {"little_endian": True}):
            pickle.dump(part, stream, 2)
        tensors = OrderedDict(
            (name, StoredTensor(keys[name], a, (strides or {}).get(name))) for name, a in state.items()
        )
        StatePickler(stream, 2).dump(tensors)
        pickle.dump(sorted(keys.values()), stream, 2)
        for name in sorted(state, key=keys.__getitem__):
            array = state[name]
            stream.write(struct.pack("<q", array.size))
            order = np.argsort([-step for step in array.strides], kind="stable") if array.ndim else ()
            stream.write(np.ascontiguousarray(array.transpose(order) if array.ndim else array).tobytes())
