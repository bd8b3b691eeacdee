"""A verified package in, probabilities out."""

import threading
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from models.archive import check_archive
from models.backend import load_backend
from models.card import Card
from models.errors import ImageError, ModelError, PackageError
from models.golden import load_golden
from models.preprocessing import FloatArray, prepare
from models.registry import Package

BUCKETS = (1, 2, 4, 8, 16, 32)
"""Batch sizes that are computed; a batch in between is padded to the next one, so that nothing is ever retraced."""

ENGINES = ("auto", "keras")


@dataclass(frozen=True)
class Replay:
    """What the golden image gave here."""

    expected: dict[str, float]
    found: dict[str, float]
    difference: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether every probability is within the card's tolerance."""
        return self.difference <= self.tolerance


class Classifier:
    """A network with its card, ready to be asked.

    Make one with `Classifier.load`. It belongs to one process (CUDA does not survive a fork) and may be used by
    several threads of it.
    """

    def __init__(self, package: Package, model: Any) -> None:
        _, tf = load_backend()
        self.package = package
        self.card: Card = package.card
        self.network = model
        self.engine = "keras"
        self.max_batch = BUCKETS[-1]
        gpus = tf.config.list_logical_devices("GPU")
        self.device = "gpu" if gpus else "cpu"
        self._functions = {bucket: _compiled(tf, model, self.card, bucket) for bucket in BUCKETS}
        self._concrete: dict[int, Any] = {}
        self._tracing = threading.Lock()

    @classmethod
    def load(cls, package: Package, *, engine: str = "auto") -> Self:
        """Check a package's files, then load its network.

        The SHA-256 of the weights is compared with the card, and the archive is searched for anything but plain
        layers, before Keras opens it.

        Parameters
        ----------
        package
            From a `Registry`.
        engine
            `auto` or `keras`.

        Raises
        ------
        PackageError
            If a file is not the card's, the archive holds what it may not, or the network's shape is not the card's.
        ModelError
            If the engine is unknown or its libraries are missing.
        """
        if engine not in ENGINES:
            raise ModelError(f"engine {engine!r} is not here; there are: {', '.join(ENGINES)}")
        package.verify_files()
        check_archive(package.weights)
        keras, _ = load_backend()
        try:
            model = keras.models.load_model(package.weights, compile=False, safe_mode=True)
        except (ValueError, TypeError, OSError, KeyError) as error:  # what Keras raises on what is no network
            raise PackageError(f"{package.weights}: Keras cannot load it: {error}") from None
        card = package.card
        takes, gives = (None, card.input.rows, card.input.columns, card.input.channels), (None, card.units)
        taken, given = (getattr(model, side, "anything") for side in ("input_shape", "output_shape"))
        if taken != takes:  # a Sequential without an Input has no shape at all
            raise PackageError(f"{package.weights}: the network takes {taken}, the card's field input says {takes}")
        if given != gives:
            raise PackageError(
                f"{package.weights}: the network gives {given}, the card's fields output and labels say {gives}"
            )
        return cls(package, model)

    def warm_up(self) -> Replay:
        """Compute every batch size once and replay the golden pair, so that the first film does not wait.

        Raises
        ------
        PackageError
            If the golden image gives other probabilities than when it was packed.
        """
        shape = self.card.input
        for bucket in BUCKETS:
            self.probabilities(np.zeros((bucket, shape.rows, shape.columns, shape.channels), np.float32))
        replay = self.replay()
        if not replay.passed:
            raise PackageError(
                f"{self.card.identifier} gives other probabilities here than when it was packed: they differ by"
                f" {replay.difference:.2g}, the card allows {replay.tolerance:g}; expected {_shown(replay.expected)},"
                f" found {_shown(replay.found)}; compare the installed libraries with the card's"
            )
        return replay

    def replay(self) -> Replay:
        """Ask for the golden image and compare.

        Raises
        ------
        PackageError
            If the golden pair cannot be read.
        """
        names = [label.name for label in self.card.labels]
        image, expected = load_golden(self.package.golden, len(names))
        found = self.probabilities(self.prepare(image)[np.newaxis])[0]
        difference = float(np.abs(found - expected).max())
        return Replay(
            expected=dict(zip(names, map(float, expected), strict=True)),
            found=dict(zip(names, map(float, found), strict=True)),
            difference=difference,
            tolerance=self.card.tolerance,
        )

    def prepare(self, image: FloatArray) -> FloatArray:
        """Make the network's input of one image: float32 (rows, columns) 0 to 255 in, float32 (H, W, C) out.

        Raises
        ------
        ImageError
            If the image is not two-dimensional, is empty or not finite.
        """
        shape = self.card.input
        return prepare(self.card.recipe, image, shape.rows, shape.columns, shape.channels)

    def probabilities(self, batch: FloatArray) -> FloatArray:
        """Probability of every label for every input.

        Parameters
        ----------
        batch
            float32 (N, H, W, C) from `prepare`; N may be anything, more than `max_batch` is cut into pieces.

        Returns
        -------
        FloatArray
            float32 (N, L), labels in the card's order. The same input gives the same row within a few 1e-5 whatever it
            shares a batch with: TensorFlow computes batches of different sizes in different orders.

        Raises
        ------
        ImageError
            If the batch is not of the card's shape, or holds a value that is not finite.
        PackageError
            If the network gives a probability that is none.
        """
        batch = self.checked(batch)
        pieces = [self._bucket(batch[start : start + self.max_batch]) for start in range(0, len(batch), self.max_batch)]
        result = np.concatenate(pieces) if pieces else np.empty((0, len(self.card.labels)), np.float32)
        if not np.isfinite(result).all():
            raise PackageError(f"{self.card.identifier} gave a probability that is not a number")
        return result

    def checked(self, batch: FloatArray) -> FloatArray:
        """Return a batch that the network may be given, float32 (N, H, W, C).

        Raises
        ------
        ImageError
            If the batch is not of the card's shape, or holds a value that is not finite.
        """
        shape = self.card.input
        batch = np.asarray(batch, dtype=np.float32)
        if batch.ndim != 4 or batch.shape[1:] != (shape.rows, shape.columns, shape.channels):
            raise ImageError(
                f"a batch of shape {batch.shape} is not (N, {shape.rows}, {shape.columns}, {shape.channels})"
            )
        if not np.isfinite(batch).all():  # a convolution with ReLU would make a plausible probability of it
            raise ImageError("the batch holds values that are not finite (NaN or infinity)")
        return batch

    def _bucket(self, piece: FloatArray) -> FloatArray:
        _, tf = load_backend()
        size = next(bucket for bucket in BUCKETS if bucket >= len(piece))
        padded = piece
        if size != len(piece):
            padded = np.zeros((size, *piece.shape[1:]), np.float32)
            padded[: len(piece)] = piece
        result: FloatArray = self._concrete_function(size)(tf.constant(padded)).numpy()
        return result[: len(piece)]

    def _concrete_function(self, size: int) -> Any:
        """Trace a batch size when it is first asked for, once, whichever thread asks."""
        with self._tracing:
            if size not in self._concrete:
                self._concrete[size] = self._functions[size].get_concrete_function()
            return self._concrete[size]

    def traces(self) -> int:
        """How often TensorFlow has traced the network: at most once a bucket, however batches vary."""
        return sum(function.experimental_get_tracing_count() for function in self._functions.values())


def _compiled(tf: Any, model: Any, card: Card, bucket: int) -> Any:
    """One `tf.function` of fixed input signature for a batch size."""
    shape = (bucket, card.input.rows, card.input.columns, card.input.channels)

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32)])  # type: ignore[untyped-decorator]
    def step(batch: Any) -> Any:
        return _tempered(tf, model(batch, training=False), card)

    return step


def _tempered(tf: Any, probabilities: Any, card: Card) -> Any:
    """Apply the card's temperature (C. Guo et al., "On Calibration of Modern Neural Networks", ICML 2017).

    The logits are taken back from the probabilities: up to a constant, which the softmax drops, they are the logarithm.
    """
    if card.output == "binary":
        probabilities = tf.concat([1.0 - probabilities, probabilities], axis=-1)  # which is a softmax over the two
    if card.temperature == 1.0:
        return probabilities
    tiny = 1e-12  # added, not clipped to: clipping would turn NaN into a probability
    logarithm = tf.math.log(probabilities + tiny)
    if card.output in {"softmax", "binary"}:
        return tf.nn.softmax(logarithm / card.temperature)
    return tf.math.sigmoid((logarithm - tf.math.log(1.0 - probabilities + tiny)) / card.temperature)


def _shown(probabilities: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in probabilities.items())
