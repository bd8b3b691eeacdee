"""The state of a study, kept in its row: AI status, priority, findings, reason, place in the worklist.

Called in the transaction of whatever changed an instance, so that the worklist never shows a result that is not
committed, nor misses one that is.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm.attributes import set_committed_value
from sqlmodel import Session, select

from models.card import Card
from worker.database import Instance, InstanceStatus, ModelVersion, Prediction, Series, Study, utc_now
from worker.inference.triage import Reading, roll_up, study_status, worklist_rank

_STUDY: sa.Table = Study.__table__  # type: ignore[attr-defined]
_INSTANCE: sa.Table = Instance.__table__  # type: ignore[attr-defined]
_SERIES: sa.Table = Series.__table__  # type: ignore[attr-defined]
_PREDICTION: sa.Table = Prediction.__table__  # type: ignore[attr-defined]
_VERSION: sa.Table = ModelVersion.__table__  # type: ignore[attr-defined]


def refresh(session: Session, study: Study) -> None:
    """Work out the state of a study anew from its instances and predictions."""
    refresh_all(session, [study])


def refresh_all(session: Session, studies: Sequence[Study]) -> None:
    """Work out the state of studies anew, with as many statements for many as for one."""
    if not studies:
        return
    session.flush()
    ids = [study.id or 0 for study in studies]
    counts, unread = _counts(session, ids)
    readings, notes = _readings(session, ids), _notes(session, ids)
    rows: list[dict[str, Any]] = []
    for study in studies:
        key = study.id or 0
        findings, priority = roll_up(readings[key], unread[key])
        status = study_status(counts[key])
        completed_at = None if status == "pending" else study.completed_at or utc_now()
        state = {
            "findings": findings,
            "priority": priority,
            "ai_status": status,
            "rank": worklist_rank(status, priority),
            "reason": _reason(study, status, notes[key]),
            "completed_at": completed_at,
        }
        has_written(study, state)
        rows.append({"number": key, **state})
    session.connection().execute(_write(), rows)


@cache
def _write() -> sa.Update:
    return sa.update(_STUDY).where(_STUDY.c.id == sa.bindparam("number"))


def has_written(row: Study | Instance, values: Mapping[str, Any]) -> None:
    """Let a row have these values, which a statement of the caller's writes: the session does not write them again."""
    for column, value in values.items():
        set_committed_value(row, column, value)


def locked(session: Session, study_id: int) -> Study:
    """Return a study, locked: whoever goes on to change anything of it does this first (studies, then work)."""
    query = select(Study).where(Study.id == study_id).with_for_update().execution_options(populate_existing=True)
    return session.exec(query).one()


def _counts(session: Session, study_ids: Sequence[int]) -> tuple[dict[int, Counter[str]], dict[int, dict[str, int]]]:
    """Count the instances of each study by status, and those still to be read by Series Instance UID."""
    counts: dict[int, Counter[str]] = defaultdict(Counter)
    unread: dict[int, dict[str, int]] = defaultdict(dict)
    for study_id, series, status, count in session.connection().execute(_counted(), {"study_ids": study_ids}):
        counts[study_id][status] += count
        if status == InstanceStatus.PENDING:
            unread[study_id][series] = count
    return counts, unread


@cache
def _counted() -> sa.Select[Any]:
    instance = _INSTANCE.c
    grouped = (
        sa.select(instance.study_id, instance.series_id, instance.status, sa.func.count().label("number"))
        .where(_of_studies())
        .group_by(instance.study_id, instance.series_id, instance.status)
        .subquery()
    )
    columns = grouped.c
    query = sa.select(columns.study_id, _SERIES.c.series_instance_uid, columns.status, columns.number)
    return query.join(_SERIES, _SERIES.c.id == columns.series_id)


def _of_studies() -> sa.ColumnElement[bool]:
    """Say that an instance is one of the given `study_ids`."""
    return _INSTANCE.c.study_id.in_(sa.bindparam("study_ids", expanding=True))


def _readings(session: Session, study_ids: Sequence[int]) -> dict[int, list[Reading]]:
    """Return what the models said of each study's instances; of each model the newest word on each instance."""
    newest: dict[int, dict[tuple[int, str], Reading]] = defaultdict(dict)
    rows = session.connection().execute(_said(), {"study_ids": study_ids}).all()
    cards = _cards(session, {row.model_version_id for row in rows})
    for study_id, instance_id, sop_instance, series, version_id, probabilities in rows:
        card = cards[version_id]
        newest[study_id][instance_id, card.name] = Reading(card, sop_instance, series, probabilities)
    return defaultdict(list, {study_id: list(found.values()) for study_id, found in newest.items()})


@cache
def _said() -> sa.Select[Any]:
    instance, prediction = _INSTANCE.c, _PREDICTION.c
    return (
        sa.select(
            instance.study_id,
            instance.id,
            instance.sop_instance_uid,
            _SERIES.c.series_instance_uid,
            prediction.model_version_id,
            prediction.probabilities,
        )
        .select_from(_PREDICTION)
        .join(_INSTANCE, instance.id == prediction.instance_id)
        .join(_SERIES, _SERIES.c.id == instance.series_id)
        .where(_of_studies())
        .order_by(prediction.created_at, prediction.id)
    )


_CARDS: dict[tuple[str, str, str], Card] = {}
"""By name, version and weights: what a card says of labels and thresholds stays as it was with the first of these."""


def _cards(session: Session, version_ids: Collection[int]) -> dict[int, Card]:
    """Return the cards of model versions; each is read and checked once by a process."""
    if not version_ids:
        return {}
    found: dict[int, Card] = {}
    for version_id, *key in session.connection().execute(_versions(), {"version_ids": list(version_ids)}).all():
        if tuple(key) not in _CARDS:
            _CARDS[tuple(key)] = Card.model_validate(session.get_one(ModelVersion, version_id).card)
        found[version_id] = _CARDS[tuple(key)]
    return found


@cache
def _versions() -> sa.Select[Any]:
    version = _VERSION.c
    query = sa.select(version.id, version.name, version.version, version.weights_sha256)
    return query.where(version.id.in_(sa.bindparam("version_ids", expanding=True)))


@dataclass(frozen=True)
class _Note:
    """What is written beside an instance."""

    status: str
    reason: str
    remark: str


def _notes(session: Session, study_ids: Sequence[int]) -> dict[int, list[_Note]]:
    """Return what is written beside the instances of each study, in the order in which they were received."""
    notes: dict[int, list[_Note]] = defaultdict(list)
    for study_id, *note in session.connection().execute(_noted(), {"study_ids": study_ids}):
        notes[study_id].append(_Note(*note))
    return notes


@cache
def _noted() -> sa.Select[Any]:
    instance = _INSTANCE.c
    return (
        sa.select(instance.study_id, instance.status, instance.reason, instance.remark)
        .where(_of_studies(), sa.or_(instance.reason != "", instance.remark != ""))
        .order_by(instance.received_at, instance.id)
    )


def _reason(study: Study, status: str, notes: Sequence[_Note]) -> str:
    """Say in words why a study is failed or not eligible, or what is worth knowing of a complete one."""
    if status == "failed":
        reasons = [note.reason for note in notes if note.status == InstanceStatus.FAILED]
    elif status == "not_eligible":
        reasons = [note.reason for note in notes]
    else:
        reasons = []
    reasons += [note.remark for note in notes if note.remark]
    distinct = list(dict.fromkeys(reason for reason in (*reasons, study.report_error, study.remark) if reason))
    shown = "; ".join(distinct[:3])
    return f"{shown}; and {len(distinct) - 3} more" if len(distinct) > 3 else shown
