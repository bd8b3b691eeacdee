"""Anybody's Keras model becomes a package, or a sentence says which field of its card is wrong."""

import json
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.backend import keras_arrays, load_backend
from models.classifier import Classifier
from models.errors import ModelError, PackageError, RecipeError
from models.golden import golden_image, golden_slice, load_golden
from models.own import TODO, pack_network
from models.registry import Registry, read_package, sha256_of
from models.template import card_template
from tests.unit.models.conftest import LABELS, card_values

CT_LABELS = [
    {"name": "non-covid", "finding": False},
    LABELS[1] | {"name": "covid", "code": {"scheme": "SCT", "value": "840539006", "meaning": "COVID-19"}},
]


@pytest.fixture
def network(tiny_network: Any, tmp_path: Path) -> Path:
    with keras_arrays():
        tiny_network.save(tmp_path / "network.keras")
    return tmp_path / "network.keras"


@pytest.fixture
def card(tmp_path: Path) -> Callable[..., Path]:
    def write(**changes: Any) -> Path:
        values = card_values(**changes)
        for name in ("weights_sha256", "golden_sha256"):
            if name not in changes:
                del values[name]
        (tmp_path / "my card.json").write_text(json.dumps(values))
        return tmp_path / "my card.json"

    return write


def test_a_network_and_a_card_become_a_package_that_can_be_added(
    network: Path, card: Callable[..., Path], tmp_path: Path
) -> None:
    package = pack_network(network, card(), tmp_path / "out")
    assert package.path == tmp_path / "out" / "tiny" / "1.0.0"
    assert sorted(path.name for path in package.path.iterdir()) == ["card.json", "golden.npz", "model.keras"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["tiny"]
    assert package.weights.read_bytes() == network.read_bytes()
    assert package.card.weights_sha256 == sha256_of(network)
    image, expected = load_golden(package.golden, 2)
    assert np.array_equal(image, golden_image())
    assert expected.sum() == pytest.approx(1)
    assert Classifier.load(read_package(package.path)).warm_up().difference == 0
    assert Registry(tmp_path / "out").find("tiny").card == package.card


def test_a_package_for_ct_carries_a_slice(network: Path, card: Callable[..., Path], tmp_path: Path) -> None:
    package = pack_network(network, card(default_for=["CT"], labels=CT_LABELS), tmp_path / "out")
    assert np.array_equal(load_golden(package.golden, 2)[0], golden_slice())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"input": {"rows": 64, "columns": 32, "channels": 1}}, r"network\.keras: .*\(None, 32, 32, 1\).*field input"),
        ({"output": "binary"}, "fields output and labels"),
        ({"version": "one"}, r"my card\.json: version: "),
        ({"recipe": "magic"}, r"my card\.json: recipe: there is no preprocessing recipe"),
        ({"colour": "red"}, r"my card\.json: colour: "),
        ({"intended_use": f"{TODO}: for whom"}, r"my card\.json: intended_use: it is still to be written"),
        ({"not_for": ["children", TODO]}, r"not_for\.1: it is still to be written"),
        ({"labels": [LABELS[1] | {"threshold": 2}, LABELS[0]]}, r"labels\.0\.threshold: "),
        ({"weights_sha256": "1" * 64}, r"weights_sha256: 1+ is not that of the file, [0-9a-f]{64}; leave"),
        ({"golden_sha256": "1" * 64}, "golden_sha256: 1+ is not that of the file"),
    ],
)
def test_what_is_wrong_is_named_by_its_field_and_nothing_is_left(
    network: Path, card: Callable[..., Path], tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(PackageError, match=words) as raised:
        pack_network(network, card(**changes), tmp_path / "out")
    assert ".adding" not in str(raised.value)
    assert not (tmp_path / "out").exists() or list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("field", ["name", "labels", "intended_use", "tolerance"])
def test_a_missing_field_is_named(network: Path, card: Callable[..., Path], tmp_path: Path, field: str) -> None:
    path = card()
    path.write_text(json.dumps({key: value for key, value in json.loads(path.read_bytes()).items() if key != field}))
    with pytest.raises(PackageError, match=rf"my card\.json: {field}: Field required"):
        pack_network(network, path, tmp_path / "out")


def saved(layers: list[Any], path: Path) -> Path:
    keras, _ = load_backend()
    with keras_arrays():
        keras.Sequential([keras.Input((32, 32, 1)), keras.layers.Flatten(), *layers]).save(path)
    return path


def test_what_gives_no_probabilities_is_refused(card: Callable[..., Path], tmp_path: Path) -> None:
    layers = load_backend()[0].layers
    with pytest.raises(PackageError, match=r"values from .* field output"):
        pack_network(saved([layers.Dense(2)], tmp_path / "linear.keras"), card(), tmp_path / "out")
    two = saved([layers.Dense(2, activation="sigmoid")], tmp_path / "sigmoid.keras")
    with pytest.raises(PackageError, match=r"add up to .*field output says softmax"):
        pack_network(two, card(), tmp_path / "out")
    assert pack_network(two, card(output="sigmoid"), tmp_path / "out").card.output == "sigmoid"
    one = saved([layers.Dense(1, activation="sigmoid")], tmp_path / "binary.keras")
    assert pack_network(one, card(output="binary", name="one_unit"), tmp_path / "out").card.units == 1


def test_a_network_with_code_of_its_own_is_refused(card: Callable[..., Path], tmp_path: Path) -> None:
    keras, _ = load_backend()
    network = saved([keras.layers.Lambda(lambda x: x), keras.layers.Dense(2)], tmp_path / "lambda.keras")
    with pytest.raises(PackageError, match="Lambda, which is not among the layers let through"):
        pack_network(network, card(), tmp_path / "out")


def test_a_network_that_does_not_know_its_input_is_refused(card: Callable[..., Path], tmp_path: Path) -> None:
    keras, _ = load_backend()
    with warnings.catch_warnings(action="ignore"):  # Keras warns of it too
        keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(2)]).save(tmp_path / "unbuilt.keras")
    with pytest.raises(PackageError, match="takes anything, the card's field input"):
        pack_network(tmp_path / "unbuilt.keras", card(), tmp_path / "out")


def test_what_is_no_network_or_no_card_is_said(network: Path, card: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(PackageError, match=r"missing\.keras"):
        pack_network(tmp_path / "missing.keras", card(), tmp_path / "out")
    with pytest.raises(PackageError, match=r"no \.keras archive"):
        pack_network(card(), card(), tmp_path / "out")
    for text, words in (("{", "this is no JSON"), ("[]", "a card is a JSON object")):
        (tmp_path / "torn.json").write_text(text)
        with pytest.raises(PackageError, match=words):
            pack_network(network, tmp_path / "torn.json", tmp_path / "out")
    with pytest.raises(PackageError, match="No such file"):
        pack_network(network, tmp_path / "none.json", tmp_path / "out")
    with zipfile.ZipFile(tmp_path / "other.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(PackageError, match="a network holds"):
        pack_network(tmp_path / "other.keras", card(), tmp_path / "out")


def test_a_version_is_never_packed_over(network: Path, card: Callable[..., Path], tmp_path: Path) -> None:
    pack_network(network, card(), tmp_path / "out")
    with pytest.raises(PackageError, match="needs a new version"):
        pack_network(network, card(), tmp_path / "out")
    with pytest.raises(ModelError, match=r"my card\.json"):
        pack_network(network, card(), tmp_path / "my card.json")


def test_a_template_says_what_is_still_to_be_written_and_is_then_a_card(tmp_path: Path) -> None:
    keras, _ = load_backend()
    values = json.loads(card_template("chest_xray_triage"))
    shape, labels = values["input"], values["labels"]
    assert [label["name"] for label in labels] == ["normal", "pneumonia", "covid", "tuberculosis"]
    image = keras.Input((shape["rows"], shape["columns"], shape["channels"]))
    pooled = keras.layers.GlobalAveragePooling2D()(image)
    with keras_arrays():
        keras.Model(image, keras.layers.Dense(4, activation="softmax")(pooled)).save(tmp_path / "network.keras")
    card = tmp_path / "card.json"
    card.write_text(card_template("chest_xray_triage"))
    with pytest.raises(PackageError, match="title: it is still to be written"):
        pack_network(tmp_path / "network.keras", card, tmp_path / "out")
    card.write_text(card_template("chest_xray_triage").replace(TODO, "Said"))
    assert pack_network(tmp_path / "network.keras", card, tmp_path / "out").identifier == "my_model@1.0.0"
    with pytest.raises(RecipeError, match="chest_xray_triage"):
        card_template("nothing")
