"""The curves of one label against all others, short enough to be drawn and to be kept as JSON."""

import numpy as np
from numpy.typing import NDArray

from models.card import Interval, Part
from models.training.figures import Array, Figures, Sample, interval

SPECIFICITIES = (0.8, 0.9, 0.95)
"""Where the sensitivity is read off the ROC curve."""

MOST_POINTS = 250

Point = tuple[float, float]


class BandPoint(Part):
    """95 % of the bootstrap rounds have their sensitivity here between `low` and `high`."""

    false_positive_rate: float
    low: float
    high: float


class ThresholdPoint(Part):
    """Shares at a threshold; None where no film has the label, or all have it."""

    threshold: float
    sensitivity: float | None
    specificity: float | None
    flagged: float


class LabelCurves(Part):
    """Curves of a label; those that need films with the label and films without are empty where either is missing.

    `roc` is (1 - specificity, sensitivity) at every corner, `precision_recall` is (recall, precision) as steps.
    """

    prevalence: float
    average_precision: Interval
    sensitivity_at: dict[str, Interval]
    roc: tuple[Point, ...]
    roc_band: tuple[BandPoint, ...]
    precision_recall: tuple[Point, ...]
    by_threshold: tuple[ThresholdPoint, ...]


def label_curves(sample: Sample, weights: Array, index: int, figures: Figures) -> LabelCurves:
    """Draw up the curves of one label.

    Parameters
    ----------
    sample
        The films.
    weights
        (1 + R, N); the first row the films as they are, the others for the intervals.
    index
        The label.
    figures
        Of the same sample and weights.
    """
    positive, negative = sample.steps(weights, index)
    with_label, without = positive[0].sum(), negative[0].sum()
    prevalence = round(float(with_label / weights.shape[1]), 4)
    two_sided = with_label > 0 and without > 0
    rates = _rates(positive, negative) if two_sided else None
    return LabelCurves(
        prevalence=prevalence,
        average_precision=interval(figures.average_precision[:, index]),
        sensitivity_at={f"{at:g}": interval(_sensitivity_at(*rates, at)) for at in SPECIFICITIES} if rates else {},
        roc=_corners(rates[0][0], rates[1][0]) if rates else (),
        roc_band=_band(*rates) if rates else (),
        precision_recall=_precision_recall(positive[0], negative[0]) if two_sided else (),
        by_threshold=_by_threshold(sample, index, weights.shape[1]),
    )


def _rates(positive: Array, negative: Array) -> tuple[Array, Array]:
    """Return 1 - specificity and sensitivity, (R, K + 1), from no film flagged to all; rounds that are one-sided go."""
    told = (positive.sum(axis=1) > 0) & (negative.sum(axis=1) > 0)
    found = []
    for counts in (negative[told], positive[told]):
        shares = np.cumsum(counts, axis=1) / counts.sum(axis=1, keepdims=True)
        found.append(np.concatenate([np.zeros((len(shares), 1)), shares], axis=1))
    return found[0], found[1]


def _sensitivity_at(false_positive_rate: Array, sensitivity: Array, specificity: float) -> Array:
    """Take the best sensitivity that keeps a specificity; (R,)."""
    kept = false_positive_rate <= 1.0 - specificity + 1e-9
    return np.asarray(np.where(kept, sensitivity, 0.0).max(axis=1))


def _band(false_positive_rate: Array, sensitivity: Array) -> tuple[BandPoint, ...]:
    if len(sensitivity) < 2:
        return ()
    grid = np.linspace(0, 1, 51)
    rounds = zip(false_positive_rate[1:], sensitivity[1:], strict=True)
    low, high = np.percentile([np.interp(grid, x, y) for x, y in rounds], [2.5, 97.5], axis=0)
    return tuple(
        BandPoint(false_positive_rate=round(float(x), 3), low=round(float(a), 4), high=round(float(b), 4))
        for x, a, b in zip(grid, low, high, strict=True)
    )


def _corners(x: Array, y: Array) -> tuple[Point, ...]:
    """Leave out what lies on a straight line between its neighbours."""
    turn = np.diff(x)[:-1] * np.diff(y)[1:] != np.diff(y)[:-1] * np.diff(x)[1:]
    return _points(*(axis[np.concatenate([[True], turn, [True]])] for axis in (x, y)))


def _precision_recall(positive: NDArray[np.float64], negative: NDArray[np.float64]) -> tuple[Point, ...]:
    hits, flagged = np.cumsum(positive), np.cumsum(positive + negative)
    return _points(hits / hits[-1], hits / flagged)


def _points(x: Array, y: Array) -> tuple[Point, ...]:
    chosen = np.unique(np.linspace(0, len(x) - 1, min(len(x), MOST_POINTS)).round().astype(np.int_))
    return tuple((round(float(x[i]), 4), round(float(y[i]), 4)) for i in chosen)


def _by_threshold(sample: Sample, index: int, films: int) -> tuple[ThresholdPoint, ...]:
    points = []
    for threshold in np.round(np.linspace(0, 1, 101), 2):
        hits, misses, false_alarms, unflagged = sample.flag_counts(index, float(threshold))
        with_label, without = hits + misses, false_alarms + unflagged
        points.append(
            ThresholdPoint(
                threshold=float(threshold),
                sensitivity=round(hits / with_label, 4) if with_label else None,
                specificity=round(unflagged / without, 4) if without else None,
                flagged=round((hits + false_alarms) / films, 4),
            )
        )
    return tuple(points)
