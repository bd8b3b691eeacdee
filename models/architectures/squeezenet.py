"""SqueezeNet v1.1: the accuracy of AlexNet with a fiftieth of its weights.

F. N. Iandola, S. Han, M. W. Moskewicz, K. Ashraf, W. J. Dally, K. Keutzer, "SqueezeNet: AlexNet-level accuracy with 50x
fewer parameters and <0.5MB model size", arXiv:1602.07360, 2016. Version 1.1 is the authors' own revision: 2.4 times
less computation at the same accuracy (3x3 first convolution, pooling earlier).
"""

from pathlib import Path
from typing import Any, Literal

from models.architectures.weights import BackboneWeights, load_convolutions
from models.backend import load_keras
from models.errors import RecipeError

FIRES: tuple[tuple[str, int, int], ...] = (
    ("fire2", 16, 64), ("fire3", 16, 64), ("fire4", 32, 128), ("fire5", 32, 128),
    ("fire6", 48, 192), ("fire7", 48, 192), ("fire8", 64, 256), ("fire9", 64, 256),
)  # fmt: skip
"""The fire modules: name, width of the squeeze, width of each of the two expands."""

POOL_AFTER = frozenset({"fire3", "fire5"})
"""Where version 1.1 pools, besides after the first convolution."""

INPUT_SCALE = 58.0
"""What a standardised image is multiplied by before the first convolution.

The published ImageNet weights come from Caffe: channel means subtracted, values of about +-120, so a standard deviation
near 58. What transfers best was tried on 1,080 training and 155 validation films: features of the frozen backbone,
logistic regression, validation cross-entropy. Standardised x 58: .436 (accuracy .832), x 30: .438 (.845), x 1: .481
(.871); Caffe's fixed means: .417 (.845). A film of 155 is .006 of accuracy, so 58 and the fixed means are alike, and 1
is worse; standardising was chosen because it does not depend on the window that a station displays with."""


def build(
    rows: int,
    columns: int,
    channels: int,
    classes: int,
    *,
    dropout: float = 0.5,
    backbone_weights: BackboneWeights = None,
) -> Any:
    """Build the network: standardised image in, one softmax probability a class out.

    Layers are those of the article with its final 1x1 convolution, so that the class maps are averaged over the image.

    Parameters
    ----------
    rows, columns, channels
        Shape of the input; one channel (a film is grey) or three.
    classes
        Number of classes.
    dropout
        Share of activations dropped before the last convolution while training.
    backbone_weights
        An HDF5 file with the ImageNet weights of conv1 and fire2 to fire9, or None for random initial weights. A
        network of one channel gets, as its first kernels, the sum of those over red, green and blue: on a grey image
        exactly the same function.

    Returns
    -------
    keras.Model
        With layer names as in the article (`conv1`, `fire2_squeeze1x1`, ...).

    Raises
    ------
    RecipeError
        If the weight file is missing, or is not of this network.
    """
    keras = load_keras()
    layers = keras.layers
    image = keras.Input((rows, columns, channels), name="image")
    x = layers.Rescaling(INPUT_SCALE, name="input_scale")(image)
    x = layers.Conv2D(64, 3, strides=2, padding="valid", activation="relu", name="conv1")(x)
    x = layers.MaxPooling2D(3, strides=2, name="pool1")(x)
    for name, squeeze, expand in FIRES:
        x = layers.Conv2D(squeeze, 1, activation="relu", name=f"{name}_squeeze1x1")(x)
        narrow = layers.Conv2D(expand, 1, activation="relu", name=f"{name}_expand1x1")(x)
        wide = layers.Conv2D(expand, 3, padding="same", activation="relu", name=f"{name}_expand3x3")(x)
        x = layers.Concatenate(name=f"{name}_concat")([narrow, wide])
        if name in POOL_AFTER:
            x = layers.MaxPooling2D(3, strides=2, name=f"pool{name[-1]}")(x)
    x = layers.Dropout(dropout, name="drop9")(x)
    x = layers.Conv2D(classes, 1, kernel_initializer=keras.initializers.RandomNormal(stddev=0.01), name="conv10")(x)
    x = layers.GlobalAveragePooling2D(name="pool10")(x)
    model = keras.Model(image, layers.Softmax(name="probabilities")(x), name="squeezenet")
    if backbone_weights is not None:
        load_backbone(model, backbone_weights)
    return model


def load_backbone(model: Any, weights: Path | Literal["imagenet"]) -> None:
    """Set conv1 and the fire modules from an HDF5 file in the layout of Keras 1 (one group a layer, a kernel, a bias).

    Raises
    ------
    RecipeError
        If the file is missing or unreadable, a layer's weights are not there or of another shape, or `imagenet` is
        asked for: Keras does not offer SqueezeNet's.
    """
    if weights == "imagenet":
        raise RecipeError(
            "Keras offers no ImageNet weights of SqueezeNet to download: give --backbone-weights the path of an HDF5"
            " file with one group a layer (conv1, fire2/squeeze1x1, ...), or none"
        )
    names = ["conv1", *(f"{fire}/{part}" for fire, _, _ in FIRES for part in ("squeeze1x1", "expand1x1", "expand3x3"))]
    load_convolutions(model, weights, {name: name.replace("/", "_") for name in names}, network="SqueezeNet")
