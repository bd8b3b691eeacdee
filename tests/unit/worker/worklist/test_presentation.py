"""How the pages put things: nothing is called negative, times say their day."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from worker.study_words import ai_words, finding_name
from worker.worklist.presentation import (
    age,
    date_and_time,
    duration,
    local_time,
    marked,
    person_name,
    report_lines,
    triage_class,
)


def document(**values: Any) -> dict[str, Any]:
    instances = {"received": 1, "classified": 0, "failed": 0, "not_eligible": 0, "pending": 0}
    empty = {"reason": "", "findings": [], "reports": [], "instances": instances}
    return {"ai_status": "complete", "priority": "none"} | empty | values


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("DOE^Jane", "DOE, Jane"),
        ("DOE^Jane^Mary^Dr", "DOE, Jane Mary"),
        ("YAMADA^Tarou=山田^太郎=やまだ^たろう", "YAMADA, Tarou (山田 太郎)"),
        ("=山田^太郎", "山田 太郎"),
        ("==やまだ^たろう", "やまだ たろう"),
        ("Müller^Änne", "Müller, Änne"),
        ("^Jane", "Jane"),
        ("PHANTOM", "PHANTOM"),
        ("", "No patient name"),
        ("^^^", "No patient name"),
    ],
)
def test_person_name(raw: str, shown: str) -> None:
    assert person_name(raw) == shown


FLAGGED = {"label": "covid", "code": None, "flagged": True, "probability": 0.9}


@pytest.mark.parametrize(
    ("study", "words", "shown_class"),
    [
        (document(), "No finding flagged", "none"),
        (document(findings=[FLAGGED], priority="urgent"), "1 finding flagged", "urgent"),
        (document(findings=[FLAGGED, FLAGGED], priority="routine"), "2 findings flagged", "routine"),
        (document(ai_status="failed", reason="cut off"), "AI failed: cut off", "failed"),
        (document(ai_status="failed"), "AI failed: no reason was recorded", "failed"),
        (document(ai_status="failed", reason="x", priority="immediate"), "AI failed: x", "immediate"),
        (document(ai_status="not_eligible", reason="A knee."), "Not eligible: A knee.", "not_eligible"),
        (document(ai_status="pending", instances={"received": 1, "pending": 1}), "AI pending", "pending"),
        (document(ai_status="pending", instances={"received": 9, "pending": 2}), "AI pending (7 of 9 done)", "pending"),
    ],
)
def test_the_state_is_spelled_out(study: dict[str, Any], words: str, shown_class: str) -> None:
    assert ai_words(study) == words
    assert triage_class(study) == shown_class
    assert "negative" not in ai_words(study).lower()
    assert "normal" not in ai_words(study).lower()


def test_a_slice_is_marked_only_where_the_study_is_flagged() -> None:
    prediction = {"model": "ct", "flagged": ["covid", "pneumonia"]}
    finding = {"model": "ct", "label": "covid", "flagged": True}
    assert marked(prediction, [finding]) == {"covid"}
    assert marked(prediction, [finding | {"flagged": False}]) == set()
    assert marked(prediction, [finding | {"model": "film"}]) == set()
    assert marked(prediction | {"flagged": []}, [finding]) == set()


def test_finding_name() -> None:
    assert finding_name({"label": "covid", "code": {"meaning": "COVID-19"}}) == "COVID-19"
    assert finding_name({"label": "pleural_effusion", "code": None}) == "Pleural effusion"


def report(generation: int, *deliveries: tuple[str, str, str | None]) -> dict[str, Any]:
    return {
        "generation": generation,
        "deliveries": [{"destination": d, "status": s, "last_error": e} for d, s, e in deliveries],
    }


def test_reports_of_the_newest_generation_are_shown() -> None:
    study = document(
        reports=[
            report(1, ("OLD@h:1", "delivered", None)),
            report(2, ("A@h:1", "delivered", "an old error"), ("B@h:1", "pending", None), ("C@h:1", "failed", "A700")),
        ]
    )
    assert [(line.state, line.text, line.error) for line in report_lines(study)] == [
        ("delivered", "Delivered to A", ""),
        ("pending", "On its way to B", ""),
        ("failed", "Not delivered to C", "A700"),
    ]


def test_no_report_yet() -> None:
    assert [line.text for line in report_lines(document())] == ["Report is being written"]
    assert report_lines(document(ai_status="pending")) == []
    for status in ("failed", "not_eligible"):
        assert [(line.state, line.text) for line in report_lines(document(ai_status=status))] == [
            ("stored", "No report")
        ]
    assert [line.text for line in report_lines(document(reports=[report(1)]))] == ["Stored, no destination set"]


def test_times() -> None:
    now = datetime(2026, 11, 20, 12, 0, 30, tzinfo=UTC)
    assert age("2026-11-20T12:00:00Z", now) == "just now"
    assert age("2026-11-20T11:57:00Z", now) == "3 min ago"
    assert age("2026-11-19T11:57:00Z", now) == "24 h ago"
    assert age("2026-11-01T11:57:00Z", now) == "19 days ago"
    assert duration(59) == ""
    assert local_time(None) == ""
    then = (now - timedelta(days=3)).astimezone()
    assert local_time("2026-11-17T12:00:30Z", now) == f"{then.day} Nov {then:%H:%M}"
    assert local_time("2026-11-20T12:00:00Z", now) == f"{now.astimezone():%H:%M}"
    assert local_time("2025-06-15T12:00:00Z", now).startswith("2025-06-")
    assert date_and_time("2026-11-20T12:00:30Z") == f"{now.astimezone():%Y-%m-%d %H:%M}:30"
