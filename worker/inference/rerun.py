"""Classify a stored object once more, with a model that is named, in a batch of a given size."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from models.errors import ModelError
from worker.errors import PackageError
from worker.inference.classify import FrameReader, read_frame
from worker.inference.environment import environment

if TYPE_CHECKING:
    from models.classifier import Classifier


@dataclass(frozen=True)
class Rerun:
    """What came of it, and with what."""

    probabilities: dict[str, float]
    recipe: str
    weights_sha256: str
    engine: str
    device: str
    environment: dict[str, Any]


class Rerunner:
    """Runs models again.

    Parameters
    ----------
    load
        Gives the classifier `name@version`, verified, on an engine where that can be had; raises a `ModelError` when
        it is not here or not whole.
    reader
        Reads pixels, as in service.
    """

    def __init__(self, load: "Callable[[str, str], Classifier]", reader: FrameReader) -> None:
        self._load = load
        self._reader = reader

    def run(self, model: str, path: Path, batch_size: int, engine: str) -> Rerun:
        """Classify one object.

        Parameters
        ----------
        batch_size
            The image is given to the network so many times at once: TensorFlow computes batches of different sizes in
            different orders.
        engine
            `keras` or `onnx`; another one computes where it is not here.

        Raises
        ------
        PackageError
            When the model is not installed, or not whole.
        PixelError
            When the object cannot be decoded.
        """
        try:
            classifier = self._load(model, engine)
            frame, recipe = read_frame(lambda: path, classifier.card, self._reader)
            batch = np.stack([classifier.prepare(frame.image)] * max(1, min(batch_size, classifier.max_batch)))
            scores = classifier.probabilities(batch)[0]
        except ModelError as error:
            raise PackageError(str(error)) from None
        labels = [label.name for label in classifier.card.labels]
        return Rerun(
            probabilities={name: float(score) for name, score in zip(labels, scores, strict=True)},
            recipe=recipe,
            weights_sha256=classifier.card.weights_sha256,
            engine=classifier.engine,
            device=classifier.device,
            environment=environment(classifier.card, classifier.engine),
        )
