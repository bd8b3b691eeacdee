"""A package is computed in mixed precision where its card allows it: compared with float32, and on a GPU."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from models.backend import load_backend
from models.classifier import Classifier
from models.engines.choice import MIXED
from models.engines.keras import BUCKETS, KerasEngine, in_mixed_precision
from models.errors import ModelError, PackageError
from models.mixed_precision import allow_mixed_precision
from models.registry import CARD, Package, read_package

Make = Callable[..., Package]


def inputs(count: int) -> Any:
    return np.random.default_rng(0).standard_normal((count, 32, 32, 1), np.float32)


def test_it_multiplies_in_float16_and_keeps_weights_and_the_last_layer(tiny_network: Any) -> None:
    mixed = in_mixed_precision(tiny_network)
    assert [layer.compute_dtype for layer in mixed.layers] == ["float32", "float16", "float16", "float32"]
    assert {variable.dtype for variable in mixed.variables} == {"float32"}
    for ours, theirs in zip(mixed.variables, tiny_network.variables, strict=True):
        assert np.array_equal(ours.numpy(), theirs.numpy())
    assert {layer.compute_dtype for layer in tiny_network.layers} == {"float32"}, "what was copied stays"


def test_networks_within_a_network_are_copied_too_and_give_float32() -> None:
    keras, _ = load_backend()
    head = keras.Sequential([keras.layers.Dense(3), keras.layers.Dense(2, activation="softmax")])
    network = keras.Sequential([keras.Input((32, 32, 1)), keras.layers.Flatten(), head])
    engine = KerasEngine(network, mixed=True)
    assert [layer.compute_dtype for layer in engine.network.layers[-1].layers] == ["float16", "float16"]
    assert engine.outputs(inputs(2)).dtype == np.float32


def test_the_engine_says_so_and_is_traced_once_a_bucket(make_package: Make, tiny_network: Any) -> None:
    engine = KerasEngine(tiny_network, mixed=True)
    classifier = Classifier(make_package(), engine)
    assert (classifier.engine, KerasEngine(tiny_network).name) == ("keras-mixed", "keras")
    classifier.warm_up()
    for count in (3, 40, 17, 1, 32):
        classifier.probabilities(inputs(count))
    assert engine.traces() == len(BUCKETS)
    exact = Classifier(make_package(version="2.0.0"), KerasEngine(tiny_network)).probabilities(inputs(8))
    found = classifier.probabilities(inputs(8))
    assert found == pytest.approx(exact, abs=1e-3)
    assert not np.array_equal(found, exact), "it was not computed in float16"


def test_what_was_compared_stands_in_the_card(make_package: Make) -> None:
    package = make_package()
    found = allow_mixed_precision(package).card.mixed_precision
    assert found is not None
    assert 0 < found.difference < package.card.tolerance
    assert found.weights_sha256 == package.card.weights_sha256
    assert found.device in {"cpu", "gpu"}
    assert found.verified_with.startswith("keras 3.")
    again = read_package(package.path).card
    assert again.mixed_precision == found
    assert again.model_copy(update={"mixed_precision": None}) == package.card, "nothing else has changed"


def test_what_is_off_is_not_allowed_and_what_was_allowed_is_taken_back(make_package: Make) -> None:
    allowed = allow_mixed_precision(make_package()).card
    strict = make_package(version="2.0.0", tolerance=1e-9, mixed_precision=allowed.model_dump()["mixed_precision"])
    assert strict.card.mixed_precision is not None
    with pytest.raises(PackageError, match=r"than float32, by .*; the card allows 1e-09, so it stays in float32"):
        allow_mixed_precision(strict)
    assert read_package(strict.path).card.mixed_precision is None
    before = (strict.path / CARD).read_bytes()
    with pytest.raises(PackageError, match="stays in float32"):
        allow_mixed_precision(read_package(strict.path))
    assert (strict.path / CARD).read_bytes() == before


def test_what_float16_cannot_hold_is_no_number_and_not_allowed(make_package: Make, tiny_network: Any) -> None:
    from models.backend import keras_arrays

    keras, _ = load_backend()
    with keras_arrays():
        large = keras.models.clone_model(tiny_network)
        large.set_weights([weight * 1e5 if weight.ndim == 4 else weight for weight in tiny_network.get_weights()])
        package = make_package()
        large.save(package.weights)
    from models.registry import sha256_of

    card = package.card.model_copy(update={"weights_sha256": sha256_of(package.weights)})
    with pytest.raises(PackageError, match="than float32, or none; the card allows"):
        allow_mixed_precision(Package(package.path, card))


def test_a_card_that_cannot_be_written_is_named(make_package: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_given: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("models.mixed_precision.write_card", full)
    with pytest.raises(ModelError, match="the card cannot be written: No space left on device"):
        allow_mixed_precision(make_package())


def test_it_is_loaded_so_where_it_is_chosen(make_package: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    package = allow_mixed_precision(make_package())
    assert package.card.mixed_precision is not None
    on_gpu = package.card.mixed_precision.model_copy(update={"device": "gpu"})
    package = Package(package.path, package.card.model_copy(update={"mixed_precision": on_gpu}))
    with pytest.raises(ModelError, match="engine keras-mixed: mixed precision is for a GPU"):
        Classifier.load(package, engine=MIXED)
    monkeypatch.setattr("models.engines.choice.sees_gpu", lambda: True)
    assert Classifier.load(package, engine=MIXED).engine == MIXED
