"""Every figure of an evaluation, for all rounds of a bootstrap at once.

A round of a bootstrap over patients gives each film a weight: how often its patient was drawn. All figures here are
sums under weights, so that a thousand rounds are a few matrix products and not a thousand evaluations.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from models.card import Interval

Array = NDArray[np.float64]
Probabilities = NDArray[np.float32] | NDArray[np.float64]

BINS = 10
"""Bins of the reliability curve, of equal width; Guo et al. take 15, for test sets thirty times as large as ours."""

PIECE = 2_000_000
"""Weights worked on at a time: 16 MB an array, however many films and rounds there are."""


@dataclass(frozen=True)
class Figures:
    """Figures under R weightings; NaN where the films of a weighting cannot tell.

    (R,): `accuracy`; `loss`, the cross-entropy a film in nats, of sigmoids the mean over the labels; `macro_f1` and
    `macro_auroc`, means over the labels that have the figure; `calibration_error` of the most probable label (C. Guo et
    al., "On Calibration of Modern Neural Networks", ICML 2017). (R, L): `precision`, `recall` and `f1` of the most
    probable label, for labels that have films; `auroc` of a label against all others; `average_precision`.
    """

    accuracy: Array
    loss: Array
    macro_f1: Array
    macro_auroc: Array
    calibration_error: Array
    precision: Array
    recall: Array
    f1: Array
    auroc: Array
    average_precision: Array


@dataclass(frozen=True)
class Flagging:
    """What thresholds do under R weightings, (R, L): NaN where there is no threshold or no film to tell by.

    `sensitivity`: share flagged of the films with the label; `specificity`: share not flagged of those without;
    `flagged`: share flagged of all; `predictive_value`: share with the label of those flagged.
    """

    sensitivity: Array
    specificity: Array
    flagged: Array
    predictive_value: Array


class Sample:
    """Some films with their true labels and probabilities.

    Parameters
    ----------
    targets
        (N,), the position of each film's label.
    probabilities
        (N, L).
    output
        `softmax`, `sigmoid` or `binary`, as in the card.
    """

    def __init__(self, targets: NDArray[np.int_], probabilities: Probabilities, output: str) -> None:
        self._exact = probabilities.astype(np.float64)
        self._truth = np.eye(self._exact.shape[1])[targets]
        chosen = self._exact.argmax(axis=1)
        labels = self._exact.shape[1]
        self._cells = np.eye(labels * labels)[targets * labels + chosen]
        self._losses = _losses(self._exact, self._truth, output)
        self._sure = self._exact.max(axis=1)
        self._right = (chosen == targets).astype(np.float64)
        self._bins = np.eye(BINS)[np.minimum((self._sure * BINS).astype(np.int_), BINS - 1)]

    def figures(self, weights: Array) -> Figures:
        """Return every figure under each row of `weights` (R, N)."""
        rows = max(1, PIECE // weights.shape[1])
        parts = [self._figures(weights[start : start + rows]) for start in range(0, len(weights), rows)]
        names = [field.name for field in fields(Figures)]
        return Figures(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})

    def confusion(self, weights: Array) -> Array:
        """Sum weights by true and most probable label, (R, L, L): a row a true label."""
        labels = self._truth.shape[1]
        return np.asarray((weights @ self._cells).reshape(-1, labels, labels))

    def flagging(self, weights: Array, thresholds: Sequence[float | None]) -> Flagging:
        """Return what a threshold of each label does under each row of `weights` (R, N); None: it has none."""
        limits = np.asarray([np.nan if threshold is None else threshold for threshold in thresholds])
        flags = (self._exact >= limits).astype(np.float64)
        total, with_label = weights.sum(axis=1, keepdims=True), weights @ self._truth
        flagged, hits = weights @ flags, weights @ (flags * self._truth)
        none = np.where(np.isnan(limits), np.nan, 1.0)
        return Flagging(
            sensitivity=none * _ratio(hits, with_label),
            specificity=none * (1.0 - _ratio(flagged - hits, total - with_label)),
            flagged=none * _ratio(flagged, total),
            predictive_value=none * _ratio(hits, flagged),
        )

    def flag_counts(self, index: int, threshold: float) -> tuple[int, int, int, int]:
        """Count films at a threshold of a label: hits, misses, false alarms, rightly not flagged."""
        flagged, true = self._exact[:, index] >= threshold, self._truth[:, index] == 1
        return (
            int((flagged & true).sum()),
            int((~flagged & true).sum()),
            int((flagged & ~true).sum()),
            int((~flagged & ~true).sum()),
        )

    def reliability(self, weights: Array) -> tuple[Array, Array, Array]:
        """Sort films into `BINS` by the probability of their most probable label.

        Returns
        -------
        tuple of Array
            Weight in each bin, mean probability and share right; each (R, BINS), the last two NaN in an empty bin.
        """
        held = weights @ self._bins
        sure = weights @ (self._bins * self._sure[:, np.newaxis])
        return held, _ratio(sure, held), _ratio(weights @ (self._bins * self._right[:, np.newaxis]), held)

    def _figures(self, weights: Array) -> Figures:
        total = weights.sum(axis=1)
        confusion = self.confusion(weights)
        right = np.diagonal(confusion, axis1=1, axis2=2)
        true, called = confusion.sum(axis=2), confusion.sum(axis=1)
        there = np.where(true > 0, 1.0, np.nan)
        f1 = there * _ratio(2 * right, true + called)
        auroc, average_precision = self._ranked(weights)
        surplus = (self._right - self._sure)[:, np.newaxis]
        return Figures(
            accuracy=_ratio(right.sum(axis=1), total),
            loss=_ratio(weights @ self._losses, total),
            macro_f1=_mean(f1),
            macro_auroc=_mean(auroc),
            calibration_error=_ratio(np.abs(weights @ (self._bins * surplus)).sum(axis=1), total),
            precision=there * _ratio(right, called),
            recall=_ratio(right, true),
            f1=f1,
            auroc=auroc,
            average_precision=average_precision,
        )

    def _ranked(self, weights: Array) -> tuple[Array, Array]:
        """AUROC and average precision by ranks: films of the same probability are one step, ties count half."""
        aurocs, precisions = [], []
        for index in range(self._truth.shape[1]):
            positive, negative = self.steps(weights, index)
            with_label, without = positive.sum(axis=1), negative.sum(axis=1)
            above = np.cumsum(negative, axis=1)
            won = (positive * (above - negative / 2)).sum(axis=1)  # negatives that stand higher
            aurocs.append(1.0 - _ratio(won, with_label * without))
            hits = np.cumsum(positive, axis=1)
            precisions.append(_ratio((positive * np.nan_to_num(_ratio(hits, hits + above))).sum(axis=1), with_label))
        return np.stack(aurocs, axis=1), np.stack(precisions, axis=1)

    def steps(self, weights: Array, index: int) -> tuple[Array, Array]:
        """Sum weights by probability of a label, highest first: (R, K) with the label and (R, K) without."""
        scores = self._exact[:, index]
        order = np.argsort(-scores, kind="stable")
        starts = np.flatnonzero(np.diff(scores[order], prepend=np.inf))
        ordered, truth = weights[:, order], self._truth[order, index]
        positive = np.add.reduceat(ordered * truth, starts, axis=1)
        return positive, np.add.reduceat(ordered, starts, axis=1) - positive


def patient_weights(patients: Sequence[str], rounds: int, seed: int) -> Array:
    """Draw the weights of a bootstrap over patients: all films of a patient are drawn together.

    Parameters
    ----------
    patients
        (N,), the patient of each film.
    rounds
        Number of draws.
    seed
        Of the draws.

    Returns
    -------
    Array
        (1 + rounds, N). The first row is the films as they are; it stands alone where there is one patient only, who
        says nothing of how others would vary.
    """
    names, owner = np.unique(np.asarray(patients), return_inverse=True)
    first_seen = np.full(len(names), len(owner))
    np.minimum.at(first_seen, owner, np.arange(len(owner)))
    place = np.argsort(np.argsort(first_seen))[owner]  # in the order of the films, whatever patients are called
    whole = np.ones((1, len(owner)))
    if len(names) < 2:
        return whole
    random = np.random.default_rng(seed)
    drawn = [
        np.bincount(random.integers(0, len(names), len(names)), minlength=len(names))[place] for _ in range(rounds)
    ]
    return np.concatenate([whole, np.asarray(drawn, dtype=np.float64)])


def interval(values: Array) -> Interval:
    """Make a value with its 95 % percentile interval.

    Parameters
    ----------
    values
        (1 + rounds,), first the value itself; NaN where a round could not tell. Where more than half could not, there
        is no interval.
    """
    value, drawn = float(values[0]), values[1:]
    told = drawn[~np.isnan(drawn)]
    if np.isnan(value):
        return Interval(value=None)
    if 2 * told.size < max(drawn.size, 1):
        return Interval(value=round(value, 4))
    low, high = np.percentile(told, [2.5, 97.5])
    return Interval(value=round(value, 4), low=round(float(low), 4), high=round(float(high), 4))


def _losses(probabilities: Array, truth: Array, output: str) -> Array:
    bounded = np.clip(probabilities, 1e-7, 1 - 1e-7)  # as Keras bounds them
    logarithms = truth * np.log(bounded)
    if output == "sigmoid":
        return np.asarray(-(logarithms + (1 - truth) * np.log1p(-bounded)).mean(axis=1))
    return np.asarray(-logarithms.sum(axis=1))


def _ratio(part: Array, whole: Array) -> Array:
    """Divide; NaN where there is nothing to divide by."""
    undefined = np.full(np.broadcast(part, whole).shape, np.nan)
    return np.asarray(np.divide(part, whole, out=undefined, where=whole > 0))


def _mean(by_label: Array) -> Array:
    """Mean over the labels that have a figure."""
    there = ~np.isnan(by_label)
    return _ratio(np.where(there, by_label, 0.0).sum(axis=1), there.sum(axis=1).astype(np.float64))
