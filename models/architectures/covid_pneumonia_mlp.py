"""A dense network on chest films: COVID-19, normal or other pneumonia.

H. Shi, "COVID-19 Chest X-Ray Image Classification with Neural Network", Medium, 3 May 2020.

What the article has wrong, and what is done here:

- It tunes on its test films and shows them to the fit as validation data; here thresholds, temperature and the best
  epoch are decided on validation patients, and test films are looked at once.
- It moves the last eleven films with COVID-19 of a table to the test set, whoever they are of, so a patient may lie on
  both sides. Here a split is by patient where there is a name for one.
- It says that COVID-19 is told from other pneumonia "100 %", from those eleven films; here every figure has its
  interval.
- It skips a film that cannot be read without a word, so that films and labels could fall out of step; here a film that
  cannot be read is an error that names it.
"""

from typing import Any

from models.architectures.weights import BackboneWeights, refuse_weights
from models.backend import load_keras

L2 = 0.005
"""Weight of the sum of squares of each hidden layer's kernel in the loss."""

DROPPED = 0.3
"""Share dropped after the second and the third layer while training."""


def build(rows: int, columns: int, channels: int, units: int, backbone_weights: BackboneWeights = None) -> Any:
    """Build the network: 32 softsign, 60 sigmoid and 60 tanh units, the last two with dropout, softmax.

    Parameters
    ----------
    rows, columns, channels
        Shape of the input, 100 x 100 x 1 in the article; it is flattened here.
    units
        Number of labels, 3 in the article.
    backbone_weights
        None: there is no backbone.

    Returns
    -------
    keras.Model
        float32 (N, rows, columns, channels) -> probabilities (N, units). Its `losses` hold the L2 terms, which belong
        to what is minimised.

    Raises
    ------
    RecipeError
        If backbone weights are given.
    """
    refuse_weights("covid_pneumonia_mlp", backbone_weights)
    keras = load_keras()
    layers = keras.layers
    image = keras.Input((rows, columns, channels), name="image")
    x = layers.Flatten(name="pixels")(image)
    x = layers.Dense(
        32,
        activation="softsign",
        kernel_initializer="glorot_normal",
        kernel_regularizer=keras.regularizers.L2(L2),
        name="softsign_32",
    )(x)
    for activation in ("sigmoid", "tanh"):
        penalty = keras.regularizers.L2(L2)
        x = layers.Dense(60, activation=activation, kernel_regularizer=penalty, name=f"{activation}_60")(x)
        x = layers.Dropout(DROPPED, name=f"dropout_{activation}")(x)
    x = layers.Dense(units, activation="softmax", name="probabilities")(x)
    return keras.Model(image, x, name="covid_pneumonia_mlp")
