"""VGG16, frozen, with a small head on chest films: COVID-19 or normal.

"Automate the process of detecting COVID-19 cases from chest radiograph images, using convolutional neural networks",
tutorial 2: "Model training and exposure of results", 2020.

What the article has wrong, and what is done here:

- Its films with COVID-19 come from one collection, mostly of adults (J. P. Cohen et al., arXiv:2003.11597), its normal
  films from another, of children of one to five years (D. Kermany et al., 2018): the published figure measures how
  well children are told from adults. Here results are given by source and by age group too.
- It prints 117 training and 30 test films and then reports on 55 test films, and says the classes are alike in number
  from the lengths of the arrays. Here every split is counted by class.
- It divides by 255, while the ImageNet weights were made for blue, green, red less their means, in 0 to 255. Kept, as
  published: the head learns on the features as they come (`tuberculosis_vgg16` prepares films as the weights expect).
- Films of one patient may lie on both sides of its random split; here a split is by patient.
- Its confusion matrix is of shares alone; here counts and shares.
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
    """Build the network: VGG16, average pooling 4 x 4, 64 rectified units, dropout, sigmoid.

    Parameters
    ----------
    rows, columns, channels
        Shape of the input, 237 x 237 x 3 in the article; 128 pixels or more a side.
    units
        1: the probability of COVID-19.
    backbone_weights
        Those of VGG16 (`models.architectures.vgg16.load_weights`).
    width
        Channels of VGG16's first block.

    Returns
    -------
    keras.Model
        float32 (N, rows, columns, channels) -> probabilities (N, units). The backbone does not train; what it gives to
        the head is the output of the layer `pooled`.

    Raises
    ------
    RecipeError
        If the backbone weights cannot be had or do not fit.
    """
    keras = load_keras()
    layers = keras.layers
    image = keras.Input((rows, columns, channels), name="image")
    x = vgg16.features(image, width=width)
    x = layers.AveragePooling2D(4, name="pooled")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(64, activation="relu", name="dense")(x)
    x = layers.Dropout(0.2, name="dropout")(x)
    x = layers.Dense(units, activation="sigmoid", name="probabilities")(x)
    model = keras.Model(image, x, name="covid_cxr_vgg16")
    vgg16.load_weights(model, backbone_weights)
    return model
