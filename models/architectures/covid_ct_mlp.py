"""A dense network on slices of CT: COVID-19 or not.

O. Gimenez, "Binary image classification using Keras in R: Using CT scans to predict patients with Covid", R-bloggers.

What the article has wrong, and what is done here:

- Its training and test matrices keep the label as column 10001 and the network is given all 10001 columns: the answer
  is among the inputs, and the published figure leaks. Here the network takes the 10000 pixels alone.
- It splits the slices of a set without patients' names at random, so neighbouring slices of one patient lie on both
  sides. Here a split is by patient.
- It is called a convolutional network that foresees severe illness; it is a dense network that tells the slices of two
  folders apart, and so it is described here.
- ``normalize(pictures, axis = 1)`` divides each column of pixels by its norm where axes are counted from 0, as R's
  Keras passed them on. Counted from 1 it would be each pixel over all pictures of a class, which gives the class away
  and cannot be done for one slice; here it is columns (`models.preprocessing.unit_columns`).
- Binary cross-entropy over a softmax of two is the cross-entropy of the softmax: the same loss, named for what it is.
"""

from typing import Any

from models.architectures.weights import BackboneWeights, refuse_weights
from models.backend import load_keras

LAYERS: tuple[tuple[int, float], ...] = ((512, 0.4), (256, 0.3), (128, 0.2))
"""Dense layers: units, and the share dropped after them while training."""


def build(rows: int, columns: int, channels: int, units: int, backbone_weights: BackboneWeights = None) -> Any:
    """Build the network: 512, 256 and 128 rectified units with dropout, softmax.

    Parameters
    ----------
    rows, columns, channels
        Shape of the input, 100 x 100 x 1 in the article; it is flattened here.
    units
        Number of labels, 2 in the article.
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
    refuse_weights("covid_ct_mlp", backbone_weights)
    keras = load_keras()
    layers = keras.layers
    image = keras.Input((rows, columns, channels), name="image")
    x = layers.Flatten(name="pixels")(image)
    for width, dropped in LAYERS:
        x = layers.Dense(width, activation="relu", name=f"dense_{width}")(x)
        x = layers.Dropout(dropped, name=f"dropout_{width}")(x)
    return keras.Model(image, layers.Dense(units, activation="softmax", name="probabilities")(x), name="covid_ct_mlp")
