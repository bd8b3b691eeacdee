"""A verified package in, probabilities out."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from models.card import Card
from models.engines.choice import MIXED, choose
from models.engines.engine import Engine
from models.errors import ImageError, ModelError, PackageError
from models.golden import load_golden
from models.preprocessing import FloatArray, prepare
from models.registry import Package
from models.temperature import calibrated

MAX_BATCH = 32
"""No engine is given more images at once."""


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

    Parameters
    ----------
    package
        Whose card says what goes in, and what what comes out means.
    engine
        Computes its network.
    """

    def __init__(self, package: Package, engine: Engine) -> None:
        self.package = package
        self.card: Card = package.card
        self.max_batch = MAX_BATCH
        self._engine = engine

    @classmethod
    def load(cls, package: Package, *, engine: str = "auto", threads: int = 1) -> Self:
        """Check a package's files, then load its network.

        The SHA-256 of every file is compared with the card, and what holds the network is searched for anything but
        plain layers, before an engine opens it.

        Parameters
        ----------
        package
            From a `Registry`.
        engine
            `auto`, `keras`, `onnx` or `keras-mixed`; see `models.engines.choice`.
        threads
            Of ONNX Runtime; TensorFlow has one a core.

        Raises
        ------
        PackageError
            If a file is not the card's, holds what it may not, or the network's shape is not the card's.
        ModelError
            If the engine is unknown or its libraries are missing.
        """
        chosen = choose(package, engine).engine
        package.verify_files()
        if chosen == "onnx":
            from models.engines.onnx import OnnxEngine

            return cls(package, OnnxEngine.load(package, threads=threads))
        from models.engines.keras import KerasEngine

        return cls(package, KerasEngine.load(package, mixed=chosen == MIXED))

    @property
    def engine(self) -> str:
        """Name of what computes: `keras`, `keras-mixed` or `onnx`."""
        return self._engine.name

    @property
    def device(self) -> str:
        """Where: `cpu` or `gpu`."""
        return self._engine.device

    @property
    def network(self) -> Any:
        """The keras.Model.

        Raises
        ------
        ModelError
            If another engine computes.
        """
        from models.engines.keras import KerasEngine

        if not isinstance(self._engine, KerasEngine):
            raise ModelError(f"{self.card.identifier} runs on {self.engine} here; only Keras lets one look inside")
        return self._engine.network

    def warm_up(self) -> Replay:
        """Compute every bucket once and replay the golden pair, so that the first film does not wait.

        Raises
        ------
        PackageError
            If the golden image gives other probabilities than when it was packed.
        """
        shape = self.card.input
        for bucket in self._engine.buckets:
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
            float32 (N, L), labels in the card's order. Whatever an input shares a batch with, it gives the same row:
            within a few 1e-5 by Keras, to the bit by ONNX Runtime where the card says that it was verified.

        Raises
        ------
        ImageError
            If the batch is not of the card's shape, or holds a value that is not finite.
        PackageError
            If the network gives a probability that is none.
        """
        batch = self.checked(batch)
        starts = range(0, len(batch), self.max_batch)
        pieces = [self._computed(batch[start : start + self.max_batch]) for start in starts]
        if len(pieces) == 1:
            result = pieces[0]
        else:
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

    def _computed(self, piece: FloatArray) -> FloatArray:
        """Ask the engine, in a batch padded to the next bucket where it has any, and apply the card's temperature."""
        buckets = self._engine.buckets
        size = next((bucket for bucket in buckets if bucket >= len(piece)), len(piece))
        padded = piece
        if size != len(piece):
            padded = np.zeros((size, *piece.shape[1:]), np.float32)
            padded[: len(piece)] = piece
        given = self._engine.outputs(padded)[: len(piece)]
        return calibrated(given, self.card.temperature, self.card.output)


def _shown(probabilities: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in probabilities.items())
