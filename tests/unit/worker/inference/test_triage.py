"""Triage: the roll-up, the priority, and a state that never hides what was not read."""

from collections.abc import Sequence
from typing import Any

import pytest

from tests.support.fakes import card
from worker.inference.triage import Reading, roll_up, study_status, worklist_rank


def reading(uid: str, pneumonia: float, covid: float = 0.0, series: str = "1", version: str = "1.0.0") -> Reading:
    probabilities = {"normal": 1 - pneumonia - covid, "pneumonia": pneumonia, "covid": covid}
    return Reading(card(version=version), uid, series, probabilities)


def test_the_study_has_the_highest_of_its_instances_and_says_which() -> None:
    findings, priority = roll_up([reading("a", 0.2), reading("b", 0.75, series="2"), reading("c", 0.3, 0.6)])
    assert priority == "urgent"
    assert [(f["label"], f["probability"], f["flagged"], f["sop_instance_uid"]) for f in findings] == [
        ("pneumonia", 0.75, True, "b"),
        ("covid", 0.6, True, "c"),
    ]
    assert findings[0]["code"] == {"scheme": "SCT", "value": "233604007", "meaning": "Pneumonia"}
    assert findings[0]["threshold"] == 0.4


@pytest.mark.parametrize(
    ("pneumonia", "covid", "priority"),
    [(0.39, 0.49, "none"), (0.4, 0.0, "routine"), (0.7, 0.0, "urgent"), (0.0, 0.5, "urgent"), (0.0, 0.95, "immediate")],
)
def test_priority_by_the_steps_of_the_card(pneumonia: float, covid: float, priority: str) -> None:
    assert roll_up([reading("a", pneumonia, covid)])[1] == priority


def test_normal_is_never_a_finding_and_nothing_read_is_nothing_found() -> None:
    findings, _ = roll_up([reading("a", 0.0)])
    assert {f["label"] for f in findings} == {"pneumonia", "covid"}
    assert roll_up([]) == ([], "none")


CT_CARD = card("chest_ct_covid").model_copy(update={"rollup": "top_tenth"})


def stack(covid: Sequence[float], series: str = "1") -> list[Reading]:
    """Slices of one series, named `<series>.<number>`, with these probabilities."""
    return [
        Reading(CT_CARD, f"{series}.{number}", series, {"normal": 1 - p, "pneumonia": 0.0, "covid": p})
        for number, p in enumerate(covid)
    ]


def covid_of(readings: Sequence[Reading], **unread: int) -> dict[str, Any]:
    findings, _ = roll_up(readings, unread)
    [finding] = [finding for finding in findings if finding["label"] == "covid"]
    return finding


@pytest.mark.parametrize(
    ("slices", "probability", "words"),
    [
        ([0.7], 0.7, "the only instance of the series"),
        ([0.1, 0.9], 0.5, "the mean of the 2 instances of the series"),
        ([0.1, 0.9, 0.2], 0.4, "the mean of the 3 instances of the series"),
        ([0.1, 0.9, 0.2, 0.4], 0.5, "the mean of the highest 3 of 4 instances of the series"),
        ([0.9] * 3 + [0.1] * 27, 0.9, "the mean of the highest 3 of 30 instances of the series"),
        ([0.9] * 3 + [0.1] * 28, 0.7, "the mean of the highest 4 of 31 instances of the series"),
        ([0.9] * 15 + [0.1] * 285, 0.5, "the mean of the highest 30 of 300 instances of the series"),
    ],
)
def test_a_stack_has_the_mean_of_its_highest_tenth(slices: list[float], probability: float, words: str) -> None:
    for order in (slices, slices[::-1]):
        finding = covid_of(stack(order))
        assert finding["probability"] == pytest.approx(probability, abs=1e-6)
        assert finding["flagged"] == (probability >= 0.5)
        assert finding["rollup"] == words
        assert order[int(finding["sop_instance_uid"].partition(".")[2])] == max(slices)


def test_one_odd_slice_flags_no_stack_but_a_tenth_of_it_does() -> None:
    assert not covid_of(stack([1.0] + [0.05] * 299))["flagged"]
    assert not covid_of(stack([1.0] + [0.05] * 9))["flagged"]
    assert covid_of(stack([0.6] * 30 + [0.05] * 270))["flagged"]


def test_the_study_is_its_highest_series_and_a_series_is_not_diluted_by_another() -> None:
    findings, priority = roll_up([*stack([0.05] * 300, "1"), *stack([0.05] * 50 + [0.97] * 6, "2")])
    assert priority == "immediate"
    assert (findings[0]["label"], findings[0]["probability"]) == ("covid", 0.97)
    assert findings[0]["sop_instance_uid"].startswith("2.")
    assert findings[0]["rollup"] == "the mean of the highest 6 of 56 instances of the series"


def test_the_priority_of_a_stack_is_that_of_its_mean_not_of_a_slice() -> None:
    assert roll_up(stack([1.0, 0.8, 0.6, 0.1]))[1] == "urgent"  # 0.8; alone, the first slice would be immediate


def test_two_models_are_rolled_up_each_by_its_card() -> None:
    findings, _ = roll_up([reading("film", 0.2, 0.6), *stack([0.9, 0.0, 0.0])])
    found = {(f["model"], f["label"]): (f["probability"], f["flagged"], f.get("rollup")) for f in findings}
    assert found["chest_xray_triage", "covid"] == (0.6, True, None)
    assert found["chest_ct_covid", "covid"] == (0.3, False, "the mean of the 3 instances of the series")


def test_a_slice_still_to_be_read_counts_as_nothing_so_that_a_flag_never_goes_away_again() -> None:
    slices = stack([0.9] * 40 + [0.1] * 260)
    found = [covid_of(slices[:read], **{"1": 300 - read}) for read in (3, 20, 40, 300)]
    assert [finding["probability"] for finding in found] == pytest.approx([0.09, 0.6, 0.9, 0.9])
    assert [finding["flagged"] for finding in found] == [False, True, True, True]
    assert covid_of(slices[:3], **{"2": 297})["probability"] == 0.9  # those of another series do not matter


@pytest.mark.parametrize(
    ("counts", "status"),
    [
        ({"pending": 1, "failed": 1, "classified": 1}, "pending"),
        ({"failed": 1, "classified": 5}, "failed"),
        ({"classified": 1, "not_eligible": 3}, "complete"),
        ({"not_eligible": 1}, "not_eligible"),
        ({}, "not_eligible"),
    ],
)
def test_the_status_of_a_study(counts: dict[str, int], status: str) -> None:
    assert study_status(counts) == status


def test_the_worklist_order() -> None:
    places = [("complete", "immediate"), ("failed", "urgent"), ("failed", "none"), ("complete", "routine"),
              ("pending", "none"), ("complete", "none")]  # fmt: skip
    assert [worklist_rank(*place) for place in places] == [0, 1, 2, 3, 4, 5]
    assert worklist_rank("failed", "routine") == 2
    assert worklist_rank("pending", "urgent") == 1
    assert worklist_rank("not_eligible", "none") == 5
