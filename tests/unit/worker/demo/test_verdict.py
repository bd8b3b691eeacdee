"""The verdict: each claim of a demonstration's end can fail."""

from pathlib import Path
from typing import Any

from worker.demo.verdict import Verdict, judge, judge_sending, newest_reports
from worker.reporting.pacs import SendOutcome


def study(
    uid: str = "1.2", status: str = "complete", reason: str = "", deliveries: Any = ("delivered",)
) -> dict[str, Any]:
    reports = [
        {
            "sop_instance_uid": "1.2.9",
            "generation": 1,
            "deliveries": [{"destination": "PACS", "status": s, "last_error": None} for s in deliveries],
        }
    ]
    return {
        "study_instance_uid": uid,
        "ai_status": status,
        "reason": reason,
        "reports": reports if status == "complete" else [],
    }


STORED = SendOutcome(Path("a.dcm"), "1.2", 0, None)
NOTES = SendOutcome(Path("notes.txt"), None, None, "no DICOM object")


def test_it_ends_with_a_conclusion() -> None:
    assert Verdict().conclusion().startswith("done: nothing is pending")
    assert Verdict(problems=["a"]).conclusion() == "not done: 1 problem, named above"
    assert Verdict(problems=["a", "b"]).conclusion() == "not done: 2 problems, named above"


def test_own_scans_of_which_nothing_is_stored_are_a_problem() -> None:
    verdict = judge_sending([NOTES, NOTES], own_scans=True)
    assert verdict.problems == ["notes.txt: no DICOM object"] * 2 + ["nothing that --scans names was stored"]
    verdict = judge_sending([NOTES, STORED], own_scans=True)
    assert (verdict.problems, verdict.remarks) == ([], ["notes.txt: no DICOM object"])
    assert judge_sending([NOTES, STORED], own_scans=False).problems == ["notes.txt: no DICOM object"]


def test_complete_and_delivered_is_well() -> None:
    verdict = judge([study()], expected={}, routed={"1.2"})
    assert (verdict.problems, verdict.remarks) == ([], [])


def test_pending_is_a_problem_whatever_was_expected() -> None:
    assert judge([study(status="pending")], expected={}, routed=set()).problems == ["study 1.2 is pending"]
    assert judge([study(status="pending")], expected={"1.2": {"pending"}}, routed=set()).problems


def test_a_study_with_a_model_that_failed_is_a_problem_with_its_reason() -> None:
    verdict = judge([study(status="failed", reason="cut off")], expected={}, routed={"1.2"})
    assert verdict.problems == ["study 1.2 is failed: cut off (it has a model)"]


def test_a_study_that_no_model_was_for_is_only_told() -> None:
    verdict = judge([study(status="failed", reason="unreadable")], expected={}, routed=set())
    assert verdict.problems == []
    assert verdict.remarks == ["study 1.2 is failed: unreadable"]
    assert judge([study(status="not_eligible")], expected={}, routed=set()).problems == []


def test_an_expected_failure_is_well_and_its_absence_is_not() -> None:
    failed = judge([study(status="failed", reason="cut off")], expected={"1.2": {"failed"}}, routed={"1.2"})
    assert failed.problems == []
    assert failed.remarks == ["study 1.2 is failed: cut off (as expected)"]
    assert judge([study()], expected={"1.2": {"failed"}}, routed={"1.2"}).problems == [
        "study 1.2 is complete (expected: failed)"
    ]


def test_what_was_sent_and_never_came_is_a_problem() -> None:
    assert judge([], expected={"1.2": {"complete"}}, routed=set()).problems == [
        "study 1.2 was sent and is not in the worklist"
    ]


def test_a_report_that_is_missing_or_not_delivered_is_a_problem() -> None:
    pending = judge([study(deliveries=("delivered", "pending"))], expected={}, routed={"1.2"})
    assert pending.problems == ["report 1.2.9 of study 1.2 is not delivered to PACS: pending"]
    without = study() | {"reports": []}
    assert judge([without], expected={}, routed={"1.2"}).problems == ["study 1.2 is complete and has no report"]


def test_only_the_newest_generation_counts() -> None:
    document = study()
    document["reports"].insert(0, {"sop_instance_uid": "1.2.8", "generation": 2, "deliveries": []})
    assert [report["generation"] for report in newest_reports(document)] == [2]
