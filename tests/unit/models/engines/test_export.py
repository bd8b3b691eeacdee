"""Every published architecture is exported, its weights as they are, and says the same."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tf2onnx
from onnx import numpy_helper

from models.backend import keras_arrays, load_backend
from models.card import Card
from models.classifier import Classifier
from models.engines.export import export
from models.engines.keras import KerasEngine
from models.engines.onnx import OnnxEngine, open_session
from models.errors import ModelError
from models.registry import Package
from models.template import card_template
from models.training.recipes import TRAINING_RECIPES

SIDES = {"covid_cxr_vgg16": 128}
NETWORKS = sorted(name for name in TRAINING_RECIPES if name not in {"chest_xray_triage", "chest_ct_covid"})
"""Those of the shipped packages are compared in test_shipped."""


@pytest.mark.parametrize("name", NETWORKS)
def test_every_published_architecture_says_the_same(name: str, tmp_path: Path) -> None:
    """In small: with random weights, and of the sizes of batch an odd and an even one."""
    recipe = TRAINING_RECIPES[name]
    side, channels = SIDES.get(name, 64), recipe.input.channels
    keras, _ = load_backend()
    keras.utils.set_random_seed(2)
    network = recipe.build(side, side, channels, recipe.units, None)
    values = json.loads(card_template(name)) | {
        "name": name, "input": {"rows": side, "columns": side, "channels": channels}, "temperature": 1.3,
        "weights_sha256": "0" * 64, "golden_sha256": "0" * 64,
    }  # fmt: skip
    package = Package(tmp_path, Card.model_validate(values))
    session = open_session(export(network), package, threads=1)
    ours, theirs = Classifier(package, OnnxEngine(session)), Classifier(package, KerasEngine(network))
    batch = np.random.default_rng(3).uniform(0, 1, (4, side, side, channels)).astype(np.float32)
    found = ours.probabilities(batch)
    assert found == pytest.approx(theirs.probabilities(batch), abs=5e-6)
    assert np.array_equal(ours.probabilities(batch[1:]), found[1:])


def test_each_weight_stands_in_the_file_as_it_is(tiny_network: Any) -> None:
    model = onnx.load_model_from_string(export(tiny_network))
    held = [numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
    with keras_arrays():
        for weight in tiny_network.get_weights():
            assert any(np.array_equal(weight, one) for one in held)
    assert [side.name for side in model.graph.input] == ["image"]


def test_a_network_that_cannot_be_exported_is_named(tiny_network: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: Any, **_options: Any) -> None:
        raise KeyError("no such operator")

    monkeypatch.setattr(tf2onnx.convert, "from_function", refuse)
    with pytest.raises(ModelError, match="cannot be exported to ONNX: 'no such operator'"):
        export(tiny_network)
