"""Six convolutions from scratch on chest films: tuberculosis or normal.

"Image Classification of X-Ray scans using Convolutional Neural Networks", first approach: a network from scratch.

What the article has wrong, and what is done here:

- Its predictor reads a film in colour and reshapes it to three channels; the network has one, and cannot take it. Here
  the shape is the card's, for training and for service alike.
- It gives the test films to the fit as validation data; here validation patients are others than test patients.
- It says 25 % are dropped after every layer and that there are three hidden layers; its code, followed here, drops 25,
  25 and 30 % after three pairs of convolutions, and half before the last layer.
- Its two sigmoid units may both say yes or both no, and its predictor reads the second alone, "Tuberculosis" above 0.5.
  Here both are reported, and the second has an operating threshold chosen on validation for a stated sensitivity.
- It takes single pixels out of many when it reduces a film (nearest neighbour); here every pixel counts.
"""

from typing import Any

from models.architectures.weights import BackboneWeights, refuse_weights
from models.backend import load_keras

BLOCKS: tuple[tuple[int, float], ...] = ((64, 0.25), (128, 0.25), (256, 0.3))
"""Pairs of convolutions: channels, and the share dropped after their pooling while training."""


def build(
    rows: int,
    columns: int,
    channels: int,
    units: int,
    backbone_weights: BackboneWeights = None,
) -> Any:
    """Build the network: three pairs of 3 x 3 convolutions with pooling and dropout, 512 rectified units, sigmoid.

    The first convolution of a pair keeps the size, the second does not. At 256 x 256 the network has 119,110,594
    weights, 117,964,800 of them between the last pooling and the 512 units.

    Parameters
    ----------
    rows, columns, channels
        Shape of the input, 256 x 256 x 1 in the article; 22 pixels or more a side.
    units
        Number of labels, 2 in the article, each with a sigmoid of its own.
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
    refuse_weights("tuberculosis_cnn", backbone_weights)
    keras = load_keras()
    layers = keras.layers
    image = keras.Input((rows, columns, channels), name="image")
    x = image
    for block, (width, dropped) in enumerate(BLOCKS, start=1):
        x = layers.Conv2D(width, 3, padding="same", activation="relu", name=f"block{block}_conv1")(x)
        x = layers.Conv2D(width, 3, padding="valid", activation="relu", name=f"block{block}_conv2")(x)
        x = layers.MaxPooling2D(2, name=f"block{block}_pool")(x)
        x = layers.Dropout(dropped, name=f"block{block}_dropout")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(512, activation="relu", name="dense")(x)
    x = layers.Dropout(0.5, name="dropout")(x)
    return keras.Model(
        image, layers.Dense(units, activation="sigmoid", name="probabilities")(x), name="tuberculosis_cnn"
    )
