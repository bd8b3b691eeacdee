"""Evaluation: what a classifier does on patients it has never seen, with intervals, and by where the films come from.

Intervals are 95 % percentile intervals of a bootstrap over patients (all films of a patient are drawn together), since
two films of one patient are not two independent observations.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.card import Calibration, Card, Group, LabelMetrics, Metrics, Right
from models.classifier import Classifier
from models.errors import DataError, ImageError
from models.preprocessing import FloatArray, load_picture
from models.temperature import untempered
from models.training.dataset import Dataset, Film, ReadImage, Split
from models.training.figures import BINS, Sample, interval, patient_weights

BOOTSTRAP_ROUNDS = 1000

LEAST_OF_EACH = 10
"""Films with a label and films without that a part of the set must have for a figure that compares the two.

One film of a label would count there as much as all the others.
"""

Asked = Split | Literal["all"]
"""A split, or every film whatever its split: a hospital's own films, of which none was trained on."""

Look = Callable[[Film, FloatArray], None]
"""Called with a film and its image, float32 (rows, columns), 0 black to 255 white; from several threads."""


@dataclass(frozen=True)
class Scored:
    """Films with the probabilities they got: (N, L) and (N,)."""

    films: tuple[Film, ...]
    targets: NDArray[np.int_]
    probabilities: FloatArray

    @property
    def patients(self) -> list[str]:
        """The patient of each film."""
        return [film.patient for film in self.films]

    def part(self, rows: NDArray[np.int_]) -> "Scored":
        """Return some of the films."""
        return Scored(tuple(self.films[row] for row in rows), self.targets[rows], self.probabilities[rows])


def films_of(dataset: Dataset, asked: Asked) -> tuple[Film, ...]:
    """Return the films of a split, or all of them.

    Raises
    ------
    DataError
        If there are none.
    """
    return dataset.films if asked == "all" else dataset.split(asked)


def score(
    classifier: Classifier,
    dataset: Dataset,
    split: Asked,
    *,
    read: ReadImage = load_picture,
    threads: int = 2,
    watch: Callable[[int, int], None] = lambda _done, _total: None,
    look: Look = lambda _film, _image: None,
) -> Scored:
    """Ask a classifier for every film of a split, or for all there are, through the code that serves.

    Parameters
    ----------
    watch
        Called with the films done and their total.
    look
        Called with each film as it is read.

    Raises
    ------
    DataError
        If a film cannot be read.
    """
    films = films_of(dataset, split)

    def one(film: Film) -> FloatArray:
        try:
            image = read(film.path)
            look(film, image)
            return classifier.prepare(image)
        except ImageError as error:
            raise DataError(f"{film.path}: {error}") from None

    found: list[FloatArray] = []
    with ThreadPoolExecutor(max_workers=threads) as pool:
        for start in range(0, len(films), classifier.max_batch):
            piece = films[start : start + classifier.max_batch]
            found.append(classifier.probabilities(np.stack(list(pool.map(one, piece)))))
            watch(min(start + classifier.max_batch, len(films)), len(films))
    return Scored(films, np.asarray(dataset.targets(films)), np.concatenate(found))


def measure(card: Card, scored: Scored, *, split: str, rounds: int = BOOTSTRAP_ROUNDS, seed: int = 0) -> Metrics:
    """Measure how right the probabilities are.

    Accuracy, precision, recall, F1 and the confusion matrix take the most probable label; AUROC is of one label against
    all others; sensitivity and specificity are at the card's threshold of each finding. Macro F1 is the mean over the
    labels that the films have: a label that no film has is not counted as missed.

    Parameters
    ----------
    card
        Labels, thresholds and temperature.
    scored
        What `score` returned.
    split
        Name of the split, for the record.
    rounds
        Bootstrap rounds.
    """
    sample = Sample(scored.targets, scored.probabilities, card.output)
    weights = patient_weights(scored.patients, rounds, seed)
    figures = sample.figures(weights)
    flagging = sample.flagging(weights, [label.threshold for label in card.labels])
    untouched = untempered(scored.probabilities, card.temperature, card.output)
    before = Sample(scored.targets, untouched, card.output).figures(weights[:1])
    labels = {
        label.name: LabelMetrics(
            images=int((scored.targets == i).sum()),
            auroc=interval(figures.auroc[:, i]),
            precision=interval(figures.precision[:, i]),
            recall=interval(figures.recall[:, i]),
            f1=interval(figures.f1[:, i]),
            sensitivity=interval(flagging.sensitivity[:, i]) if label.finding else None,
            specificity=interval(flagging.specificity[:, i]) if label.finding else None,
        )
        for i, label in enumerate(card.labels)
    }
    return Metrics(
        split=split,
        images=len(scored.films),
        patients=len(set(scored.patients)),
        accuracy=interval(figures.accuracy),
        macro_f1=interval(figures.macro_f1),
        loss=round(float(figures.loss[0]), 4),
        calibration=Calibration(
            bins=BINS,
            before=round(float(before.calibration_error[0]), 4),
            after=round(float(figures.calibration_error[0]), 4),
        ),
        labels=labels,
        by_source=_groups(card, scored, by_source(scored), rounds, seed),
        by_age_group=_groups(card, scored, by_age_group(scored), rounds, seed),
        confusion=confusion_of(sample, len(scored.films)),
        bootstrap=f"95 % percentile intervals, {rounds} rounds over patients, seed {seed}",
    )


def by_source(scored: Scored) -> dict[str, NDArray[np.int_]]:
    """Rows of the films of each source."""
    return _rows([film.source for film in scored.films])


def by_age_group(scored: Scored) -> dict[str, NDArray[np.int_]]:
    """Rows of the films of each age group."""
    return _rows([film.age_group for film in scored.films])


def told_apart(targets: NDArray[np.int_], label: int) -> bool:
    """Whether films have enough with a label and enough without to compare the two."""
    with_label = int((targets == label).sum())
    return min(with_label, targets.size - with_label) >= LEAST_OF_EACH


def _rows(keys: Sequence[str]) -> dict[str, NDArray[np.int_]]:
    column = np.asarray(keys)
    return {key: np.flatnonzero(column == key) for key in sorted(set(keys))}


def _groups(
    card: Card, scored: Scored, groups: dict[str, NDArray[np.int_]], rounds: int, seed: int
) -> dict[str, Group]:
    return {key: _group(card, scored.part(rows), rounds, seed) for key, rows in groups.items()}


def _group(card: Card, part: Scored, rounds: int, seed: int) -> Group:
    sample = Sample(part.targets, part.probabilities, card.output)
    figures = sample.figures(patient_weights(part.patients, rounds, seed))
    confusion = confusion_of(sample, len(part.films))
    told = {i: told_apart(part.targets, i) for i in set(part.targets.tolist())}
    return Group(
        images=len(part.films),
        accuracy=interval(figures.accuracy),
        macro_f1=interval(figures.macro_f1) if len(told) > 1 and all(told.values()) else None,
        auroc={label.name: interval(figures.auroc[:, i]) for i, label in enumerate(card.labels) if told.get(i)},
        labels={
            label.name: Right(right=confusion[i][i], images=sum(confusion[i]))
            for i, label in enumerate(card.labels)
            if sum(confusion[i])
        },
    )


def confusion_of(sample: Sample, films: int) -> tuple[tuple[int, ...], ...]:
    """Count films: a row a true label, a column a most probable one."""
    return tuple(tuple(int(count) for count in row) for row in sample.confusion(np.ones((1, films)))[0])
