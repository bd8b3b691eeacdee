"""What a report shows beyond the card is worked out by the same definitions, and says nothing where it cannot."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from models.card import Card
from models.training.dataset import Film
from models.training.details import Details, detail
from models.training.evaluate import Scored, measure
from tests.unit.models.conftest import card_values

COVID = {
    "name": "covid",
    "finding": True,
    "code": {"scheme": "SCT", "value": "840539006", "meaning": "COVID-19"},
    "threshold": 0.3,
    "triage": [{"at_least": 0.3, "priority": "urgent"}],
}


def card(*more: dict[str, Any], **changes: Any) -> Card:
    labels = [*card_values()["labels"], *more]
    return Card.model_validate(card_values(**{"labels": labels, "temperature": 1.0} | changes))


def films(of: Card, count: int, *, seed: int = 5, labels: int | None = None, spread: float = 1.5) -> Scored:
    """Films of `count` patients, of two sources, that are mostly told apart."""
    random = np.random.default_rng(seed)
    targets = random.integers(0, labels or len(of.labels), count)
    logits = random.normal(0, 1, (count, len(of.labels))) + spread * np.eye(len(of.labels))[targets]
    powers = np.exp(logits)
    sources = ["y" if i % 9 == 1 and i < 90 else "x" for i in range(count)]
    found = tuple(
        Film(Path(f"{i}.png"), of.labels[label].name, "test", f"p{i}", f"p{i}", source, "adult", "none")
        for i, (label, source) in enumerate(zip(targets, sources, strict=True))
    )
    return Scored(found, targets, (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32))


CARD = card(COVID)
SCORED = films(CARD, 200)


@pytest.fixture(scope="module")
def details() -> Details:
    return detail(CARD, SCORED, rounds=60)


def test_the_cards_thresholds_come_first_with_what_they_do(details: Details) -> None:
    pneumonia, covid = details.operating_points
    assert [(point.label, point.threshold, point.asked) for point in (pneumonia, covid)] == [
        ("pneumonia", 0.4, None), ("covid", 0.3, None)
    ]  # fmt: skip
    measured = measure(CARD, SCORED, split="test", rounds=60).labels["covid"]
    assert (covid.sensitivity, covid.specificity) == (measured.sensitivity, measured.specificity)
    assert covid.hits + covid.misses == measured.images
    assert covid.hits + covid.misses + covid.false_alarms + covid.unflagged == 200
    assert covid.predictive_value.value == pytest.approx(covid.hits / (covid.hits + covid.false_alarms), abs=1e-4)
    assert covid.flagged.value == pytest.approx((covid.hits + covid.false_alarms) / 200, abs=1e-4)


def test_a_stated_sensitivity_is_reached_on_validation_and_measured_on_test() -> None:
    validation = films(CARD, 120, seed=9)
    details = detail(CARD, SCORED, validation=validation, sensitivities=[0.8, 0.95], rounds=20)
    chosen = [point for point in details.operating_points if point.asked]
    assert [(point.label, point.asked) for point in chosen] == [
        ("pneumonia", 0.8), ("covid", 0.8), ("pneumonia", 0.95), ("covid", 0.95)
    ]  # fmt: skip
    for point in chosen:
        index = [label.name for label in CARD.labels].index(point.label)
        positive = validation.targets == index
        reached = (validation.probabilities[positive, index] >= point.threshold).mean()
        assert point.validation == pytest.approx(float(reached), abs=1e-4)
        assert point.asked is not None
        assert point.validation >= point.asked
        higher = (validation.probabilities[positive, index] >= point.threshold + 0.002).mean()
        assert higher < point.asked or point.threshold > 0.99
        flagged = SCORED.probabilities[:, index] >= point.threshold
        assert point.hits == int((flagged & (SCORED.targets == index)).sum())


def test_a_finding_that_no_validation_film_has_gets_no_threshold() -> None:
    validation = films(CARD, 60, labels=2)
    points = detail(CARD, SCORED, validation=validation, sensitivities=[0.9], rounds=5).operating_points
    assert [point.label for point in points if point.asked] == ["pneumonia"]


def test_flagged_for_anything_counts_each_film_once(details: Details) -> None:
    given = SCORED.probabilities
    flagged = (given[:, 1] >= 0.4) | (given[:, 2] >= 0.3)
    assert details.triage.sensitivity.value == pytest.approx(flagged[SCORED.targets > 0].mean(), abs=1e-4)
    assert details.triage.specificity.value == pytest.approx(1 - flagged[SCORED.targets == 0].mean(), abs=1e-4)
    assert details.triage.flagged.value == pytest.approx(flagged.mean(), abs=1e-4)


def test_the_roc_curve_is_that_of_scikit_learn(details: Details) -> None:
    curve = details.curves["covid"]
    positive, given = SCORED.targets == 2, SCORED.probabilities[:, 2]
    rates = metrics.roc_curve(positive, given)
    x, y = np.array(curve.roc).T
    assert np.trapezoid(y, x) == pytest.approx(metrics.roc_auc_score(positive, given), abs=1e-3)
    for at, value in curve.sensitivity_at.items():
        best = rates[1][rates[0] <= 1 - float(at) + 1e-9].max()
        assert value.value == pytest.approx(best, abs=1e-4)
    assert curve.prevalence == pytest.approx(positive.mean(), abs=1e-4)
    band = {point.false_positive_rate: point for point in curve.roc_band}
    inside = [point.low <= np.interp(rate, x, y) <= point.high for rate, point in band.items()]
    assert np.mean(inside) > 0.9


def test_the_precision_recall_curve_ends_at_the_prevalence(details: Details) -> None:
    curve = details.curves["covid"]
    assert curve.precision_recall[-1] == (1.0, pytest.approx(curve.prevalence, abs=1e-3))
    precision, recall, _ = metrics.precision_recall_curve(SCORED.targets == 2, SCORED.probabilities[:, 2])
    expected = dict(zip(np.round(recall, 4), np.round(precision, 4), strict=True))
    assert set(dict(curve.precision_recall)) <= set(expected)


def test_a_curve_by_threshold_begins_with_all_flagged(details: Details) -> None:
    points = details.curves["pneumonia"].by_threshold
    assert (points[0].sensitivity, points[0].specificity, points[0].flagged) == (1.0, 0.0, 1.0)
    at = next(point for point in points if point.threshold == 0.4)
    assert at.sensitivity == details.operating_points[0].sensitivity.value


def test_films_of_one_kind_give_no_curve_and_no_error() -> None:
    one = SCORED.part(np.flatnonzero(SCORED.targets == 1))
    details = detail(CARD, one, rounds=10)
    assert details.curves["pneumonia"].roc == ()
    assert details.curves["pneumonia"].sensitivity_at == {}
    assert details.curves["covid"].precision_recall == ()
    assert details.triage.specificity.value is None
    assert details.macro_auroc.value is None


def test_many_films_make_no_long_curve() -> None:
    curves = detail(CARD, films(CARD, 3000, spread=0.3), rounds=5).curves
    assert len(curves["covid"].roc) <= 250
    assert (curves["covid"].roc[0], curves["covid"].roc[-1]) == ((0.0, 0.0), (1.0, 1.0))
    assert len(curves["covid"].precision_recall) <= 250


def test_reliability_is_told_before_and_after_the_temperature() -> None:
    """The network said 0.9 and was right nine times in ten; the card's temperature makes 0.75 of it."""
    of = card(temperature=2.0)
    targets = np.array([int(i % 10 > 0) for i in range(40)])
    given = np.tile(np.array([[0.25, 0.75]], np.float32), (40, 1))
    reliability = detail(of, Scored(films(of, 40).films, targets, given), rounds=20).reliability
    assert reliability.error_before.value == pytest.approx(0, abs=1e-4)
    assert reliability.error_after.value == pytest.approx(0.15, abs=1e-4)
    [held] = [held for held in reliability.after if held.films]
    assert (held.low, held.films, held.mean, held.right.value) == (0.7, 40, pytest.approx(0.75), pytest.approx(0.9))
    assert sum(held.films for held in reliability.before) == 40


def test_the_calibration_errors_are_the_cards(details: Details) -> None:
    calibration = measure(CARD, SCORED, split="test", rounds=5).calibration
    assert calibration is not None
    assert details.reliability.error_before.value == calibration.before
    assert details.reliability.error_after.value == calibration.after


def test_parts_that_are_too_small_say_so(details: Details) -> None:
    assert details.by_source["x"].enough
    assert details.by_source["x"].macro_auroc is not None
    assert set(details.by_source["x"].sensitivity) == {"pneumonia", "covid"}
    small = details.by_source["y"]
    assert small.images < 20
    assert not small.enough
    assert (small.macro_auroc, small.sensitivity) == (None, {})
    assert set(details.by_age_group) == {"adult"}


def test_a_part_has_the_figures_of_the_whole(details: Details) -> None:
    rows = np.asarray([film.source == "x" for film in SCORED.films])
    part, found = details.by_source["x"], SCORED.probabilities[rows]
    targets, chosen = SCORED.targets[rows], found.argmax(axis=1)
    kinds = list(range(len(CARD.labels)))
    assert np.array_equal(part.confusion, metrics.confusion_matrix(targets, chosen, labels=kinds))
    assert part.loss.value == pytest.approx(metrics.log_loss(targets, found, labels=kinds), abs=1e-3)
    assert part.calibration_error.value is not None
    assert 0 < part.calibration_error.value < 1
    f1 = metrics.f1_score(targets, chosen, labels=kinds, average=None)
    assert [part.f1[label.name].value for label in CARD.labels] == pytest.approx(list(f1), abs=1e-4)


def test_it_is_json(details: Details) -> None:
    assert Details.model_validate(json.loads(details.model_dump_json())) == details
