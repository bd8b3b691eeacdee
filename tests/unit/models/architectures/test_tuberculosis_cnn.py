"""The network from scratch has the article's layers; its 119 million weights are counted, never made."""

import numpy as np
import pytest

from models.architectures import tuberculosis_cnn
from models.errors import RecipeError

CONVOLUTIONS = 640 + 36_928 + 73_856 + 147_584 + 295_168 + 590_080


def test_it_has_the_articles_layers() -> None:
    model = tuberculosis_cnn.build(64, 64, 1, 2)
    block = ["Conv2D", "Conv2D", "MaxPooling2D", "Dropout"]
    assert [type(layer).__name__ for layer in model.layers] == [
        "InputLayer", *block, *block, *block, "Flatten", "Dense", "Dropout", "Dense",
    ]  # fmt: skip
    convolutions = [layer for layer in model.layers if type(layer).__name__ == "Conv2D"]
    assert [layer.filters for layer in convolutions] == [64, 64, 128, 128, 256, 256]
    assert [layer.padding for layer in convolutions] == ["same", "valid"] * 3
    assert {layer.kernel_size for layer in convolutions} == {(3, 3)}
    assert {layer.activation.__name__ for layer in convolutions} == {"relu"}
    assert [layer.rate for layer in model.layers if type(layer).__name__ == "Dropout"] == [0.25, 0.25, 0.3, 0.5]
    assert model.layers[-1].activation.__name__ == "sigmoid"


def test_it_has_as_many_weights_as_its_article() -> None:
    # 64 -> 62 -> 31 -> 29 -> 14 -> 12 -> 6; at 256, 30 rows are left and 119,110,594 weights
    assert tuberculosis_cnn.build(64, 64, 1, 2).count_params() == CONVOLUTIONS + (6 * 6 * 256 + 1) * 512 + 2 * 513
    assert CONVOLUTIONS + (30 * 30 * 256 + 1) * 512 + 2 * 513 == 119_110_594


def test_it_gives_two_probabilities_each_for_itself() -> None:
    model = tuberculosis_cnn.build(22, 30, 1, 2)
    found = model(np.random.default_rng(1).random((2, 22, 30, 1), np.float32), training=False).numpy()
    assert found.shape == (2, 2)
    assert ((found > 0) & (found < 1)).all()


def test_it_takes_no_backbone_weights() -> None:
    with pytest.raises(RecipeError, match="tuberculosis_cnn has no backbone"):
        tuberculosis_cnn.build(22, 22, 1, 2, "imagenet")
