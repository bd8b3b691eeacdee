"""A network opened up: its last maps and the log-odds of its labels, beside the probabilities it was made to give."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from models.backend import keras_arrays, load_backend

CONVOLUTIONS = frozenset({"Conv2D", "DepthwiseConv2D", "SeparableConv2D"})

THINNING = frozenset({"MaxPooling2D", "AveragePooling2D", "Dropout", "SpatialDropout2D"})
"""Layers that only thin out what the layer before them found, whose own map is the finer one."""

DISPLACING = frozenset({"Cropping2D", "Permute", "Reshape"})
"""After such a layer a place in a map is no longer the same place in the image."""

TINY = 1e-30
"""Added to a probability before its logarithm; not clipped to, which would have no gradient."""


@dataclass(frozen=True)
class Tapped:
    """A network that shares its weights with the one it was made of.

    `layer` is the name of the layer whose maps are read, None where no convolution says where things are. `log_odds`
    takes float32 (N, H, W, C) and int32 (N,), positions of labels, and returns float32 (N,). `maps` takes the same and
    returns the layer's output, float32 (N, h, w, K), and the gradient of the log-odds to it, of the same shape. Neither
    is traced twice, whatever N.
    """

    layer: str | None
    log_odds: Callable[[Any, Any], Any]
    maps: Callable[[Any, Any], Any] | None


@dataclass(frozen=True)
class _Step:
    layer: Any
    taken: Any
    given: Any


def tapped(model: Any, output: Literal["softmax", "sigmoid", "binary"]) -> Tapped:
    """Open a network up.

    Parameters
    ----------
    model
        keras.Model, functional or sequential, with others of the kind in it or not.
    output
        What its last layer gives, as in the card.
    """
    keras, tf = load_backend()
    image = keras.Input(model.input_shape[1:])
    steps: list[_Step] = []
    result = _unfolded(keras, model, image, steps)
    scores, are_logits = _scores(keras, steps, result)
    last = _last_map(steps)
    shapes = [tf.TensorSpec((None, *model.input_shape[1:]), tf.float32), tf.TensorSpec((None,), tf.int32)]
    head = keras.Model(image, scores)

    @tf.function(input_signature=shapes)  # type: ignore[untyped-decorator]
    def log_odds(batch: Any, labels: Any) -> Any:
        return _log_odds(tf, head(batch, training=False), labels, output, are_logits=are_logits)

    if last is None:
        return Tapped(None, log_odds, None)
    both = keras.Model(image, [last.given, scores])

    @tf.function(input_signature=shapes)  # type: ignore[untyped-decorator]
    def maps(batch: Any, labels: Any) -> Any:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(batch)  # the weights may be frozen: without it nothing would be recorded
            found, z = both(batch, training=False)
            odds = _log_odds(tf, z, labels, output, are_logits=are_logits)
        return found, tape.gradient(odds, found, unconnected_gradients=tf.UnconnectedGradients.ZERO)

    return Tapped(last.layer.name, log_odds, maps)


def _unfolded(keras: Any, model: Any, taken: Any, steps: list[_Step]) -> Any:
    """Call a network's layers one by one, those of a network in it too, noting each; return the result."""

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(layer, keras.Model):
            return _unfolded(keras, layer, args[0], steps)
        given = layer(*args, **kwargs)
        steps.append(_Step(layer, args[0], given))
        return given

    if isinstance(model, keras.Sequential):
        for layer in model.layers:
            taken = call(layer, taken)
        return taken
    copy = keras.models.clone_model(model, input_tensors=taken, clone_function=lambda layer: layer, call_function=call)
    return copy.output


def _scores(keras: Any, steps: list[_Step], result: Any) -> tuple[Any, bool]:
    """Return what stands before the last activation, and True; else the probabilities, and False.

    A probability near 1 has lost in float32 what the network was more or less sure of; its logit has not.
    """
    last = next((step for step in steps if step.given is result), None)
    if last is None:
        return result, False
    kind, layer = type(last.layer).__name__, last.layer
    squashing = getattr(layer, "activation", None) in {keras.activations.softmax, keras.activations.sigmoid}
    if kind == "Softmax" or (kind == "Activation" and squashing):
        return last.taken, True
    if kind == "Dense" and squashing:
        linear = keras.layers.Dense(layer.units, use_bias=layer.use_bias, dtype=layer.dtype_policy)
        logits = linear(last.taken)
        with keras_arrays():
            linear.set_weights(layer.get_weights())
        return logits, True
    return result, False


def _last_map(steps: list[_Step]) -> _Step | None:
    """Return the last step with spatial extent that a convolution had a part in, the finer one before any pooling.

    For VGG16 that is the last convolution of its fifth block, as in the article on Grad-CAM.
    """
    chosen, convolved = None, False
    for step in steps:
        shape = getattr(step.given, "shape", ())
        if len(shape) != 4 or min(shape[1:3]) < 2:
            continue
        kind = type(step.layer).__name__
        if kind in DISPLACING:
            break
        convolved = convolved or kind in CONVOLUTIONS
        if convolved and kind not in THINNING:
            chosen = step
    return chosen


def _log_odds(tf: Any, scores: Any, labels: Any, output: str, *, are_logits: bool) -> Any:
    """Logarithm of p / (1 - p) of a label each.

    Of a softmax that is the logit less the log-sum-exp of the others: a softmax does not change when all logits move
    together, so a logit alone says nothing.
    """
    if output == "softmax":
        logits = scores if are_logits else tf.math.log(scores + TINY)
        own = tf.one_hot(labels, tf.shape(logits)[1], on_value=True, off_value=False, dtype=tf.bool)
        others = tf.reduce_logsumexp(tf.where(own, tf.constant(-1e30, logits.dtype), logits), axis=1)
        return tf.gather(logits, labels, batch_dims=1) - others
    logits = scores if are_logits else tf.math.log(scores + TINY) - tf.math.log(1.0 - scores + TINY)
    if output == "binary":
        return tf.where(labels == 1, logits[:, 0], -logits[:, 0])
    return tf.gather(logits, labels, batch_dims=1)
