"""A head on a backbone that stays as it is: the backbone computes each film once, the head alone is trained on that."""

from typing import Any

from models.backend import load_keras
from models.errors import RecipeError


def split_at(model: Any, layer: str) -> tuple[Any, Any]:
    """Split a network after a layer, and freeze what comes before.

    Parameters
    ----------
    model
        keras.Model; its layers are shared, so that training the head trains the network.
    layer
        Name of the last layer of the backbone.

    Returns
    -------
    tuple
        keras.Model from the image to the layer's output, and keras.Model from there to the end.

    Raises
    ------
    RecipeError
        If there is no such layer, or the network cannot be cut there.
    """
    keras = load_keras()
    try:
        cut = model.get_layer(layer).output
        backbone = keras.Model(model.inputs[0], cut)
        head = keras.Model(cut, model.outputs[0])
    except ValueError as error:
        raise RecipeError(f"the head of {model.name} cannot be trained on its layer {layer!r}: {error}") from None
    for kept in backbone.layers:
        kept.trainable = False
    return backbone, head
