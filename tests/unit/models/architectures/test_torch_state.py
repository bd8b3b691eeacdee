"""Weights of a PyTorch file are read as arrays, and nothing that the file asks for is run."""

import os
import pickle
import re
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.architectures.torch_state import MAGIC, read_state
from models.errors import RecipeError
from tests.support.torch_files import StatePickler, StoredTensor, write_state


@pytest.fixture
def state() -> dict[str, NDArray[Any]]:
    random = np.random.default_rng(1)
    return {
        "conv.weight": random.normal(size=(4, 3, 2, 5)).astype(np.float32),
        "bn.running_mean": random.normal(size=7).astype(np.float32),
        "bn.num_batches_tracked": np.asarray(12, np.int64),
    }


def test_every_array_comes_back(state: dict[str, NDArray[Any]], tmp_path: Path) -> None:
    write_state(tmp_path / "state.pth", state)
    found = read_state(tmp_path / "state.pth")
    assert list(found) == list(state)
    for name, array in state.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_an_array_that_was_stored_transposed_comes_back_as_it_was(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4).transpose(2, 0, 1)
    write_state(tmp_path / "state.pth", {"weight": array})
    np.testing.assert_array_equal(read_state(tmp_path / "state.pth")["weight"], array)


class Call:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("ran",)


def test_nothing_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    content = b"".join(pickle.dumps(part, 2) for part in (MAGIC, 1001, {}, OrderedDict(weight=Call())))
    (tmp_path / "state.pth").write_bytes(content)
    with pytest.raises(RecipeError, match=r"asks for (posix|nt)\.mkdir"):
        read_state(tmp_path / "state.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", pickle.dumps(5, 2), b"\x80\x02}q\x00."])
def test_another_file_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "state.pth").write_bytes(content)
    with pytest.raises(RecipeError, match="no state of a PyTorch network"):
        read_state(tmp_path / "state.pth")


def test_a_cut_file_is_refused(state: dict[str, NDArray[Any]], tmp_path: Path) -> None:
    path = tmp_path / "state.pth"
    write_state(path, state)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(RecipeError, match="ends too early"):
        read_state(path)


def test_a_tensor_stays_within_its_storage(tmp_path: Path) -> None:
    path = tmp_path / "state.pth"
    write_state(path, {"weight": np.zeros((2, 3), np.float32)}, strides={"weight": (3, 400)})
    with pytest.raises(RecipeError, match="beyond its storage"):
        read_state(path)


def test_a_single_value_does_not_become_terabytes(tmp_path: Path) -> None:
    path = tmp_path / "state.pth"
    big = np.lib.stride_tricks.as_strided(np.zeros(1, np.float32), (2**20, 2**20), (0, 0))
    content = [MAGIC, 1001, {"little_endian": True}]
    with path.open("wb") as stream:
        for part in content:
            pickle.dump(part, stream, 2)
        StatePickler(stream, 2).dump(OrderedDict(weight=StoredTensor("1", big, (0, 0))))
        pickle.dump(["1"], stream, 2)
        stream.write(struct.pack("<q", 1) + bytes(4))
    with pytest.raises(RecipeError, match="larger than its storage"):
        read_state(path)


@pytest.mark.parametrize("count", [2**61, 2**40, 2**63 - 1])
def test_more_values_than_the_file_has_bytes_are_not_made_room_for(count: int, tmp_path: Path) -> None:
    path = tmp_path / "state.pth"
    write_state(path, {"weight": np.zeros(3, np.float32)})
    content = path.read_bytes()
    path.write_bytes(content[:-20] + struct.pack("<q", count) + content[-12:])
    with pytest.raises(RecipeError, match="ends too early"):
        read_state(path)


@pytest.mark.parametrize("length", [2**62, 2**63, 2**64 - 1])
def test_a_length_that_no_memory_has_is_refused(length: int, tmp_path: Path) -> None:
    path = tmp_path / "state.pth"
    path.write_bytes(b"\x80\x04\x8e" + struct.pack("<Q", length))
    with pytest.raises(RecipeError, match=re.escape(str(path))):
        read_state(path)


@pytest.mark.parametrize(
    ("start", "kind"), [(b"PK\x03\x04", "PyTorch from 1.6 on"), (b"\x89HDF\r\n\x1a\n", "an HDF5 file")]
)
def test_another_kind_of_weights_is_named_and_the_wanted_one_too(start: bytes, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "state.pth"
    path.write_bytes(start + bytes(100))
    with pytest.raises(RecipeError, match=rf"{kind}.*_use_new_zipfile_serialization=False"):
        read_state(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"nothing\.pth: there is no such file"):
        read_state(tmp_path / "nothing.pth")
