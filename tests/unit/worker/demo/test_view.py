"""What is shown of a study: nothing that reads as negative when it is only silent."""

import io
from typing import Any

from rich.console import Console

from worker.demo.view import View, findings, report


def document(**changes: Any) -> dict[str, Any]:
    return {
        "study_instance_uid": "1.2", "patient_name": "PHANTOM^[red]X", "modality": "DX", "ai_status": "pending",
        "priority": "none", "reason": "", "findings": [], "reports": [], **changes,
    }  # fmt: skip


def finding(label: str, probability: float, *, flagged: bool) -> dict[str, Any]:
    return {"label": label, "probability": probability, "flagged": flagged}


def test_flagged_findings_come_first_and_alone() -> None:
    shown = [finding("covid", 0.2, flagged=False), finding("pneumonia", 0.91, flagged=True)]
    assert findings(document(ai_status="complete", findings=shown)) == "pneumonia 91%"
    assert findings(document(ai_status="complete", findings=shown[:1])) == "none flagged (highest: covid 20%)"
    assert findings(document()) == ""


def test_a_failure_shows_its_reason_in_few_words() -> None:
    assert findings(document(ai_status="failed", reason="cut off")) == "cut off"
    assert len(findings(document(ai_status="failed", reason="word " * 100))) <= 120


def test_deliveries_are_summed_up() -> None:
    reports = [{"generation": 1, "deliveries": [{"status": "pending"}, {"status": "delivered"}]}]
    assert report(document(reports=reports)) == "delivered, pending"
    assert report(document(reports=[{"generation": 1, "deliveries": []}])) == "stored"
    assert report(document()) == "-"


def test_without_a_terminal_each_change_is_one_line() -> None:
    out = io.StringIO()
    with View(Console(file=out)) as view:
        view.show([document()], "")
        view.show([document()], "")
        view.show([document(ai_status="complete")], "")
    assert out.getvalue().splitlines() == [
        "patient | modality | AI status | priority | findings | report",
        "PHANTOM^[red]X | DX | pending | none |  | -",
        "PHANTOM^[red]X | DX | complete | none |  | -",
    ]


def test_on_a_terminal_it_is_a_table_and_markup_in_names_is_not_taken_for_ours() -> None:
    out = io.StringIO()
    with View(Console(file=out, force_terminal=True, width=100)) as view:
        view.show([document()], "caption")
    assert "PHANTOM^[red]X" in out.getvalue()
    assert "not for diagnosis" in out.getvalue()
