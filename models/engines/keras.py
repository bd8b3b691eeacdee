"""Keras on TensorFlow, the reference: one compiled function for each size of batch."""

import threading
from typing import Any, Self

from models.archive import check_archive
from models.backend import keras_arrays, load_backend, load_keras
from models.engines.choice import MIXED
from models.errors import PackageError
from models.preprocessing import FloatArray
from models.registry import Package

BUCKETS = (1, 2, 4, 8, 16, 32)
"""Batch sizes that are computed; a batch in between is padded to the next one, so that nothing is ever retraced."""


class KerasEngine:
    """A Keras network on TensorFlow.

    Parameters
    ----------
    network
        keras.Model of one input, float32 (N, H, W, C), and one output, (N, U).
    mixed
        Compute in mixed precision: a copy of the network, its weights in float32, does.
    """

    buckets = BUCKETS

    def __init__(self, network: Any, *, mixed: bool = False) -> None:
        _, tf = load_backend()
        self.name = MIXED if mixed else "keras"
        self.network = network = in_mixed_precision(network) if mixed else network
        self.device = "gpu" if tf.config.list_logical_devices("GPU") else "cpu"
        self._functions = {bucket: _compiled(tf, network, bucket) for bucket in BUCKETS}
        self._concrete: dict[int, Any] = {}
        self._tracing = threading.Lock()

    @classmethod
    def load(cls, package: Package, *, mixed: bool = False) -> Self:
        """Load a package's network: its archive is searched for anything but plain layers before Keras opens it.

        Parameters
        ----------
        mixed
            Compute in mixed precision.

        Raises
        ------
        PackageError
            If the archive holds what it may not, or the network's shape is not the card's.
        ModelError
            If TensorFlow is not installed.
        """
        check_archive(package.weights)
        keras, _ = load_backend()
        try:
            network = keras.models.load_model(package.weights, compile=False, safe_mode=True)
        except (ValueError, TypeError, OSError, KeyError) as error:  # what Keras raises on what is no network
            raise PackageError(f"{package.weights}: Keras cannot load it: {error}") from None
        card = package.card
        takes, gives = (None, card.input.rows, card.input.columns, card.input.channels), (None, card.units)
        taken, given = (getattr(network, side, "anything") for side in ("input_shape", "output_shape"))
        if taken != takes:  # a Sequential without an Input has no shape at all
            raise PackageError(f"{package.weights}: the network takes {taken}, the card's field input says {takes}")
        if given != gives:
            raise PackageError(
                f"{package.weights}: the network gives {given}, the card's fields output and labels say {gives}"
            )
        return cls(network, mixed=mixed)

    def outputs(self, batch: FloatArray) -> FloatArray:
        """Compute a batch of one of the `buckets`.

        The same input gives the same row within a few 1e-5 whatever it shares a batch with: TensorFlow computes batches
        of different sizes in different orders.
        """
        _, tf = load_backend()
        result: FloatArray = self._concrete_function(len(batch))(tf.constant(batch)).numpy()
        return result

    def traces(self) -> int:
        """How often TensorFlow has traced the network: at most once a bucket, however batches vary."""
        return sum(function.experimental_get_tracing_count() for function in self._functions.values())

    def _concrete_function(self, size: int) -> Any:
        """Trace a batch size when it is first asked for, once, whichever thread asks."""
        with self._tracing:
            if size not in self._concrete:
                self._concrete[size] = self._functions[size].get_concrete_function()
            return self._concrete[size]


def _compiled(tf: Any, network: Any, bucket: int) -> Any:
    """One `tf.function` of fixed input signature for a batch size."""

    @tf.function(input_signature=[tf.TensorSpec((bucket, *network.input_shape[1:]), tf.float32)])  # type: ignore[untyped-decorator]
    def step(batch: Any) -> Any:
        return tf.cast(network(batch, training=False), tf.float32)  # which it is, but for a last layer of float16

    return step


def in_mixed_precision(network: Any) -> Any:
    """Copy a network so that its layers compute in float16; weights and the last layer stay float32.

    Keras' guide to mixed precision keeps the last layer in float32: a softmax of float16 has no small probabilities.

    Parameters
    ----------
    network
        keras.Model of plain layers.

    Returns
    -------
    keras.Model
    """
    keras = load_keras()
    last = network.layers[-1]  # they stand in the order of their depth

    def copied(layer: Any) -> Any:
        config = layer.get_config()
        if layer is not last and not isinstance(layer, keras.layers.InputLayer):
            config["dtype"] = "mixed_float16"
        return type(layer).from_config(config)

    mixed = keras.models.clone_model(network, clone_function=copied, recursive=True)
    with keras_arrays():
        mixed.set_weights(network.get_weights())
    return mixed
