"""How the pages put things: names, times, the class of a study, where its report stands."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2

from worker.database import utc_now
from worker.study_words import ai_words, finding_name, flagged_first, highest_unflagged, label_name, percent

TRIAGE_WORDS = {
    "immediate": "Immediate",
    "urgent": "Urgent",
    "failed": "AI failed",
    "routine": "Routine",
    "pending": "AI pending",
    "none": "None flagged",
    "not_eligible": "Not eligible",
}
"""Classes of the worklist, in its order, and what their badges say."""
ORDER = "Immediate, urgent, AI failed, routine, AI pending, then the rest; the oldest first within each."
_MEANINGS = {"delivered": "Delivered to", "pending": "On its way to", "failed": "Not delivered to"}


@dataclass(frozen=True)
class ReportLine:
    """How a delivery stands: its state, what it says, and the error behind it."""

    state: str
    text: str
    error: str = ""


_NO_REPORT = {
    "complete": ReportLine("pending", "Report is being written"),
    "failed": ReportLine("stored", "No report"),
    "not_eligible": ReportLine("stored", "No report"),
}
"""What to say of a study without a report; of a pending one nothing is expected yet."""


def triage_class(document: dict[str, Any]) -> str:
    """Return the class of a study, a key of `TRIAGE_WORDS`."""
    if document["priority"] != "none":
        return str(document["priority"])
    status = str(document["ai_status"])
    return "none" if status == "complete" else status


def marked(prediction: dict[str, Any], findings: Iterable[dict[str, Any]]) -> set[str]:
    """Return the labels to mark on an instance: those that it reaches and that the study is flagged for.

    Of a stack of slices a single one reaches a threshold easily; marked red, it would look like a flag of the study.
    """
    flagged = {
        finding["label"] for finding in findings if finding["flagged"] and finding["model"] == prediction["model"]
    }
    return flagged.intersection(prediction["flagged"])


def person_name(raw: str) -> str:
    """Write a DICOM person name for reading: `DOE, Jane`, and the ideographic form after it (PS3.5 6.2.1.1)."""
    groups = [_name_group(group) for group in raw.split("=")]
    shown = [group for group in groups[:2] if group]
    if not shown:
        return next((group for group in groups if group), "No patient name")
    return shown[0] if len(shown) == 1 else f"{shown[0]} ({shown[1]})"


def _name_group(group: str) -> str:
    family, *rest = (part.strip() for part in group.split("^"))
    given = " ".join(part for part in rest[:2] if part)
    # A comma says that the family name was put first; in ideographic names it stands there anyway.
    return (", " if group.isascii() or family[:1].isupper() else " ").join(part for part in (family, given) if part)


def report_lines(document: dict[str, Any]) -> list[ReportLine]:
    """Say where the newest report of a study stands, one line a destination."""
    reports = document["reports"]
    if not reports:
        return [_NO_REPORT[document["ai_status"]]] if document["ai_status"] in _NO_REPORT else []
    newest = max(report["generation"] for report in reports)
    deliveries = [delivery for report in reports if report["generation"] == newest for delivery in report["deliveries"]]
    if not deliveries:
        return [ReportLine("stored", "Stored, no destination set")]
    return [
        ReportLine(
            delivery["status"],
            f"{_MEANINGS[delivery['status']]} {delivery['destination'].partition('@')[0]}",
            delivery["last_error"] or "" if delivery["status"] != "delivered" else "",
        )
        for delivery in deliveries
    ]


def parse(timestamp: str) -> datetime:
    """Read a timestamp of the JSON interface."""
    return datetime.fromisoformat(timestamp)


def age(timestamp: str, now: datetime | None = None) -> str:
    """Say how long ago something was, in the unit that matters."""
    return (
        f"{words} ago" if (words := duration(((now or utc_now()) - parse(timestamp)).total_seconds())) else "just now"
    )


def duration(seconds: float) -> str:
    """Write a duration in its greatest unit; empty below a minute."""
    minutes = int(seconds // 60)
    if minutes < 1:
        return ""
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h" if minutes < 48 * 60 else f"{minutes // (24 * 60)} days"


def local_time(timestamp: str | None, now: datetime | None = None) -> str:
    """Write a moment in this machine's time zone: `15:05` today, `20 Nov 15:05` before."""
    if timestamp is None:
        return ""
    moment, today = parse(timestamp).astimezone(), (now or utc_now()).astimezone()
    if moment.date() == today.date():
        return f"{moment:%H:%M}"
    return f"{moment.day} {moment:%b %H:%M}" if moment.year == today.year else f"{moment:%Y-%m-%d %H:%M}"


def date_and_time(timestamp: str) -> str:
    """Write a moment in this machine's time zone with its date, whatever day it is: `2026-11-20 15:05:03`."""
    return f"{parse(timestamp).astimezone():%Y-%m-%d %H:%M:%S}"


def time_zone() -> str:
    """Name the time zone that the pages show."""
    return datetime.now(UTC).astimezone().tzname() or "UTC"


def environment(**values: Any) -> jinja2.Environment:
    """Make the template environment: everything escaped, a missing value is an error; `values` are seen everywhere."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals.update(**values, viewer=None, triage_words=TRIAGE_WORDS, order=ORDER, time_zone=time_zone)
    for function in (
        triage_class, ai_words, flagged_first, highest_unflagged, marked, finding_name, label_name, percent,
        person_name, report_lines, age, duration, local_time, date_and_time,
    ):  # fmt: skip
        made.filters[function.__name__] = function
    return made
