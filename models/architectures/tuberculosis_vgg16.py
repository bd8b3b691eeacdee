"""VGG16, frozen, with a dense head on chest films: tuberculosis or normal.

"Image Classification of X-Ray scans using Convolutional Neural Networks", second approach: transfer learning.

What the article has wrong, and what is done here:

- It computes the features of all films once and then fits the head to the films themselves (``model.fit(x_train, ...)``
  instead of ``features_x``), whose shape the head cannot take. Here the head is fitted to the features, computed once.
- It fits without any validation films and gives no figure; here both are there.
- It keeps the head alone, and whoever predicts has to put the backbone before it again; here one network holds both.
- Its films are split one by one; here a split is by patient.
"""

from typing import Any

from models.architectures import vgg16
from models.architectures.weights import BackboneWeights
from models.backend import load_keras


def build(
    rows: int,
    columns: int,
    channels: int,
    units: int,
    backbone_weights: BackboneWeights = None,
    *,
    width: int = vgg16.WIDTH,
) -> Any:
    """Build the network: VGG16, flattened, 256 rectified units, dropout, sigmoid.

    Parameters
    ----------
    rows, columns, channels
        Shape of the input, 256 x 256 x 3 in the article; 32 pixels or more a side.
    units
        1: the probability of tuberculosis.
    backbone_weights
        Those of VGG16 (`models.architectures.vgg16.load_weights`).
    width
        Channels of VGG16's first block.

    Returns
    -------
    keras.Model
        float32 (N, rows, columns, channels) -> probabilities (N, units). The backbone does not train; what it gives to
        the head is the output of `models.architectures.vgg16.LAST`.

    Raises
    ------
    RecipeError
        If the backbone weights cannot be had or do not fit.
    """
    keras = load_keras()
    layers = keras.layers
    image = keras.Input((rows, columns, channels), name="image")
    x = layers.Flatten(name="flatten")(vgg16.features(image, width=width))
    x = layers.Dense(256, activation="relu", name="dense")(x)
    x = layers.Dropout(0.5, name="dropout")(x)
    x = layers.Dense(units, activation="sigmoid", name="probabilities")(x)
    model = keras.Model(image, x, name="tuberculosis_vgg16")
    vgg16.load_weights(model, backbone_weights)
    return model
