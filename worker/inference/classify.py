"""Classify: a batch of stored objects in, an outcome for each out; one bad image never costs its neighbours theirs.

`prepare` decodes one object, `score` asks the network about several: `worker.inference_turn` does the one while it does
the other.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

from worker import metrics
from worker.errors import ChildLost, FirstreadError, Never, PixelError
from worker.inference.preview import Preview, write_preview
from worker.logs import get_logger

if TYPE_CHECKING:
    from models.card import Card, Window
    from models.classifier import Classifier
    from worker.inference.pixels import Frame, Prepared

log = get_logger(__name__)

Array = np.ndarray[tuple[int, ...], np.dtype[np.float32]]


Read = TypeVar("Read")


class FrameReader(Protocol):
    """Whatever turns a stored object into pixels; `worker.inference.pixels.PixelReader` does."""

    def read(self, path: Path, frame_policy: str, window: "Window | None" = None) -> "Frame":
        """Return the pixels as displayed, Hounsfield units in a window; or raise `PixelError` or `ChildLost`."""
        ...


class Reader(Protocol):
    """Whatever turns a stored object into a network's input; `worker.inference.readers.PixelReaders` does.

    Attributes
    ----------
    count
        How many objects are read at once where several threads ask.
    """

    count: int

    def prepared(self, path: Path, card: "Card", keep: Callable[[Preview], None]) -> "Prepared":
        """Return the input, and hand the preview to `keep`, then or soon; or raise `PixelError` or `ChildLost`."""
        ...


@dataclass(frozen=True)
class Task:
    """One object to classify, and where its preview goes.

    Attributes
    ----------
    locate
        Says where the bytes lie now, None where they are gone: intake may file them away at any moment.
    """

    locate: Callable[[], Path | None]
    preview: Path


@dataclass(frozen=True)
class Outcome:
    """What came of one object: probabilities by label, or an error.

    Attributes
    ----------
    error
        `Never`: it will be the same next time. Anything else may heal.
    recipe
        How the pixels were made ready, in words: the card's preprocessing recipe, and the window where one was applied.
    """

    probabilities: dict[str, float] | None = None
    error: FirstreadError | None = None
    note: str = ""
    recipe: str = ""
    decode_seconds: float = 0.0
    inference_seconds: float = 0.0
    batch_size: int = 0


class NotReadNow(FirstreadError):
    """Something of this machine was in the way of reading an object; it may be gone the next time."""


class ClassificationFailed(FirstreadError):
    """The network could not be run over an image; it may be the image, it may be the machine."""


@dataclass(frozen=True)
class Input:
    """An object ready for the network, or why it is not.

    Attributes
    ----------
    image
        float32 (H, W, C), the network's input; None where there is an error.
    error
        `Never`: it will be the same next time. Anything else may heal.
    """

    image: Array | None = None
    error: FirstreadError | None = None
    note: str = ""
    recipe: str = ""
    decode_seconds: float = 0.0


def prepare(task: Task, classifier: "Classifier", reader: Reader) -> Input:
    """Decode an object and make the network's input of it; may be called by several threads at once."""
    started = time.perf_counter()
    try:
        image, note, recipe = _prepare(task, classifier, reader)
    except (Never, ChildLost) as error:
        return Input(error=error, decode_seconds=time.perf_counter() - started)
    except (OSError, MemoryError, RuntimeError) as error:
        # No memory, no thread, a disk that is ill: its neighbours may have been luckier.
        failure = NotReadNow(f"it could not be read just now ({error})")
        return Input(error=failure, decode_seconds=time.perf_counter() - started)
    return Input(image, None, note, recipe, time.perf_counter() - started)


def score(objects: Sequence[Input], classifier: "Classifier") -> list[Outcome]:
    """Classify objects together, as many at once as the classifier takes.

    Returns
    -------
    list of Outcome
        One for each object, in order.
    """
    outcomes = {
        index: Outcome(error=prepared.error, decode_seconds=prepared.decode_seconds)
        for index, prepared in enumerate(objects)
        if prepared.image is None
    }
    ready = [(index, prepared, prepared.image) for index, prepared in enumerate(objects) if prepared.image is not None]
    for start in range(0, len(ready), classifier.max_batch):
        batch = ready[start : start + classifier.max_batch]
        started = time.perf_counter()
        scored = _scored(np.stack([image for _, _, image in batch]), classifier)
        seconds = (time.perf_counter() - started) / len(batch)
        metrics.batch_size.observe(len(batch))
        for (index, prepared, _), scores in zip(batch, scored, strict=True):
            probabilities, failure = _checked(scores, classifier)
            outcomes[index] = Outcome(
                probabilities, failure, prepared.note, prepared.recipe, prepared.decode_seconds, seconds, len(batch)
            )
    return [outcomes[index] for index in range(len(objects))]


def _prepare(task: Task, classifier: "Classifier", reader: Reader) -> tuple[Array, str, str]:
    card, keep = classifier.card, partial(_keep_preview, task.preview)
    prepared = _wherever(task.locate, lambda path: reader.prepared(path, card, keep))
    return prepared.image, prepared.note, _recipe(card, windowed=prepared.windowed)


def _keep_preview(path: Path, preview: Preview) -> None:
    try:
        write_preview(preview, path)
    except OSError as error:  # a full disk costs the picture on the page, not the result
        log.warning("preview_not_written", path=path.name, error=str(error))


def read_frame(locate: Callable[[], Path | None], card: "Card", reader: FrameReader) -> tuple["Frame", str]:
    """Read an object as a network is shown it.

    Parameters
    ----------
    locate
        As in `Task`.

    Returns
    -------
    tuple
        The frame, and how it is made ready, in words: the preprocessing recipe, and the window where one was applied.

    Raises
    ------
    PixelError
        The object cannot be decoded, or its bytes are gone.
    ChildLost
        The decoding child cannot be started; the object may be fine.
    """
    frame = _wherever(locate, lambda path: reader.read(path, card.frame_policy, card.window))
    return frame, _recipe(card, windowed=frame.windowed)


def _recipe(card: "Card", *, windowed: bool) -> str:
    return f"{card.recipe}, shown at {card.window}" if windowed else card.recipe


def _wherever(locate: Callable[[], Path | None], read: Callable[[Path], Read]) -> Read:
    """Read an object that may be filed away at any moment."""
    path = locate()
    while path is not None:
        try:
            return read(path)
        except (PixelError, FileNotFoundError):
            if path.exists():
                raise
            path = locate()  # it was filed away between the look and the read
    raise PixelError("the stored bytes are gone from the spool; restore them, or send the object again")


def _scored(batch: Array, classifier: "Classifier") -> list[Array | Exception]:
    """Return the scores of each image; after a failure the batch is halved until the culprit stands alone."""
    try:
        return list(classifier.probabilities(batch))
    except Exception as error:  # noqa: BLE001 - TensorFlow raises anything; the culprit is isolated and its failure kept
        if len(batch) == 1:
            return [error]
        log.warning("batch_failed", size=len(batch), error=str(error)[:200])
        half = len(batch) // 2
        return _scored(batch[:half], classifier) + _scored(batch[half:], classifier)


def _checked(
    scores: Array | Exception, classifier: "Classifier"
) -> tuple[dict[str, float] | None, ClassificationFailed | None]:
    if isinstance(scores, Exception):
        words = f"the model failed on this image ({type(scores).__name__}: {str(scores)[:200]})"
        return None, ClassificationFailed(words)
    if not np.isfinite(scores).all():
        return None, ClassificationFailed("the model gave no number for this image (NaN or infinite)")
    labels = [label.name for label in classifier.card.labels]
    return {name: float(score) for name, score in zip(labels, scores, strict=True)}, None
