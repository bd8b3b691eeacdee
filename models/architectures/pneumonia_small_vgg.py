"""A small network after VGG on chest films: pneumonia or normal.

"Image Classification of X-Ray Scans: Detecting COVID-19 symptoms through Artificial Intelligence", Towards Data
Science, 25 May 2020.

The article says: a smaller VGGnet, filters 32 -> 64 -> 128 -> 512 -> 1, kernels of 3 x 3, hidden layers rectified,
input 300 x 300 x 1. What it leaves to its code is filled in as VGG has it: one convolution a width that keeps the size,
then pooling by 2; the 512 are the dense layer before the one output; no dropout, since none is named.

What the article has wrong, and what is done here:

- It codes normal as 1 and pneumonia as 0, so its network gives the probability of a normal film; here it gives that of
  pneumonia.
- It promises symptoms of COVID-19; the films with COVID-19 of its table are labelled pneumonia like the others. Here a
  film with COVID-19 is none of the two labels, and is left out and counted.
- It holds back a fifth of the films, not of the patients, and nearly all are of children of one to five years, of one
  hospital. Here a split is by patient, and results are given by source and by age group.
- It mirrors films left to right. Kept, as published; the network cannot then tell a heart on the right from one on the
  left.
- It names early stopping and cross-validation as things to do; here training stops when validation gets no better, and
  folds can be asked for.
"""

from typing import Any

from models.architectures.weights import BackboneWeights, refuse_weights
from models.backend import load_keras

WIDTHS = (32, 64, 128)
"""Channels of the convolutions."""


def build(rows: int, columns: int, channels: int, units: int, backbone_weights: BackboneWeights = None) -> Any:
    """Build the network: three 3 x 3 convolutions with pooling, 512 rectified units, sigmoid.

    At 300 x 300 the network has 89,812,481 weights, 89,718,784 of them between the last pooling and the 512 units.

    Parameters
    ----------
    rows, columns, channels
        Shape of the input, 300 x 300 x 1 in the article; 8 pixels or more a side.
    units
        1: the probability of pneumonia.
    backbone_weights
        None: there is no backbone.

    Returns
    -------
    keras.Model
        float32 (N, rows, columns, channels) -> probabilities (N, units).

    Raises
    ------
    RecipeError
        If backbone weights are given.
    """
    refuse_weights("pneumonia_small_vgg", backbone_weights)
    keras = load_keras()
    layers = keras.layers
    image = keras.Input((rows, columns, channels), name="image")
    x = image
    for block, width in enumerate(WIDTHS, start=1):
        x = layers.Conv2D(width, 3, padding="same", activation="relu", name=f"block{block}_conv")(x)
        x = layers.MaxPooling2D(2, name=f"block{block}_pool")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(512, activation="relu", name="dense")(x)
    x = layers.Dense(units, activation="sigmoid", name="probabilities")(x)
    return keras.Model(image, x, name="pneumonia_small_vgg")
