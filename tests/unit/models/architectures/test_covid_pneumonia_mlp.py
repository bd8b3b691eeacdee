"""The dense network on chest films has the article's layers, initial weights and penalties."""

import numpy as np
import pytest

from models.architectures import covid_pneumonia_mlp
from models.errors import RecipeError


def test_it_has_the_articles_layers() -> None:
    model = covid_pneumonia_mlp.build(100, 100, 1, 3)
    dense = [layer for layer in model.layers if type(layer).__name__ == "Dense"]
    assert [(layer.units, layer.activation.__name__) for layer in dense] == [
        (32, "softsign"), (60, "sigmoid"), (60, "tanh"), (3, "softmax"),
    ]  # fmt: skip
    assert [type(layer.kernel_initializer).__name__ for layer in dense] == ["GlorotNormal"] + ["GlorotUniform"] * 3
    assert [type(layer).__name__ for layer in model.layers[2:]] == [
        "Dense", "Dense", "Dropout", "Dense", "Dropout", "Dense",
    ]  # fmt: skip
    assert [layer.rate for layer in model.layers if type(layer).__name__ == "Dropout"] == [0.3, 0.3]
    assert model.count_params() == 320_032 + 1_980 + 3_660 + 183


def test_the_penalty_is_five_thousandths_of_the_squares_of_the_three_hidden_kernels() -> None:
    model = covid_pneumonia_mlp.build(16, 16, 1, 3)
    kernels = [model.get_layer(name).kernel.numpy() for name in ("softsign_32", "sigmoid_60", "tanh_60")]
    expected = [0.005 * float(np.square(kernel).sum()) for kernel in kernels]
    assert [float(loss) for loss in model.losses] == pytest.approx(expected, rel=1e-5)


def test_it_gives_probabilities() -> None:
    model = covid_pneumonia_mlp.build(16, 20, 1, 3)
    found = model(np.random.default_rng(1).random((2, 16, 20, 1), np.float32), training=False).numpy()
    assert found.sum(axis=1) == pytest.approx([1, 1], abs=1e-6)


def test_it_takes_no_backbone_weights() -> None:
    with pytest.raises(RecipeError, match="covid_pneumonia_mlp has no backbone"):
        covid_pneumonia_mlp.build(16, 16, 1, 3, "imagenet")
