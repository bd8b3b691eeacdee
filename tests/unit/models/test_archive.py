"""A `.keras` archive that would run code or read other files is refused before Keras opens it."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import pytest

from models.archive import check_archive
from models.errors import PackageError


@pytest.fixture
def altered(tiny_source: Path, tmp_path: Path) -> Callable[..., Path]:
    """The tiny network's archive with members changed, added or left out."""

    def alter(change: Callable[[dict[str, bytes]], None]) -> Path:
        with zipfile.ZipFile(tiny_source / "model.keras") as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        change(members)
        path = tmp_path / "altered.keras"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        return path

    return alter


def edit_config(edit: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, bytes]], None]:
    def change(members: dict[str, bytes]) -> None:
        config = json.loads(members["config.json"])
        edit(config)
        members["config.json"] = json.dumps(config).encode()

    return change


def test_plain_layers_pass(tiny_source: Path) -> None:
    check_archive(tiny_source / "model.keras")


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ({"module": "keras.layers", "class_name": "Lambda"}, "Lambda"),
        ({"module": "keras.layers", "class_name": "TFSMLayer"}, "TFSMLayer"),
        ({"module": "builtins", "class_name": "function", "config": "eval"}, "function"),
        ({"module": "os", "class_name": "Dense"}, r"os\.Dense"),
        ({"module": "keras.layers", "class_name": "Dense", "registered_name": "mine>Dense"}, "mine>Dense"),
        ({"module": ["keras.layers"], "class_name": ["Dense"]}, "not among"),
    ],
)
def test_anything_else_is_named(altered: Callable[..., Path], layer: dict[str, Any], words: str) -> None:
    def edit(config: dict[str, Any]) -> None:
        config["config"]["layers"][1]["config"]["kernel_initializer"] = layer

    with pytest.raises(PackageError, match=words):
        check_archive(altered(edit_config(edit)))


def test_a_custom_object_deep_inside_is_found(altered: Callable[..., Path]) -> None:
    def edit(config: dict[str, Any]) -> None:
        config["build_config"] = {"a": [{"b": [[{"class_name": "Evil", "module": "evil"}]]}]}

    with pytest.raises(PackageError, match="Evil"):
        check_archive(altered(edit_config(edit)))


def test_other_members_are_refused(altered: Callable[..., Path]) -> None:
    with pytest.raises(PackageError, match=r"assets/x"):
        check_archive(altered(lambda members: members.update({"assets/x": b"1"})))
    with pytest.raises(PackageError, match="holds config"):
        check_archive(altered(lambda members: members.pop("metadata.json") and None))


def test_a_zip_bomb_is_refused(altered: Callable[..., Path]) -> None:
    with pytest.raises(PackageError, match="would unpack to"):
        check_archive(altered(lambda members: members.update({"metadata.json": b" " * 8_000_000})))


@pytest.mark.parametrize("kind", ["external link", "soft link", "external storage"])
def test_weights_that_point_elsewhere_are_refused(altered: Callable[..., Path], tmp_path: Path, kind: str) -> None:
    def change(members: dict[str, bytes]) -> None:
        stream = io.BytesIO(members["model.weights.h5"])
        with h5py.File(stream, "a") as file:
            if kind == "external link":
                file["secret"] = h5py.ExternalLink("/etc/passwd", "/")
            elif kind == "soft link":
                file["secret"] = h5py.SoftLink("/layers")
            else:
                file.create_dataset("secret", (4,), "u1", external=[(str(tmp_path / "secret"), 0, 4)])
        members["model.weights.h5"] = stream.getvalue()

    with pytest.raises(PackageError, match=r"is a link|in another file"):
        check_archive(altered(change))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x89HDF\r\n\x1a\n"])
def test_what_is_no_archive(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.keras").write_bytes(content)
    with pytest.raises(PackageError, match=r"no \.keras archive"):
        check_archive(tmp_path / "model.keras")


def test_damaged_json_or_weights_are_refused(altered: Callable[..., Path]) -> None:
    for name in ("config.json", "model.weights.h5"):
        with pytest.raises(PackageError, match=r"no \.keras archive"):
            check_archive(altered(lambda members, name=name: members.update({name: b"{"})))  # type: ignore[misc]
