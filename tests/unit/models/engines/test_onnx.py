"""ONNX Runtime says what Keras says, to the same bit in any company, and opens no file but the card's."""

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest

from models.classifier import Classifier
from models.engines import onnx as engine_module
from models.errors import ModelError, PackageError
from models.registry import Package, Registry, sha256_of

Make = Callable[..., Package]


def inputs(count: int) -> Any:
    return np.random.default_rng(0).standard_normal((count, 32, 32, 1), np.float32)


def rewritten(package: Package, content: bytes) -> Package:
    """Put another file in place, and have the card name it."""
    package.onnx.write_bytes(content)
    assert package.card.onnx is not None
    named = package.card.onnx.model_copy(update={"sha256": sha256_of(package.onnx)})
    return Package(package.path, package.card.model_copy(update={"onnx": named}))


@pytest.mark.parametrize(
    "changes",
    [{}, {"temperature": 1.0}, {"temperature": 0.6}, {"output": "sigmoid"}],
    ids=["softmax", "no temperature", "low temperature", "sigmoid"],
)
def test_it_says_what_keras_says(make_converted: Make, changes: dict[str, Any]) -> None:
    package = make_converted(**changes)
    ours, theirs = (Classifier.load(package, engine=name) for name in ("onnx", "keras"))
    assert (ours.engine, ours.device, theirs.engine) == ("onnx", "cpu", "keras")
    assert ours.probabilities(inputs(40)) == pytest.approx(theirs.probabilities(inputs(40)), abs=2e-6)


def test_a_binary_network_has_two_labels(tiny_converted: Any) -> None:
    class Half:
        name, device, buckets = "onnx", "cpu", ()

        def outputs(self, batch: Any) -> Any:
            return np.full((len(batch), 1), 0.25, np.float32)

    package = Registry(shipped_dir=tiny_converted.parent.parent).find("tiny")
    card = package.card.model_copy(update={"output": "binary", "temperature": 1.0})
    found = Classifier(Package(package.path, card), Half()).probabilities(inputs(3))
    assert found.tolist() == [[0.75, 0.25]] * 3


def test_the_same_bits_in_any_company(make_converted: Make) -> None:
    """Also where a batch is no multiple of what a processor takes at once, and with more threads."""
    package = make_converted()
    classifier = Classifier.load(package, engine="onnx")
    batch = inputs(40)
    alone = np.concatenate([classifier.probabilities(batch[i : i + 1]) for i in range(40)])
    for size in range(2, 33):
        assert np.array_equal(classifier.probabilities(batch[:size]), alone[:size]), size
        assert np.array_equal(classifier.probabilities(batch[40 - size :]), alone[40 - size :]), size
    assert np.array_equal(Classifier.load(package, engine="onnx", threads=2).probabilities(batch), alone)


def test_the_golden_pair_is_replayed(make_converted: Make) -> None:
    replay = Classifier.load(make_converted(), engine="onnx").warm_up()
    assert replay.passed
    assert replay.difference < 1e-5


def test_a_changed_file_is_never_opened(make_converted: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    package = make_converted()
    package.onnx.write_bytes(package.onnx.read_bytes() + b"\0")
    monkeypatch.setattr(engine_module, "open_session", lambda *_a, **_k: pytest.fail("it was opened"))
    for engine in ("onnx", "auto", "keras"):
        with pytest.raises(PackageError, match=r"model\.onnx: SHA-256"):
            Classifier.load(package, engine=engine)
    monkeypatch.setattr(Package, "verify_files", lambda _self: None)  # changed between the look and the read
    with pytest.raises(PackageError, match=r"model\.onnx: SHA-256"):
        Classifier.load(package, engine="onnx")


def test_another_operator_or_another_place_is_refused_whatever_the_card_vouches_for(make_converted: Make) -> None:
    package = make_converted()
    model = onnx.load_model(package.onnx)
    model.graph.node[0].domain = "com.example"
    with pytest.raises(PackageError, match=r"names the operator com\.example"):
        Classifier.load(rewritten(package, model.SerializeToString()), engine="onnx")
    model.graph.node[0].domain = ""
    model.graph.initializer[0].external_data.add(key="location", value="weights")
    with pytest.raises(PackageError, match="lies in another file"):
        Classifier.load(rewritten(package, model.SerializeToString()), engine="onnx")


def test_the_network_has_to_have_the_cards_shape(make_converted: Make) -> None:
    package = make_converted(input={"rows": 64, "columns": 32, "channels": 1})
    with pytest.raises(PackageError, match=r"the card says \(N, \[64, 32, 1\]\)"):
        Classifier.load(package, engine="onnx")


def test_what_onnx_runtime_cannot_load_is_named(make_converted: Make) -> None:
    package = make_converted()
    model = onnx.load_model(package.onnx)
    model.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(PackageError, match="ONNX Runtime cannot load it"):
        Classifier.load(rewritten(package, model.SerializeToString()), engine="onnx")


def test_only_keras_lets_one_look_inside(make_converted: Make) -> None:
    with pytest.raises(ModelError, match="only Keras"):
        _ = Classifier.load(make_converted(), engine="onnx").network


def test_neither_tensorflow_nor_keras_is_imported() -> None:
    """From the registry to a warmed classifier: that is what makes a worker small and quick to start."""
    code = (
        "import json, sys\n"
        "from models.classifier import Classifier\n"
        "from models.registry import Registry\n"
        "import worker.inference.classify, worker.inference.environment\n"
        "classifier = Classifier.load(Registry().find('chest_xray_triage'), engine='onnx')\n"
        "passed = classifier.warm_up().passed\n"
        "print(json.dumps([passed, sorted({'tensorflow', 'keras', 'h5py', 'tf2onnx'} & set(sys.modules))]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (json.loads(done.stdout), done.stderr) == ([True, []], "")
