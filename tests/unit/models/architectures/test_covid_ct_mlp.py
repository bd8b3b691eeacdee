"""The dense network on CT has the article's layers, and sees pixels alone."""

from pathlib import Path

import numpy as np
import pytest

from models.architectures import covid_ct_mlp
from models.errors import RecipeError


def test_it_has_the_articles_layers_and_sees_no_label() -> None:
    model = covid_ct_mlp.build(100, 100, 1, 2)
    assert model.input_shape == (None, 100, 100, 1)
    assert model.get_layer("dense_512").kernel.shape == (10_000, 512)  # the article's has 10,001 rows: the label
    assert [type(layer).__name__ for layer in model.layers] == [
        "InputLayer", "Flatten", "Dense", "Dropout", "Dense", "Dropout", "Dense", "Dropout", "Dense",
    ]  # fmt: skip
    dense = [layer for layer in model.layers if type(layer).__name__ == "Dense"]
    assert [(layer.units, layer.activation.__name__) for layer in dense] == [
        (512, "relu"), (256, "relu"), (128, "relu"), (2, "softmax"),
    ]  # fmt: skip
    assert [layer.rate for layer in model.layers if type(layer).__name__ == "Dropout"] == [0.4, 0.3, 0.2]
    assert model.count_params() == 5_120_512 + 131_328 + 32_896 + 258


def test_it_gives_probabilities() -> None:
    model = covid_ct_mlp.build(20, 24, 1, 2)
    found = model(np.random.default_rng(1).random((3, 20, 24, 1), np.float32), training=False).numpy()
    assert found.shape == (3, 2)
    assert found.sum(axis=1) == pytest.approx([1, 1, 1], abs=1e-6)


def test_it_takes_no_backbone_weights() -> None:
    with pytest.raises(RecipeError, match="covid_ct_mlp has no backbone"):
        covid_ct_mlp.build(20, 20, 1, 2, Path("vgg16.h5"))
