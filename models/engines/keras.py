"""Keras on TensorFlow, the reference: one compiled function for each size of batch."""

import threading
from typing import Any, Self

from models.archive import check_archive
from models.backend import load_backend
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
    """

    name = "keras"
    buckets = BUCKETS

    def __init__(self, network: Any) -> None:
        _, tf = load_backend()
        self.network = network
        self.device = "gpu" if tf.config.list_logical_devices("GPU") else "cpu"
        self._functions = {bucket: _compiled(tf, network, bucket) for bucket in BUCKETS}
        self._concrete: dict[int, Any] = {}
        self._tracing = threading.Lock()

    @classmethod
    def load(cls, package: Package) -> Self:
        """Load a package's network: its archive is searched for anything but plain layers before Keras opens it.

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
        return cls(network)

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
        return network(batch, training=False)

    return step
