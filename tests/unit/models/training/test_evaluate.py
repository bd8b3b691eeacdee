"""Figures are those of the definition, and intervals treat a patient as one."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from models.card import Card, LabelMetrics
from models.training.dataset import Film
from models.training.evaluate import Scored, measure

CARD = Card.model_validate(
    {
        "name": "chest",
        "version": "1.0.0",
        "title": "Chest",
        "input": {"rows": 32, "columns": 32, "channels": 1},
        "recipe": "chest_xray_triage",
        "frame_policy": "first",
        "output": "softmax",
        "labels": [
            {"name": "normal", "finding": False},
            {
                "name": "covid",
                "finding": True,
                "code": {"scheme": "SCT", "value": "840539006", "meaning": "COVID-19"},
                "threshold": 0.3,
                "triage": [{"at_least": 0.3, "priority": "urgent"}],
            },
        ],
        "rollup": "max",
        "triage_rule": "t",
        "threshold_rule": "t",
        "tolerance": 0.001,
        "weights_sha256": "a" * 64,
        "golden_sha256": "b" * 64,
        "intended_use": "t",
        "not_for": ["t"],
    }
)


def scored(rows: list[tuple[str, int, float, str]]) -> Scored:
    """Rows of (patient, label, probability of covid, source)."""
    films = tuple(
        Film(Path(f"{i}.png"), CARD.labels[label].name, "test", patient, patient, source, "adult", "none")
        for i, (patient, label, _, source) in enumerate(rows)
    )
    covid = np.array([p for _, _, p, _ in rows], np.float32)
    return Scored(films, np.array([label for _, label, _, _ in rows]), np.stack([1 - covid, covid], axis=1))


ROWS: list[tuple[str, int, float, str]] = [
    ("a", 1, 0.9, "x"), ("b", 1, 0.4, "x"), ("c", 1, 0.1, "y"), ("d", 0, 0.6, "x"), ("e", 0, 0.2, "y"),
    ("e", 0, 0.3, "y"), ("f", 0, 0.05, "y"),
]  # fmt: skip


def test_each_figure_is_the_one_of_its_definition() -> None:
    metrics = measure(CARD, scored(ROWS), split="test", rounds=20)
    assert (metrics.images, metrics.patients) == (7, 6)
    assert metrics.accuracy.value == pytest.approx(4 / 7, abs=1e-4)
    assert metrics.confusion == ((3, 1), (2, 1))
    covid = metrics.labels["covid"]
    assert covid.images == 3
    assert covid.sensitivity is not None
    assert covid.sensitivity.value == pytest.approx(2 / 3, abs=1e-4)
    assert covid.specificity is not None
    assert covid.specificity.value == pytest.approx(2 / 4, abs=1e-4)
    expected = roc_auc_score([label for _, label, _, _ in ROWS], [p for _, _, p, _ in ROWS])
    assert covid.auroc.value == pytest.approx(float(expected), abs=1e-4)
    assert metrics.macro_f1.value == pytest.approx((2 * 3 / (3 + 2 + 3 + 1) + 2 * 1 / (1 + 1 + 1 + 2)) / 2, abs=1e-4)
    assert (covid.precision, covid.recall, covid.f1) != (None, None, None)
    found = [figure.value for figure in (covid.precision, covid.recall, covid.f1) if figure is not None]
    assert found == pytest.approx([1 / 2, 1 / 3, 2 / 5], abs=1e-4)
    chosen = [p if label else 1 - p for _, label, p, _ in ROWS]
    assert metrics.loss == pytest.approx(-np.log(chosen).mean(), abs=1e-4)


def test_normal_has_no_operating_point() -> None:
    normal = measure(CARD, scored(ROWS), split="test", rounds=20).labels["normal"]
    assert normal.sensitivity is None
    assert normal.auroc.value is not None


def test_sources_are_told_apart() -> None:
    groups = measure(CARD, scored(ROWS), split="test", rounds=20).by_source
    assert {name: (group.images, group.accuracy.value) for name, group in groups.items()} == {
        "x": (3, pytest.approx(1 / 3, abs=1e-4)),
        "y": (4, pytest.approx(3 / 4, abs=1e-4)),
    }
    assert groups["y"].labels["covid"].model_dump() == {"right": 0, "images": 1}


def test_calibration_is_told_before_and_after_the_temperature() -> None:
    """One film in ten is wrong; the network said 0.9, the card's temperature makes 0.75 of it."""
    card = CARD.model_copy(update={"temperature": 2.0})
    rows: list[tuple[str, int, float, str]] = [(f"p{i}", int(i % 10 > 0), 0.75, "x") for i in range(40)]
    calibration = measure(card, scored(rows), split="test", rounds=10).calibration
    assert calibration is not None
    assert calibration.after == pytest.approx(0.15, abs=1e-4)
    assert calibration.before == pytest.approx(0.0, abs=1e-4)


def test_a_part_is_compared_only_where_there_is_enough_to_compare() -> None:
    rows = [(f"{source}{i}", int(i < of_covid), 0.2 + 0.06 * (i % 10), source)
            for source, of_covid, films in (("even", 12, 24), ("odd", 9, 24)) for i in range(films)]  # fmt: skip
    groups = measure(CARD, scored(rows), split="test", rounds=20).by_source
    even, odd = groups["even"], groups["odd"]
    expected = roc_auc_score([int(i < 12) for i in range(24)], [0.06 * (i % 10) for i in range(24)])
    assert even.auroc["covid"].value == pytest.approx(expected, abs=1e-4)
    assert even.macro_f1 is not None
    assert (odd.auroc, odd.macro_f1) == ({}, None)
    assert odd.accuracy.value is not None


def assert_operating_point(covid: LabelMetrics) -> None:
    """Three films of seven have the finding; at 0.3 two of them are flagged, and two of the other four."""
    assert covid.auroc.value == pytest.approx(
        8 / 12, abs=1e-4
    )  # 0.9 goes before four, 0.4 before three, 0.1 before one
    assert covid.sensitivity is not None
    assert covid.specificity is not None
    assert (covid.sensitivity.value, covid.specificity.value) == (pytest.approx(2 / 3, abs=1e-4), 0.5)


def test_a_binary_output_is_measured_by_the_probability_of_the_true_label() -> None:
    card = CARD.model_copy(update={"output": "binary"})
    metrics = measure(card, scored(ROWS), split="test", rounds=10)
    # -ln of 0.9, 0.4, 0.1 with the finding and of 0.4, 0.8, 0.7, 0.95 without: 4.87164, a seventh of it
    assert metrics.loss == pytest.approx(0.6959, abs=1e-4)
    assert metrics.accuracy.value == pytest.approx(4 / 7, abs=1e-4)
    assert metrics.labels["normal"].auroc.value == pytest.approx(8 / 12, abs=1e-4)
    assert_operating_point(metrics.labels["covid"])


def test_sigmoids_are_measured_each_for_itself() -> None:
    """The network says 0.5 for normal, whatever it says for COVID-19."""
    card = CARD.model_copy(update={"output": "sigmoid"})
    told = scored(ROWS)
    apart = np.stack([np.full(len(ROWS), 0.5, np.float32), told.probabilities[:, 1]], axis=1)
    metrics = measure(card, Scored(told.films, told.targets, apart), split="test", rounds=10)
    # the mean of 0.69595, as of a binary output, and of ln 2 = 0.69315
    assert metrics.loss == pytest.approx(0.69455, abs=1e-4)
    assert metrics.accuracy.value == pytest.approx(4 / 7, abs=1e-4)
    assert metrics.labels["normal"].auroc.value == 0.5
    assert_operating_point(metrics.labels["covid"])


def test_a_label_that_no_film_has_is_not_counted_as_missed() -> None:
    third = CARD.labels[1].model_copy(update={"name": "tuberculosis"})
    card = CARD.model_copy(update={"labels": (*CARD.labels, third)})
    of_two = scored(ROWS)
    with_third = np.concatenate([of_two.probabilities, np.full((len(ROWS), 1), 0.001, np.float32)], axis=1)
    metrics = measure(card, Scored(of_two.films, of_two.targets, with_third), split="test", rounds=10)
    assert metrics.macro_f1 == measure(CARD, of_two, split="test", rounds=10).macro_f1
    absent = metrics.labels["tuberculosis"]
    assert absent.images == 0
    assert absent.auroc.value is None
    assert absent.specificity is not None
    assert absent.specificity.value == 1.0
    assert metrics.confusion[2] == (0, 0, 0)


def test_an_interval_holds_the_value_and_is_the_same_each_time() -> None:
    first, again = (measure(CARD, scored(ROWS), split="test", rounds=40).accuracy for _ in range(2))
    assert first == again
    assert first.low is not None
    assert first.high is not None
    assert first.value is not None
    assert first.low < first.value < first.high


def test_films_of_one_patient_are_not_independent() -> None:
    """Ten films each of ten patients say hardly more than one film each; a hundred patients say much more."""

    def width(patients: int, films: int) -> float:
        rows: list[tuple[str, int, float, str]] = [
            (f"p{i}", i % 2, 0.9 if i % 4 else 0.1, "x") for i in range(patients) for _ in range(films)
        ]
        accuracy: Any = measure(CARD, scored(rows), split="test", rounds=60).accuracy
        return float(accuracy.high - accuracy.low)

    assert width(12, 10) == pytest.approx(width(12, 1), abs=0.12)
    assert width(120, 1) < width(12, 10) / 2


def test_one_sided_sets_say_nothing_rather_than_something() -> None:
    metrics = measure(CARD, scored([("a", 1, 0.9, "x"), ("b", 1, 0.2, "x")]), split="test", rounds=10)
    assert metrics.labels["covid"].auroc.value is None
    assert metrics.labels["covid"].specificity is not None
    assert metrics.labels["covid"].specificity.value is None
