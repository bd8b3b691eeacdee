"""A package gets its ONNX file when that says the same; the model stays the one it was."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models import conversion
from models.card import load_card
from models.conversion import INPUTS, convert
from models.engines.onnx import OnnxEngine
from models.errors import ModelError, PackageError
from models.registry import CARD, Package, read_package, sha256_of

Make = Callable[..., Package]


def test_the_file_lies_beside_the_weights_and_the_card_names_it(make_package: Make, tiny_converted: Path) -> None:
    before, after = make_package(), read_package(tiny_converted)
    found = after.card.onnx
    assert found is not None
    assert found.sha256 == sha256_of(after.onnx)
    assert found.weights_sha256 == after.card.weights_sha256
    assert found.exporter.startswith("tf2onnx ")
    assert "keras" in found.exporter
    assert found.runtime.startswith("onnxruntime ")
    assert found.batch_invariant
    assert 0 <= found.difference < 1e-5
    after.verify_files()
    kept = after.card.model_copy(update={"onnx": None})
    assert kept == before.card, "nothing else of the card has changed"
    assert sha256_of(after.weights) == before.card.weights_sha256


def test_a_package_that_has_one_keeps_it_and_is_compared_again(
    make_converted: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = make_converted()
    assert package.card.onnx is not None
    believed = package.card.onnx.model_copy(update={"difference": 0.04, "batch_invariant": False})
    (package.path / CARD).write_text(package.card.model_copy(update={"onnx": believed}).to_json())
    monkeypatch.setattr(conversion, "export", lambda *_a: pytest.fail("it was exported again"))
    seen: list[tuple[int, int]] = []
    again = convert(read_package(package.path), watch=lambda done, total: seen.append((done, total))).card.onnx
    assert again == package.card.onnx
    assert read_package(package.path).card.onnx == again
    assert seen[-1] == (INPUTS + sum(range(2, 33)),) * 2


def test_what_says_something_else_is_not_installed(make_package: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the file nor a word of it in the card is left."""
    package = make_package()
    honest = OnnxEngine.outputs

    def off(self: OnnxEngine, batch: Any) -> Any:
        return honest(self, batch)[:, ::-1]

    monkeypatch.setattr(OnnxEngine, "outputs", off)
    before = (package.path / CARD).read_bytes()
    with pytest.raises(PackageError, match=r"other probabilities than Keras, by .* allows 0\.001"):
        convert(package)
    assert not package.onnx.exists()
    assert (package.path / CARD).read_bytes() == before


def test_bits_that_depend_on_the_batch_are_told(make_package: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = OnnxEngine.outputs

    def moody(self: OnnxEngine, batch: Any) -> Any:
        found = honest(self, batch)
        return np.nextafter(found, np.float32(1)) if len(batch) == 29 else found

    monkeypatch.setattr(OnnxEngine, "outputs", moody)
    found = convert(make_package(temperature=1.0, tolerance=0.05)).card.onnx
    assert found is not None
    assert not found.batch_invariant


@pytest.mark.parametrize("absent", ["onnxruntime", "onnx", "tf2onnx"])
def test_a_missing_library_is_named(make_package: Make, monkeypatch: pytest.MonkeyPatch, absent: str) -> None:
    monkeypatch.setattr(conversion, "missing", lambda *names: absent if absent in names else "")
    with pytest.raises(ModelError, match=rf"{absent} is not installed; install firstread\[onnx\]"):
        convert(make_package())


def test_a_folder_that_cannot_be_written_is_named(make_package: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    package = make_package()

    def full(*_arguments: Any, **_options: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(conversion, "_replace", full)
    with pytest.raises(ModelError, match="cannot be written: No space left on device"):
        convert(package)
    assert load_card(package.path / CARD).onnx is None
