"""A Keras network as an ONNX file, by tf2onnx: the exporter that Keras' own `Model.export` calls.

Called directly, with the weights as inputs of the graph that are made constants of the file afterwards. So each weight
stands in the file as it is in Keras, bit for bit, and the exporter's optimiser never holds one: as constants, the 119
million weights of a dense layer took it more than 18 GB and were not done in two minutes; so, 3 GB and 11 s.
"""

import logging
import warnings
from typing import Any

from models.backend import keras_arrays, load_backend
from models.errors import ModelError

OPSET = 17
"""Version of the standard's operators: one that the exporter is tested with and runtimes of years ago know."""


def export(network: Any) -> bytes:
    """Export a network.

    Parameters
    ----------
    network
        keras.Model of one input, float32 (N, H, W, C), and one output, (N, U).

    Returns
    -------
    bytes
        The ONNX file: input `image`, N any.

    Raises
    ------
    ModelError
        If the exporter is not installed, or knows no form of a layer.
    """
    try:
        import tf2onnx
        from onnx import numpy_helper
    except ModuleNotFoundError as error:
        raise ModelError(f"{error.name} is not installed; install firstread[onnx]") from None
    keras, tf = load_backend()
    trained, others = network.trainable_variables, network.non_trainable_variables
    weights = {f"weight{number}": variable for number, variable in enumerate([*trained, *others])}
    image = tf.TensorSpec((None, *network.input_shape[1:]), tf.float32, name="image")
    signature = [image, *(tf.TensorSpec(each.shape, each.dtype, name=name) for name, each in weights.items())]

    @tf.function(input_signature=signature)  # type: ignore[untyped-decorator]
    def step(image: Any, *values: Any) -> Any:
        return network.stateless_call(values[: len(trained)], values[len(trained) :], image, training=False)[0]

    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's, of NumPy and of TensorFlow
        try:
            model, _ = tf2onnx.convert.from_function(step, input_signature=signature, opset=OPSET)
        except Exception as error:  # noqa: BLE001 - it raises anything; all mean: not this network
            raise ModelError(f"the network cannot be exported to ONNX: {error}") from None
    sides = {side.name: side for side in model.graph.input}
    del model.graph.input[:]
    model.graph.input.append(sides.pop("image"))
    with keras_arrays():
        for name in sides:
            value = keras.ops.convert_to_numpy(weights[name])
            model.graph.initializer.append(numpy_helper.from_array(value, name))
    try:
        content: bytes = model.SerializeToString()
    except ValueError as error:  # Protocol Buffers end at 2 GiB
        raise ModelError(f"the network is too large for one ONNX file: {error}") from None
    return content
