"""Evaluation: what a classifier does on patients it has never seen, with intervals, and by where the films come from.

Intervals are 95 % percentile intervals of a bootstrap over patients (all films of a patient are drawn together), since
two films of one patient are not two independent observations.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.card import Card, Group, Interval, LabelMetrics, Metrics, Right
from models.classifier import Classifier
from models.errors import DataError, ImageError, ModelError
from models.preprocessing import FloatArray, load_picture
from models.training.dataset import Dataset, Film, ReadImage, Split

BOOTSTRAP_ROUNDS = 1000


@dataclass(frozen=True)
class Scored:
    """Films with the probabilities they got: (N, L) and (N,)."""

    films: tuple[Film, ...]
    targets: NDArray[np.int_]
    probabilities: FloatArray


def score(
    classifier: Classifier,
    dataset: Dataset,
    split: Split,
    *,
    read: ReadImage = load_picture,
    threads: int = 2,
    watch: Callable[[int, int], None] = lambda _done, _total: None,
) -> Scored:
    """Ask a classifier for every film of a split, through the code that serves.

    Parameters
    ----------
    watch
        Called with the films done and their total.

    Raises
    ------
    DataError
        If a film cannot be read.
    """
    films = dataset.split(split)

    def one(film: Film) -> FloatArray:
        try:
            return classifier.prepare(read(film.path))
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

    Accuracy, macro F1 and the confusion matrix take the most probable label; AUROC is of one label against all others;
    sensitivity and specificity are at the card's threshold of each finding.

    Parameters
    ----------
    card
        Labels and thresholds.
    scored
        What `score` returned.
    split
        Name of the split, for the record.
    rounds
        Bootstrap rounds.

    Raises
    ------
    ModelError
        If scikit-learn is not installed.
    """
    sample = Sample(card, scored.targets, scored.probabilities)
    draws = _draws([film.patient for film in scored.films], rounds, seed)

    def interval(value: Callable[[Sample], float | None]) -> Interval:
        return _interval(value, sample, draws)

    labels = {}
    for index, label in enumerate(card.labels):
        labels[label.name] = LabelMetrics(
            images=int((scored.targets == index).sum()),
            auroc=interval(lambda s, i=index: s.auroc(i)),  # type: ignore[misc]
            sensitivity=interval(lambda s, i=index: s.sensitivity(i)) if label.finding else None,  # type: ignore[misc]
            specificity=interval(lambda s, i=index: s.specificity(i)) if label.finding else None,  # type: ignore[misc]
        )
    return Metrics(
        split=split,
        images=len(scored.films),
        patients=len({film.patient for film in scored.films}),
        accuracy=interval(Sample.accuracy),
        macro_f1=interval(Sample.macro_f1),
        labels=labels,
        by_source=_groups(card, scored, [film.source for film in scored.films], rounds, seed),
        by_age_group=_groups(card, scored, [film.age_group for film in scored.films], rounds, seed),
        confusion=sample.confusion(),
        bootstrap=f"95 % percentile intervals, {rounds} rounds over patients, seed {seed}",
    )


class Sample:
    """Some scored films, and every figure that can be had of them."""

    def __init__(self, card: Card, targets: NDArray[np.int_], probabilities: FloatArray) -> None:
        try:
            from sklearn import metrics
        except ModuleNotFoundError:
            raise ModelError("scikit-learn is not installed; install firstread[train] to train or evaluate") from None
        self._metrics = metrics
        self._card = card
        self._targets = targets
        self._probabilities = probabilities
        self._chosen = probabilities.argmax(axis=1)

    def drawn(self, rows: NDArray[np.int_]) -> "Sample":
        """Return the sample of some rows, with repetition."""
        return Sample(self._card, self._targets[rows], self._probabilities[rows])

    def accuracy(self) -> float | None:
        """Share of films whose most probable label is theirs."""
        return float((self._chosen == self._targets).mean()) if self._targets.size else None

    def macro_f1(self) -> float | None:
        """Mean over the labels of the harmonic mean of precision and recall."""
        names = list(range(len(self._card.labels)))
        return float(
            self._metrics.f1_score(self._targets, self._chosen, labels=names, average="macro", zero_division=0)
        )

    def auroc(self, index: int) -> float | None:
        """Chance that a film with the label gets more than one without; None where one kind is absent."""
        positive = self._targets == index
        if positive.all() or not positive.any():
            return None
        return float(self._metrics.roc_auc_score(positive, self._probabilities[:, index]))

    def sensitivity(self, index: int) -> float | None:
        """Share flagged among the films with the label."""
        return self._share_flagged(index, self._targets == index)

    def specificity(self, index: int) -> float | None:
        """Share not flagged among the films without the label."""
        flagged = self._share_flagged(index, self._targets != index)
        return None if flagged is None else 1.0 - flagged

    def _share_flagged(self, index: int, among: NDArray[np.bool_]) -> float | None:
        threshold = self._card.labels[index].threshold
        if threshold is None or not among.any():
            return None
        return float((self._probabilities[among, index] >= threshold).mean())

    def confusion(self) -> tuple[tuple[int, ...], ...]:
        """Count films: a row a true label, a column a most probable one."""
        names = list(range(len(self._card.labels)))
        table = self._metrics.confusion_matrix(self._targets, self._chosen, labels=names)
        return tuple(tuple(int(count) for count in row) for row in table)


def _draws(patients: Sequence[str], rounds: int, seed: int) -> list[NDArray[np.int_]]:
    """Rows of each bootstrap round: patients drawn with repetition, all films of each."""
    rows: dict[str, list[int]] = {}
    for index, patient in enumerate(patients):
        rows.setdefault(patient, []).append(index)
    blocks = [np.asarray(block) for block in rows.values()]
    random = np.random.default_rng(seed)
    return [np.concatenate([blocks[i] for i in random.integers(0, len(blocks), len(blocks))]) for _ in range(rounds)]


def _interval(value: Callable[[Sample], float | None], sample: Sample, draws: list[NDArray[np.int_]]) -> Interval:
    whole = value(sample)
    found = [drawn for drawn in (value(sample.drawn(rows)) for rows in draws) if drawn is not None]
    if whole is None or not found:
        return Interval(value=None if whole is None else _short(whole))
    low, high = np.percentile(found, [2.5, 97.5])
    return Interval(value=_short(whole), low=_short(float(low)), high=_short(float(high)))


def _short(value: float) -> float:
    return round(value, 4)


def _groups(card: Card, scored: Scored, keys: Sequence[str], rounds: int, seed: int) -> dict[str, Group]:
    groups = {}
    column = np.asarray(keys)
    for key in sorted(set(keys)):
        rows = np.flatnonzero(column == key)
        part = Sample(card, scored.targets[rows], scored.probabilities[rows])
        draws = _draws([scored.films[row].patient for row in rows], rounds, seed)
        confusion = part.confusion()
        groups[key] = Group(
            images=len(rows),
            accuracy=_interval(Sample.accuracy, part, draws),
            labels={
                label.name: Right(right=confusion[i][i], images=sum(confusion[i]))
                for i, label in enumerate(card.labels)
                if sum(confusion[i])
            },
        )
    return groups
