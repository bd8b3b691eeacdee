"""A study's result in words: nothing is called negative, nothing is silent, nothing rounds to certainty."""

from typing import Any

import pytest

from worker.study_words import NARROW_SPACE, highest_unflagged, percent, result_words


@pytest.mark.parametrize(
    ("probability", "shown"),
    [(0.914, "91.4 %"), (0.0, "<0.1 %"), (0.0004, "<0.1 %"), (0.0005, "0.1 %"), (0.9994, "99.9 %"),
     (0.9996, ">99.9 %"), (1.0, ">99.9 %")],
)  # fmt: skip
def test_percent_never_rounds_to_certainty(probability: float, shown: str) -> None:
    assert percent(probability).replace(NARROW_SPACE, " ") == shown


PNEUMONIA = {"label": "pneumonia", "code": None, "flagged": True, "probability": 0.9}
COVID = {"label": "covid", "code": {"meaning": "COVID-19"}, "flagged": False, "probability": 0.15}
EFFUSION = {"label": "pleural_effusion", "code": None, "flagged": False, "probability": 0.03}


def document(status: str = "complete", *findings: dict[str, Any], reason: str = "") -> dict[str, Any]:
    return {
        "ai_status": status,
        "reason": reason,
        "findings": list(findings),
        "instances": {"received": 9, "pending": 2},
    }


@pytest.mark.parametrize(
    ("study", "words"),
    [
        (document("complete", EFFUSION, COVID), "No finding flagged (highest: COVID-19 15.0 %)"),
        (
            document("complete", EFFUSION, reason="Two IDs."),
            "No finding flagged (highest: Pleural effusion 3.0 %); Two IDs.",
        ),
        (document("complete"), "No finding flagged"),
        (document("complete", COVID, PNEUMONIA), "Pneumonia 90.0 %"),
        (document("complete", PNEUMONIA, reason="Two IDs."), "Pneumonia 90.0 %; Two IDs."),
        (document("pending"), "AI pending (7 of 9 done)"),
        (document("pending", PNEUMONIA), "AI pending (7 of 9 done); Pneumonia 90.0 %"),
        (document("pending", COVID), "AI pending (7 of 9 done)"),
        (document("failed", reason="cut off"), "AI failed: cut off"),
        (document("failed", PNEUMONIA, reason="cut off"), "AI failed: cut off; Pneumonia 90.0 %"),
        (document("not_eligible", reason="A knee."), "Not eligible: A knee."),
    ],
)
def test_no_result_is_silent(study: dict[str, Any], words: str) -> None:
    assert result_words(study).replace(NARROW_SPACE, " ") == words


def test_the_highest_is_named_only_of_a_complete_study_without_a_flag() -> None:
    assert highest_unflagged(document("complete", EFFUSION, COVID)) == COVID
    assert highest_unflagged(document("complete", COVID, PNEUMONIA)) is None
    assert highest_unflagged(document("failed", COVID)) is None
    assert highest_unflagged(document("complete")) is None
