"""Triage: the roll-up, the priority, and a state that never hides what was not read."""

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
