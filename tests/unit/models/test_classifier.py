"""A classifier runs only what its card vouches for, traces once a bucket, and says when it no longer says the same."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from models.classifier import Classifier
from models.engines.keras import BUCKETS, KerasEngine
from models.errors import ImageError, ModelError, PackageError
from models.golden import golden_image, load_golden, save_golden
from models.registry import Package, sha256_of
from models.temperature import tempered

Make = Callable[..., Package]


@pytest.fixture
def tiny(make_package: Make) -> Classifier:
    return Classifier.load(make_package())


def inputs(count: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal((count, 32, 32, 1), np.float32)


def test_changed_weights_are_never_opened(make_package: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    from models.backend import load_backend

    package = make_package()
    package.weights.write_bytes(package.weights.read_bytes() + b"\0")
    monkeypatch.setattr(load_backend()[0].models, "load_model", lambda *_a, **_k: pytest.fail("it was opened"))
    with pytest.raises(PackageError, match=r"model\.keras: SHA-256"):
        Classifier.load(package)


def test_the_network_has_to_have_the_cards_shape(make_package: Make) -> None:
    package = make_package(input={"rows": 64, "columns": 32, "channels": 1})
    with pytest.raises(PackageError, match=r"takes \(None, 32, 32, 1\)"):
        Classifier.load(package)


def test_an_unknown_engine_names_the_known(make_package: Make) -> None:
    with pytest.raises(ModelError, match="auto, keras, onnx"):
        Classifier.load(make_package(), engine="abacus")


def test_it_says_what_it_runs_on(tiny: Classifier) -> None:
    assert (tiny.engine, tiny.device, tiny.max_batch) == ("keras", tiny.device, 32)
    assert tiny.device in {"cpu", "gpu"}


@pytest.mark.parametrize("count", [0, 1, 3, 32, 33, 70])
def test_any_number_of_images_gets_as_many_rows(tiny: Classifier, count: int) -> None:
    result = tiny.probabilities(inputs(count))
    assert result.shape == (count, 2)
    assert result.dtype == np.float32
    assert result.sum(axis=1) == pytest.approx(np.ones(count), abs=1e-5)


def test_an_image_gets_the_same_in_any_company(tiny: Classifier) -> None:
    batch = inputs(32)
    alone = np.concatenate([tiny.probabilities(batch[i : i + 1]) for i in range(32)])
    for size in (2, 5, 17, 32):
        assert tiny.probabilities(batch[:size]) == pytest.approx(alone[:size], abs=1e-5)


def test_it_is_traced_once_a_bucket_however_batches_vary(tiny: Classifier) -> None:
    tiny.warm_up()
    assert tiny._engine.traces() == len(BUCKETS)
    for count in np.random.default_rng(1).integers(1, 80, 25):
        tiny.probabilities(inputs(int(count)))
    assert tiny._engine.traces() == len(BUCKETS)


def test_the_temperature_of_the_card_is_applied(make_package: Make, tiny_network: Any, tiny: Classifier) -> None:
    raw = tiny_network(inputs(4)).numpy()
    assert tiny.probabilities(inputs(4)) == pytest.approx(tempered(raw, 1.5, "softmax"), abs=1e-6)
    untempered = Classifier.load(make_package(version="1.1.0", temperature=1.0))
    assert untempered.probabilities(inputs(4)) == pytest.approx(raw, abs=1e-6)
    assert np.abs(tiny.probabilities(inputs(4)) - raw).max() > 1e-3


def test_sigmoid_outputs_are_tempered_each_for_itself(make_package: Make, tiny_network: Any) -> None:
    card = make_package(output="sigmoid")
    raw = tiny_network(inputs(4)).numpy()
    assert Classifier.load(card).probabilities(inputs(4)) == pytest.approx(tempered(raw, 1.5, "sigmoid"), abs=1e-6)


@pytest.mark.parametrize("shape", [(2, 32, 32), (2, 32, 31, 1), (2, 32, 32, 3)])
def test_a_batch_of_another_shape_is_refused(tiny: Classifier, shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageError, match=r"\(N, 32, 32, 1\)"):
        tiny.probabilities(np.zeros(shape, np.float32))


def test_no_number_is_no_input(tiny: Classifier) -> None:
    """Without the check a plausible probability comes out: a convolution with ReLU swallows NaN."""
    batch = inputs(3)
    batch[1, 4, 5, 0] = np.nan
    with pytest.raises(ImageError, match="not finite"):
        tiny.probabilities(batch)


def test_no_number_is_no_answer(tiny: Classifier, tiny_network: Any, make_package: Make) -> None:
    from models.backend import keras_arrays, load_backend

    package = make_package(version="1.2.0")
    with keras_arrays():
        broken = load_backend()[0].models.clone_model(tiny_network)
        broken.set_weights([*tiny_network.get_weights()[:-1], np.full(2, np.nan, np.float32)])
        with pytest.raises(PackageError, match="not a number"):
            Classifier(package, KerasEngine(broken)).probabilities(inputs(2))


def test_the_golden_pair_is_replayed(tiny: Classifier) -> None:
    replay = tiny.warm_up()
    assert replay.passed
    assert replay.difference < 1e-5


def test_a_classifier_that_says_something_else_does_not_start(make_package: Make) -> None:
    package = make_package()
    image, expected = load_golden(package.golden, 2)
    save_golden(package.golden, image.astype(np.uint8), expected + np.array([0.002, -0.002], np.float32))
    (package.path / "card.json").write_text(
        package.card.model_copy(update={"golden_sha256": sha256_of(package.golden)}).to_json()
    )
    from models.registry import read_package

    with pytest.raises(PackageError, match=r"differ by 0\.002, the card allows 0\.001"):
        Classifier.load(read_package(package.path)).warm_up()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no"])
def test_a_damaged_golden_pair_is_named(make_package: Make, content: bytes) -> None:
    package = make_package()
    package.golden.write_bytes(content)
    with pytest.raises(PackageError, match="no golden pair"):
        load_golden(package.golden, 2)


def test_a_golden_pair_of_another_model_is_refused(make_package: Make) -> None:
    with pytest.raises(PackageError, match="4 probabilities are expected"):
        load_golden(make_package().golden, 4)


def test_the_golden_image_is_the_same_film_each_time() -> None:
    assert golden_image().tobytes() == golden_image().tobytes()
    assert golden_image().std() > 30


def test_keras_is_imported_when_a_classifier_is_loaded_and_quietly() -> None:
    code = (
        "import sys, models.classifier, models.registry, models.bulk\n"
        "assert not {'keras', 'tensorflow'} & set(sys.modules), 'imported too early'\n"
        "from models.backend import load_backend\n"
        "load_backend()\n"
        "sys.stderr.write('still here')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "still here")
