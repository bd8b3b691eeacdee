"""VGG16 without its top: thirteen 3x3 convolutions in five blocks, the backbone of two of the articles.

K. Simonyan, A. Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", arXiv:1409.1556, 2014,
configuration D.
"""

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from models.architectures.weights import BackboneWeights, load_convolutions
from models.backend import load_keras
from models.errors import RecipeError

BLOCKS: tuple[tuple[int, int], ...] = ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3))
"""The blocks: how many times wider than the first, and how many convolutions before the pooling."""

WIDTH = 64
"""Channels of the first block."""

LAST = "block5_pool"
"""The layer that a head is put on."""

ORIGIN = (
    "https://storage.googleapis.com/tensorflow/keras-applications/vgg16/"
    "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
)
"""Where Keras keeps the ImageNet weights without the top, 58,889,256 bytes."""

MD5 = "6d6bbae143d832006294945121d1f1fc"
"""MD5 of that file, as Keras gives it."""


def features(image: Any, *, width: int = WIDTH) -> Any:
    """Put the five blocks on an input, frozen: an article that starts from them trains its head alone.

    Parameters
    ----------
    image
        keras.KerasTensor (N, rows, columns, channels), 32 pixels or more a side.
    width
        Channels of the first block; 64 is VGG16, fewer is a small copy of it for tests.

    Returns
    -------
    keras.KerasTensor
        (N, rows // 32, columns // 32, 8 x width), from the layer `LAST`; layers are named as in Keras
        (`block1_conv1`, ...).
    """
    keras = load_keras()
    layers = keras.layers
    x = image
    for block, (times, convolutions) in enumerate(BLOCKS, start=1):
        for number in range(1, convolutions + 1):
            name = f"block{block}_conv{number}"
            x = layers.Conv2D(times * width, 3, padding="same", activation="relu", trainable=False, name=name)(x)
        x = layers.MaxPooling2D(2, name=f"block{block}_pool")(x)
    return x


def load_weights(model: Any, weights: BackboneWeights) -> None:
    """Give the backbone in a network the weights it begins with.

    Parameters
    ----------
    model
        keras.Model with the layers of `features`.
    weights
        A file in the layout of ``vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5`` (a group a layer, in it a kernel
        and a bias; one with the top will do); `imagenet`: that file, which Keras downloads; None: the weights stay
        random, and the frozen features are those of chance.

    Raises
    ------
    RecipeError
        If the file cannot be had or read, or is not of this network.
    """
    if weights is None:
        return
    names = [f"block{block}_conv{i}" for block, (_, count) in enumerate(BLOCKS, start=1) for i in range(1, count + 1)]
    path = download() if weights == "imagenet" else weights
    load_convolutions(model, path, {name: name for name in names}, network="VGG16")


def download() -> Path:
    """Have Keras fetch the ImageNet weights, or find them in its cache (``~/.keras/models``).

    Raises
    ------
    RecipeError
        If they cannot be had; saying how to bring them to a machine without a network.
    """
    keras = load_keras()
    name = ORIGIN.rsplit("/", 1)[-1]
    try:
        with redirect_stdout(sys.stderr):  # Keras shows its progress, and standard output is for results
            return Path(keras.utils.get_file(name, ORIGIN, cache_subdir="models", file_hash=MD5))
    except Exception as error:  # noqa: BLE001 - get_file raises a bare Exception where there is no network
        raise RecipeError(
            f"the ImageNet weights of VGG16 could not be downloaded: {error}. On a machine without a network, bring the"
            f" file {name} from one that has it ({ORIGIN}) and say --backbone-weights PATH; --backbone-weights none"
            " begins with random weights"
        ) from None
