"""A tiny real package: three convolutions' worth of Keras, made here once, copied for each test that changes it."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.backend import keras_arrays
from models.card import Card
from models.conversion import convert
from models.golden import golden_image, save_golden
from models.preprocessing import prepare
from models.registry import CARD, GOLDEN, WEIGHTS, Package, read_package, sha256_of
from models.temperature import tempered

LABELS: list[dict[str, Any]] = [
    {"name": "normal", "finding": False},
    {
        "name": "pneumonia",
        "finding": True,
        "code": {"scheme": "SCT", "value": "233604007", "meaning": "Pneumonia"},
        "threshold": 0.4,
        "triage": [{"at_least": 0.4, "priority": "routine"}, {"at_least": 0.85, "priority": "urgent"}],
    },
]


def card_values(**changes: Any) -> dict[str, Any]:
    """The fields of a small, valid card."""
    values: dict[str, Any] = {
        "name": "tiny",
        "version": "1.0.0",
        "title": "A tiny network",
        "input": {"rows": 32, "columns": 32, "channels": 1},
        "recipe": "chest_xray_triage",
        "frame_policy": "first",
        "output": "softmax",
        "labels": LABELS,
        "rollup": "max",
        "triage_rule": "the last step reached",
        "threshold_rule": "set by hand",
        "temperature": 1.5,
        "tolerance": 1e-3,
        "weights_sha256": "0" * 64,
        "golden_sha256": "0" * 64,
        "default_for": ["DX"],
        "intended_use": "tests",
        "not_for": ["patients"],
    }
    return values | changes


@pytest.fixture(scope="session")
def tiny_network() -> Any:
    from models.backend import load_backend

    keras, _ = load_backend()
    keras.utils.set_random_seed(3)
    image = keras.Input((32, 32, 1))
    x = keras.layers.Conv2D(4, 3, activation="relu", kernel_initializer="he_normal")(image)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(2, activation="softmax", kernel_initializer="he_normal")(x))


@pytest.fixture(scope="session")
def tiny_source(tiny_network: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packages") / "tiny" / "1.0.0"
    folder.mkdir(parents=True)
    with keras_arrays():
        tiny_network.save(folder / WEIGHTS)
    image = golden_image()
    prepared = prepare("chest_xray_triage", image.astype(np.float32), 32, 32, 1)
    raw = tiny_network(prepared[np.newaxis]).numpy()
    save_golden(folder / GOLDEN, image, tempered(raw, 1.5, "softmax")[0].astype(np.float32))
    digests = {"weights_sha256": sha256_of(folder / WEIGHTS), "golden_sha256": sha256_of(folder / GOLDEN)}
    (folder / CARD).write_text(Card.model_validate(card_values(**digests)).to_json())
    return folder


@pytest.fixture(scope="session")
def tiny_converted(tiny_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny package with its ONNX file."""
    folder = tmp_path_factory.mktemp("converted") / "tiny" / "1.0.0"
    shutil.copytree(tiny_source, folder)
    return convert(read_package(folder)).path


def copied(source: Path, root: Path, **changes: Any) -> Package:
    card = Card.model_validate_json((source / CARD).read_bytes())
    card = Card.model_validate(card.model_dump() | changes)
    folder = root / card.name / card.version
    shutil.copytree(source, folder)
    (folder / CARD).write_text(card.to_json())
    return read_package(folder)


@pytest.fixture
def make_package(tiny_source: Path, tmp_path: Path) -> Callable[..., Package]:
    """Copies of the tiny package, under any version, with any change to its card."""

    def make(root: Path = tmp_path / "models", **changes: Any) -> Package:
        return copied(tiny_source, root, **changes)

    return make


@pytest.fixture
def make_converted(tiny_converted: Path, tmp_path: Path) -> Callable[..., Package]:
    """Copies of the tiny package with its ONNX file."""

    def make(**changes: Any) -> Package:
        return copied(tiny_converted, tmp_path / "models", **changes)

    return make
