"""Weights that a network begins with: where they may come from, and how they are read from an HDF5 file of Keras."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from models.errors import RecipeError

BackboneWeights = Path | Literal["imagenet"] | None
"""An HDF5 file; `imagenet`: what Keras downloads; None: random."""


def refuse_weights(architecture: str, weights: BackboneWeights) -> None:
    """Refuse weights for a network that has no backbone to put them in.

    Raises
    ------
    RecipeError
        If there are any.
    """
    if weights is not None:
        raise RecipeError(
            f"{architecture} has no backbone and begins with random weights: leave --backbone-weights {weights} out, or"
            " say none"
        )


def load_convolutions(model: Any, path: Path, names: Mapping[str, str], *, network: str) -> None:
    """Set the kernel and bias of convolutions from an HDF5 file that holds one group a layer, as Keras 1 and 2 write.

    The names of the two arrays within a group differ between versions of Keras (`block1_conv1_W_1:0`,
    `block1_conv1/kernel:0`) and are not looked at: the kernel is the array of four dimensions, the bias that of one.
    Where the file's kernel takes three colours and the model's one channel, it becomes the sum over the colours: on a
    grey image exactly the same function.

    Parameters
    ----------
    model
        keras.Model.
    path
        The file.
    names
        Group in the file -> layer of the model.
    network
        What the network is called, for messages.

    Raises
    ------
    RecipeError
        If the file is missing or unreadable, or a layer's weights are not there or of another shape.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            groups = file.get("model_weights", file)
            found = {group: _kernel_and_bias(groups, group, path, network) for group in names}
    except FileNotFoundError:
        raise RecipeError(
            f"{path}: there is no such file (--backbone-weights takes a file's path, imagenet or none)"
        ) from None
    except OSError as error:
        raise RecipeError(f"{path}: this is no HDF5 file that can be read: {error}") from None
    ready = []
    for group, (published, bias) in found.items():
        layer = model.get_layer(names[group])
        expected = tuple(layer.kernel.shape)
        of_colours = expected[2] == 1 and published.shape[2] == 3
        kernel = published.sum(axis=2, keepdims=True) if of_colours else published
        if kernel.shape != expected or bias.shape != tuple(layer.bias.shape):
            raise RecipeError(f"{path}: {group} is {published.shape}, {network} has {expected}")
        ready.append((layer, kernel, bias))
    for layer, kernel, bias in ready:
        layer.set_weights([kernel, bias])


def _kernel_and_bias(file: Any, name: str, path: Path, network: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    import h5py

    found: list[NDArray[np.float32]] = []
    if name in file:
        file[name].visititems(
            lambda _, item: found.append(np.asarray(item, np.float32)) if isinstance(item, h5py.Dataset) else None
        )
    kernels = [array for array in found if array.ndim == 4]
    biases = [array for array in found if array.ndim == 1]
    if len(kernels) != 1 or len(biases) != 1:
        raise RecipeError(f"{path}: no weights of {network}'s {name} in it")
    return kernels[0], biases[0]
