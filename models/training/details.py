"""What a report shows beyond the figures of a card: curves, what each threshold does, calibration, parts of the set."""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from models.card import Card, Interval, Part
from models.temperature import untempered
from models.training.calibrate import threshold_for_sensitivity
from models.training.curves import LabelCurves, label_curves
from models.training.evaluate import BOOTSTRAP_ROUNDS, Scored, by_age_group, by_source, confusion_of, told_apart
from models.training.figures import BINS, Array, Sample, interval, patient_weights

SMALL = 20
"""A part of the set with fewer films than this is too small to say anything of."""


class OperatingPoint(Part):
    """What a threshold does on the films.

    `asked` is the sensitivity for which validation films gave the threshold, `validation` what they reached at it; both
    are None for the card's own threshold.
    """

    label: str
    threshold: float
    asked: float | None = None
    validation: float | None = None
    sensitivity: Interval
    specificity: Interval
    predictive_value: Interval
    flagged: Interval
    hits: int
    misses: int
    false_alarms: int
    unflagged: int


class Triage(Part):
    """What the card's thresholds do together: `flagged` for anything at all.

    `sensitivity`: share of films with a finding that are flagged, for that finding or another; `specificity`: share of
    films without a finding that are flagged for none.
    """

    sensitivity: Interval
    specificity: Interval
    flagged: Interval


class Bin(Part):
    """Films whose most probable label got between `low` and `high`."""

    low: float
    high: float
    films: int
    mean: float | None
    right: Interval


class Reliability(Part):
    """Whether probabilities are shares: before the card's temperature and after."""

    error_before: Interval
    error_after: Interval
    before: tuple[Bin, ...]
    after: tuple[Bin, ...]


class PartFigures(Part):
    """Figures of a part of the set; of a label only where enough films have it and enough do not.

    `confusion`: a row a true label, a column a most probable one.
    """

    images: Annotated[int, Field(ge=1)]
    patients: Annotated[int, Field(ge=1)]
    enough: bool
    loss: Interval
    calibration_error: Interval
    confusion: tuple[tuple[int, ...], ...]
    macro_auroc: Interval | None
    precision: dict[str, Interval]
    recall: dict[str, Interval]
    f1: dict[str, Interval]
    sensitivity: dict[str, Interval]
    specificity: dict[str, Interval]


class Details(Part):
    """Everything that a report shows and a card does not keep."""

    loss: Interval
    macro_auroc: Interval
    curves: dict[str, LabelCurves]
    operating_points: tuple[OperatingPoint, ...]
    triage: Triage
    reliability: Reliability
    by_source: dict[str, PartFigures]
    by_age_group: dict[str, PartFigures]


def detail(
    card: Card,
    scored: Scored,
    *,
    validation: Scored | None = None,
    sensitivities: Sequence[float] = (),
    rounds: int = BOOTSTRAP_ROUNDS,
    seed: int = 0,
) -> Details:
    """Work out what a report shows.

    Parameters
    ----------
    card
        Labels, thresholds and temperature.
    scored
        What `score` returned for the films that are reported on.
    validation
        The same for the validation films; needed where there are `sensitivities`.
    sensitivities
        For each, every finding gets a row with the threshold that the validation films give for it. A finding that no
        validation film has gets none.
    rounds, seed
        Of the bootstrap over patients.
    """
    sample = Sample(scored.targets, scored.probabilities, card.output)
    weights = patient_weights(scored.patients, rounds, seed)
    figures = sample.figures(weights)
    points = [_point(card, sample, weights, i, label.threshold) for i, label in enumerate(card.labels)]
    return Details(
        loss=interval(figures.loss),
        macro_auroc=interval(figures.macro_auroc),
        curves={label.name: label_curves(sample, weights, i, figures) for i, label in enumerate(card.labels)},
        operating_points=(
            *(point for point in points if point),
            *(_chosen_points(card, sample, weights, validation, sensitivities) if validation else ()),
        ),
        triage=_triage(card, scored, weights),
        reliability=_reliability(card, scored, sample, weights),
        by_source={name: _part(card, scored.part(rows), rounds, seed) for name, rows in by_source(scored).items()},
        by_age_group={
            name: _part(card, scored.part(rows), rounds, seed) for name, rows in by_age_group(scored).items()
        },
    )


def _chosen_points(
    card: Card, sample: Sample, weights: Array, validation: Scored, sensitivities: Sequence[float]
) -> list[OperatingPoint]:
    points = []
    for asked in sensitivities:
        for i, label in enumerate(card.labels):
            positive = validation.targets == i
            if not label.finding or not positive.any():
                continue
            column = validation.probabilities[:, i].astype(np.float64)
            threshold = threshold_for_sensitivity(column, positive, asked, 1.0)
            reached = float((column[positive] >= threshold).mean())
            point = _point(card, sample, weights, i, threshold)
            if point:
                points.append(point.model_copy(update={"asked": asked, "validation": round(reached, 4)}))
    return points


def _point(card: Card, sample: Sample, weights: Array, index: int, threshold: float | None) -> OperatingPoint | None:
    if threshold is None:
        return None
    thresholds = [threshold if i == index else None for i in range(len(card.labels))]
    flagging = sample.flagging(weights, thresholds)
    counts = sample.flag_counts(index, threshold)
    return OperatingPoint(
        label=card.labels[index].name,
        threshold=threshold,
        sensitivity=interval(flagging.sensitivity[:, index]),
        specificity=interval(flagging.specificity[:, index]),
        predictive_value=interval(flagging.predictive_value[:, index]),
        flagged=interval(flagging.flagged[:, index]),
        hits=counts[0],
        misses=counts[1],
        false_alarms=counts[2],
        unflagged=counts[3],
    )


def _triage(card: Card, scored: Scored, weights: Array) -> Triage:
    """Take "flagged for anything" as one more label: its probability is 1 where a finding reaches its threshold."""
    limits = np.asarray([np.inf if label.threshold is None else label.threshold for label in card.labels])
    flagged = (scored.probabilities >= limits).any(axis=1).astype(np.float64)
    finding = np.asarray([label.finding for label in card.labels])[scored.targets].astype(np.int_)
    flagging = Sample(finding, np.stack([1.0 - flagged, flagged], axis=1), "binary").flagging(weights, [None, 0.5])
    return Triage(
        sensitivity=interval(flagging.sensitivity[:, 1]),
        specificity=interval(flagging.specificity[:, 1]),
        flagged=interval(flagging.flagged[:, 1]),
    )


def _reliability(card: Card, scored: Scored, sample: Sample, weights: Array) -> Reliability:
    untouched = untempered(scored.probabilities, card.temperature, card.output)
    error_before, before = _bins(Sample(scored.targets, untouched, card.output), weights)
    error_after, after = _bins(sample, weights)
    return Reliability(error_before=error_before, error_after=error_after, before=before, after=after)


def _bins(sample: Sample, weights: Array) -> tuple[Interval, tuple[Bin, ...]]:
    """Return the expected calibration error, and the bins it is summed over."""
    films, mean, right = sample.reliability(weights)
    error = np.nansum(films * np.abs(right - mean), axis=1) / films.sum(axis=1)
    return interval(error), tuple(
        Bin(
            low=i / BINS,
            high=(i + 1) / BINS,
            films=int(films[0, i]),
            mean=round(float(mean[0, i]), 4) if films[0, i] else None,
            right=interval(right[:, i]),
        )
        for i in range(BINS)
    )


def _part(card: Card, part: Scored, rounds: int, seed: int) -> PartFigures:
    sample = Sample(part.targets, part.probabilities, card.output)
    weights = patient_weights(part.patients, rounds, seed)
    told = [i for i in range(len(card.labels)) if told_apart(part.targets, i)]
    flagging = sample.flagging(weights, [label.threshold for label in card.labels])
    findings = {card.labels[i].name: i for i in told if card.labels[i].finding}
    called = {card.labels[i].name: i for i in told}
    figures = sample.figures(weights)
    return PartFigures(
        images=len(part.films),
        patients=len(set(part.patients)),
        enough=len(part.films) >= SMALL,
        loss=interval(figures.loss),
        calibration_error=interval(figures.calibration_error),
        confusion=confusion_of(sample, len(part.films)),
        macro_auroc=interval(figures.auroc[:, told].mean(axis=1)) if told else None,
        precision={name: interval(figures.precision[:, i]) for name, i in called.items()},
        recall={name: interval(figures.recall[:, i]) for name, i in called.items()},
        f1={name: interval(figures.f1[:, i]) for name, i in called.items()},
        sensitivity={name: interval(flagging.sensitivity[:, i]) for name, i in findings.items()},
        specificity={name: interval(flagging.specificity[:, i]) for name, i in findings.items()},
    )
