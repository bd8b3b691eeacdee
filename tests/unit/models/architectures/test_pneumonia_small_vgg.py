"""The small network after VGG has the widths that the article names."""

import numpy as np
import pytest

from models.architectures import pneumonia_small_vgg
from models.errors import RecipeError

CONVOLUTIONS = 320 + 18_496 + 73_856


def test_it_has_the_articles_layers() -> None:
    model = pneumonia_small_vgg.build(40, 40, 1, 1)
    block = ["Conv2D", "MaxPooling2D"]
    assert [type(layer).__name__ for layer in model.layers] == [
        "InputLayer", *block, *block, *block, "Flatten", "Dense", "Dense",
    ]  # fmt: skip
    convolutions = [layer for layer in model.layers if type(layer).__name__ == "Conv2D"]
    assert [layer.filters for layer in convolutions] + [layer.units for layer in model.layers[-2:]] == [
        32, 64, 128, 512, 1,
    ]  # fmt: skip
    assert {layer.kernel_size for layer in convolutions} == {(3, 3)}
    assert {layer.activation.__name__ for layer in [*convolutions, model.get_layer("dense")]} == {"relu"}


def test_its_weights_are_counted() -> None:
    # 40 -> 20 -> 10 -> 5; at 300, 37 rows are left
    assert pneumonia_small_vgg.build(40, 40, 1, 1).count_params() == CONVOLUTIONS + (5 * 5 * 128 + 1) * 512 + 513
    assert CONVOLUTIONS + (37 * 37 * 128 + 1) * 512 + 513 == 89_812_481


def test_it_gives_one_probability() -> None:
    model = pneumonia_small_vgg.build(24, 16, 1, 1)
    found = model(np.random.default_rng(1).random((2, 24, 16, 1), np.float32), training=False).numpy()
    assert found.shape == (2, 1)
    assert ((found > 0) & (found < 1)).all()


def test_it_takes_no_backbone_weights() -> None:
    with pytest.raises(RecipeError, match="pneumonia_small_vgg has no backbone"):
        pneumonia_small_vgg.build(24, 24, 1, 1, "imagenet")
