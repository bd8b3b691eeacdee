"""The record of what was done, written out: every event of a time or a study, as it stands in the chain."""

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from io import StringIO
from typing import Any

import sqlalchemy as sa
from sqlmodel import Session, col, select

from worker.audit.chain import Row, read_chain
from worker.audit.log import moment_text
from worker.database import (
    AuditEvent,
    Delivery,
    Instance,
    ModelVersion,
    Prediction,
    Report,
    Study,
    WorkItem,
    WorkKind,
)
from worker.errors import NotFound


@dataclass(frozen=True)
class Selection:
    """Which events are wanted: those of a time (UTC, `until` left out), those of a study, both, or all."""

    since: datetime | None = None
    until: datetime | None = None
    study_instance_uid: str | None = None


def events(session: Session, wanted: Selection) -> Iterator[Row]:
    """Yield the events that are wanted, in order.

    Raises
    ------
    NotFound
        When neither the tables nor the chain know the study.
    """
    where: list[sa.ColumnElement[bool]] = []
    if wanted.since is not None:
        where.append(col(AuditEvent.at) >= wanted.since)
    if wanted.until is not None:
        where.append(col(AuditEvent.at) < wanted.until)
    if wanted.study_instance_uid is not None:
        where.append(col(AuditEvent.subject).in_(_subjects(session, wanted.study_instance_uid)))
    return read_chain(session, where)


def _subjects(session: Session, study_instance_uid: str) -> sa.Select[tuple[str]] | sa.CompoundSelect[tuple[str]]:
    """Select everything of a study that events are about: itself, its instances, reports, deliveries, work."""
    study_id = session.exec(select(Study.id).where(Study.study_instance_uid == study_instance_uid)).one_or_none()
    if study_id is None:
        if session.exec(select(AuditEvent.id).where(AuditEvent.subject == study_instance_uid).limit(1)).first() is None:
            raise NotFound(f"no study {study_instance_uid}; `firstread studies` lists them")
        return sa.select(sa.literal(study_instance_uid))
    instances = sa.select(col(Instance.id)).where(col(Instance.study_id) == study_id)
    reports = sa.select(col(Report.id)).where(col(Report.study_id) == study_id)
    deliveries = sa.select(col(Delivery.id)).where(col(Delivery.report_id).in_(reports))
    work = sa.or_(
        sa.and_(col(WorkItem.kind) == WorkKind.INFER, col(WorkItem.subject_id).in_(instances)),
        sa.and_(col(WorkItem.kind) == WorkKind.REPORT, col(WorkItem.subject_id) == study_id),
        sa.and_(col(WorkItem.kind) == WorkKind.DELIVER, col(WorkItem.subject_id).in_(deliveries)),
    )
    return sa.union(
        sa.select(sa.literal(study_instance_uid)),
        sa.select(col(Instance.sop_instance_uid)).where(col(Instance.study_id) == study_id),
        sa.select(col(Report.sop_instance_uid)).where(col(Report.study_id) == study_id),
        sa.select(col(WorkItem.subject)).where(work),
        *_finished(session, study_id, deliveries),
    )


def _finished(session: Session, study_id: int, deliveries: sa.Select[Any]) -> list[sa.Select[Any]]:
    """Select what work about a study was about that is finished, and may be removed by now."""
    next_one = session.get_one(Study, study_id).generation + 1
    model = col(ModelVersion.name) + sa.literal("@") + col(ModelVersion.version)
    predicted = (
        sa.select(_text("instance ", col(Prediction.instance_id)) + sa.literal(" ") + model)
        .select_from(Prediction)
        .join(ModelVersion, col(ModelVersion.id) == col(Prediction.model_version_id))
        .join(Instance, col(Instance.id) == col(Prediction.instance_id))
        .where(col(Instance.study_id) == study_id)
    )
    words = f"study {study_id} generation "
    reported = sa.select(_text(words, col(Report.generation))).where(col(Report.study_id) == study_id)
    delivered = sa.select(_text("delivery ", col(Delivery.id))).where(col(Delivery.id).in_(deliveries))
    return [predicted, reported, sa.select(sa.literal(f"{words}{next_one}")), delivered]


def _text(word: str, number: Any) -> sa.ColumnElement[str]:
    return sa.literal(word) + sa.cast(number, sa.Text)


def json_lines(rows: Iterator[Row]) -> Iterator[str]:
    """Yield the lines of a JSON list, an event a line."""
    before = "[\n"
    for row in rows:
        try:
            detail = json.loads(row.detail)
        except (ValueError, TypeError):  # somebody changed it: shown as it stands
            detail = row.detail
        event = row._asdict() | {"at": moment_text(row.at), "detail": detail}
        yield before + json.dumps(event, ensure_ascii=False)
        before = ",\n"
    yield "[]\n" if before == "[\n" else "\n]\n"


def csv_lines(rows: Iterator[Row], as_text: Callable[[str], str]) -> Iterator[str]:
    """Yield CSV, a head and then an event a row.

    Parameters
    ----------
    as_text
        Keeps a spreadsheet from taking a cell for a formula.
    """
    yield _csv(Row._fields)
    for row in rows:
        yield _csv([as_text(cell) for cell in (str(row.id), moment_text(row.at), *map(str, row[2:]))])


def _csv(cells: Sequence[str]) -> str:
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()
