"""Many files, one record each: what is asked of a classifier outside the pipeline."""

import csv
import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NotRequired, TypedDict, final

import numpy as np

from models.card import Card
from models.classifier import Classifier
from models.errors import ModelError
from models.preprocessing import FloatArray
from models.registry import Package


@final
class Prediction(TypedDict):
    """A file and what a model says of it; a remark where that is to be read with care."""

    file: str
    model: str
    model_version: str
    probabilities: dict[str, float]
    flagged: list[str]
    remark: NotRequired[str]


@final
class Failure(TypedDict):
    """A file, and why there is no prediction."""

    file: str
    error: str


@final
class ArticleRecord(TypedDict):
    """What the function at the end of "Tuberculosis detection" gives of an image, with these two names."""

    Probability: float
    Disease: str


class UnusableFileError(ModelError):
    """A file that no classifier can be asked about; raised by whoever opens files for `predict`."""


Record = Prediction | Failure
Open = Callable[[Path], Sequence[tuple[Package, FloatArray]]]
"""From a file to the packages that are to see it, each with the image; raises `ModelError`."""


@dataclass
class _Waiting:
    record: int
    file: str
    image: FloatArray


def files_under(paths: Iterable[Path]) -> tuple[list[Path], list[Failure]]:
    """List files as given, and in place of a folder all files under it, sorted, without hidden ones.

    Links to folders are followed, each folder once, so that a link to a folder above ends.

    Returns
    -------
    tuple
        The files; and the folders that could not be listed, each with the reason.
    """
    found: list[Path] = []
    failures: list[Failure] = []
    for path in paths:
        if _holds(path.is_dir, otherwise=False):
            found += sorted(_walked(path, failures))
        else:
            found.append(path)
    return found, failures


def _walked(root: Path, failures: list[Failure]) -> Iterator[Path]:
    def unlisted(error: OSError) -> None:
        failures.append(Failure(file=str(error.filename), error=f"this folder cannot be listed: {error.strerror}"))

    seen: set[tuple[int, int]] = set()
    for folder, inside, files in os.walk(root, onerror=unlisted, followlinks=True):
        status = Path(folder).stat()
        if (status.st_dev, status.st_ino) in seen:  # its files are there already, by another name
            inside.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        inside[:] = sorted(name for name in inside if not name.startswith("."))
        for name in files:
            file = Path(folder, name)
            # a link that leads nowhere, and what cannot be looked at, is kept: whoever opens it says what is wrong
            if not name.startswith(".") and (
                _holds(file.is_symlink, otherwise=True) or _holds(file.is_file, otherwise=True)
            ):
                yield file


def _holds(question: Callable[[], bool], *, otherwise: bool) -> bool:
    """Ask something of a path; `otherwise` where its folder may not be entered."""
    try:
        return question()
    except OSError:
        return otherwise


def predict(
    files: Sequence[Path],
    open_file: Open,
    load: Callable[[Package], Classifier],
    *,
    watch: Callable[[int, int], None] = lambda _done, _total: None,
) -> list[Record]:
    """Ask classifiers about files, in batches; of the images, no more than a batch a package is held at a time.

    Parameters
    ----------
    files
        In the order of the result.
    open_file
        Chooses the packages and reads the image.
    load
        From a package to its classifier; called once a package.
    watch
        Called with the files done and their total.

    Returns
    -------
    list of Record
        One a file (one a model, where a file goes to several), a `Failure` in the place of what cannot be read.
    """
    records: list[Record] = []
    waiting: dict[str, list[_Waiting]] = {}
    classifiers: dict[str, Classifier | ModelError] = {}
    for done, path in enumerate(files, start=1):
        try:
            for package, image in open_file(path):
                if package.identifier not in classifiers:
                    classifiers[package.identifier] = _loaded(package, load)
                classifier = classifiers[package.identifier]
                if isinstance(classifier, ModelError):
                    raise classifier  # the one failure stands for every file that needs this package
                prepared = classifier.prepare(image)
                queue = waiting.setdefault(package.identifier, [])
                queue.append(_Waiting(len(records), str(path), prepared))
                records.append(Failure(file=str(path), error="not classified"))
                if len(queue) == classifier.max_batch:
                    _classify(classifier, queue, records)
        except ModelError as error:
            records.append(Failure(file=str(path), error=str(error)))
        except OSError as error:
            records.append(Failure(file=str(path), error=error.strerror or str(error)))
        watch(done, len(files))
    for identifier, queue in waiting.items():
        classifier = classifiers[identifier]
        if not isinstance(classifier, ModelError):
            _classify(classifier, queue, records)
    return records


def _loaded(package: Package, load: Callable[[Package], Classifier]) -> Classifier | ModelError:
    """Load once; a package that cannot be loaded is not hashed and tried again for every file."""
    try:
        return load(package)
    except ModelError as error:
        return error


def _classify(classifier: Classifier, queue: list[_Waiting], records: list[Record]) -> None:
    """Classify what waits, put each result in its place, and empty the queue."""
    if not queue:
        return
    card = classifier.card
    try:
        rows = classifier.probabilities(np.stack([item.image for item in queue]))
    except ModelError as error:
        for item in queue:
            records[item.record] = Failure(file=item.file, error=str(error))
        queue.clear()
        return
    for item, row in zip(queue, rows, strict=True):
        probabilities = {label.name: round(float(p), 6) for label, p in zip(card.labels, row, strict=True)}
        records[item.record] = Prediction(
            file=item.file,
            model=card.name,
            model_version=card.version,
            probabilities=probabilities,
            flagged=card.flagged({label.name: float(p) for label, p in zip(card.labels, row, strict=True)}),
        )
    queue.clear()


def article_record(prediction: Prediction, card: Card) -> ArticleRecord:
    """Put a prediction as the article on tuberculosis does: one disease, and how probable it is.

    The article names its disease from a probability of one half on and otherwise says healthy, with the probability of
    the disease beside either. Here the most probable label is named, `normal` among them, with its own probability;
    where the labels are independent and all are diseases, none of which reaches one half, that is `normal` too. Flags
    follow the thresholds of the card, so a finding may be flagged in a film that is called normal here.
    """
    probabilities = prediction["probabilities"]
    name = max(probabilities, key=lambda label: probabilities[label])
    probability = probabilities[name]
    if card.output == "sigmoid" and probability < 0.5 and all(label.finding for label in card.labels):
        return ArticleRecord(Probability=round(1 - probability, 6), Disease="normal")
    return ArticleRecord(Probability=probability, Disease=name)


def csv_text(records: Sequence[Record]) -> str:
    """Lay out records as CSV: file, model, model_version, a column a label, flagged, error.

    The labels are those of all models together; what a model does not know, and everything of a file that could not be
    read, is empty. Flagged labels are separated by semicolons. A text that begins as a formula does (=, +, -, @) gets
    an apostrophe before it, lest a spreadsheet run what somebody wrote into a file's name.
    """
    predicted = [record for record in records if "error" not in record]
    labels = list(dict.fromkeys(label for record in predicted for label in record["probabilities"]))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["file", "model", "model_version", *map(as_text, labels), "flagged", "error"])
    for record in records:
        if "error" in record:
            writer.writerow([as_text(record["file"]), "", "", *[""] * len(labels), "", as_text(record["error"])])
            continue
        values = [record["probabilities"].get(label, "") for label in labels]
        flagged = as_text(";".join(record["flagged"]))
        writer.writerow([as_text(record["file"]), record["model"], record["model_version"], *values, flagged, ""])
    return text.getvalue()


def as_text(cell: str) -> str:
    """Keep a spreadsheet from taking a cell for a formula (OWASP, "CSV Injection"), or a return for a row's end."""
    whole = cell.replace("\r", r"\r")  # `csv` does not quote it
    return f"'{whole}" if whole.startswith(("=", "+", "-", "@", "\t")) else whole
