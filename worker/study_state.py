"""The state of a study, kept in its row: AI status, priority, findings, reason, place in the worklist.

Called in the transaction of whatever changed an instance, so that the worklist never shows a result that is not
committed, nor misses one that is.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.orm.attributes import flag_modified
from sqlmodel import Session, col, select

from models.card import Card
from worker.database import Instance, InstanceStatus, ModelVersion, Prediction, Series, Study, utc_now
from worker.inference.triage import Reading, roll_up, study_status, worklist_rank


def refresh(session: Session, study: Study) -> None:
    """Work out the state of a study anew from its instances and predictions."""
    refresh_all(session, [study])


def refresh_all(session: Session, studies: Sequence[Study]) -> None:
    """Work out the state of studies anew, with as many statements for many as for one."""
    session.flush()
    ids = [study.id or 0 for study in studies]
    counts, unread = _counts(session, ids)
    readings, notes = _readings(session, ids), _notes(session, ids)
    for study in studies:
        key = study.id or 0
        study.findings, study.priority = roll_up(readings[key], unread[key])
        study.ai_status = study_status(counts[key])
        study.rank = worklist_rank(study.ai_status, study.priority)
        study.reason = _reason(study, notes[key])
        if study.ai_status == "pending":
            study.completed_at = None
        elif study.completed_at is None:
            study.completed_at = utc_now()
        all_written(study, "findings", "priority", "ai_status", "rank", "reason", "completed_at")
        session.add(study)


def all_written(row: Study | Instance, *columns: str) -> None:
    """Let these columns of a row be written, changed or not: rows that write the same columns share a statement."""
    for column in columns:
        flag_modified(row, column)


def locked(session: Session, study_id: int) -> Study:
    """Return a study, locked: whoever goes on to change anything of it does this first (studies, then work)."""
    query = select(Study).where(Study.id == study_id).with_for_update().execution_options(populate_existing=True)
    return session.exec(query).one()


def _counts(session: Session, study_ids: Sequence[int]) -> tuple[dict[int, Counter[str]], dict[int, dict[str, int]]]:
    """Count the instances of each study by status, and those still to be read by Series Instance UID."""
    counts: dict[int, Counter[str]] = defaultdict(Counter)
    unread: dict[int, dict[str, int]] = defaultdict(dict)
    number = sa.func.count()
    grouped = (
        sa.select(col(Instance.study_id), col(Instance.series_id), col(Instance.status), number.label("number"))
        .where(col(Instance.study_id).in_(study_ids))
        .group_by(col(Instance.study_id), col(Instance.series_id), col(Instance.status))
        .subquery()
    )
    columns = grouped.c
    query = sa.select(columns.study_id, col(Series.series_instance_uid), columns.status, columns.number)
    for study_id, series, status, count in session.execute(query.join(Series, col(Series.id) == columns.series_id)):
        counts[study_id][status] += count
        if status == InstanceStatus.PENDING:
            unread[study_id][series] = count
    return counts, unread


def _readings(session: Session, study_ids: Sequence[int]) -> dict[int, list[Reading]]:
    """Return what the models said of each study's instances; of each model the newest word on each instance."""
    newest: dict[int, dict[tuple[int, str], Reading]] = defaultdict(dict)
    rows = session.execute(
        sa.select(
            col(Instance.study_id),
            col(Instance.id),
            col(Instance.sop_instance_uid),
            col(Series.series_instance_uid),
            col(Prediction.model_version_id),
            col(Prediction.probabilities),
        )
        .join(Instance, col(Instance.id) == col(Prediction.instance_id))
        .join(Series, col(Series.id) == col(Instance.series_id))
        .where(col(Instance.study_id).in_(study_ids))
        .order_by(col(Prediction.created_at), col(Prediction.id))
    ).all()
    cards = _cards(session, {row.model_version_id for row in rows})
    for study_id, instance_id, sop_instance, series, version_id, probabilities in rows:
        card = cards[version_id]
        newest[study_id][instance_id, card.name] = Reading(card, sop_instance, series, probabilities)
    return defaultdict(list, {study_id: list(found.values()) for study_id, found in newest.items()})


_CARDS: dict[tuple[str, str, str], Card] = {}
"""By name, version and weights: what a card says of labels and thresholds stays as it was with the first of these."""


def _cards(session: Session, version_ids: Collection[int]) -> dict[int, Card]:
    """Return the cards of model versions; each is read and checked once by a process."""
    if not version_ids:
        return {}
    query = sa.select(
        col(ModelVersion.id), col(ModelVersion.name), col(ModelVersion.version), col(ModelVersion.weights_sha256)
    ).where(col(ModelVersion.id).in_(version_ids))
    found: dict[int, Card] = {}
    for version_id, *key in session.execute(query).all():
        if tuple(key) not in _CARDS:
            _CARDS[tuple(key)] = Card.model_validate(session.get_one(ModelVersion, version_id).card)
        found[version_id] = _CARDS[tuple(key)]
    return found


@dataclass(frozen=True)
class _Note:
    """What is written beside an instance."""

    status: str
    reason: str
    remark: str


def _notes(session: Session, study_ids: Sequence[int]) -> dict[int, list[_Note]]:
    """Return what is written beside the instances of each study, in the order in which they were received."""
    notes: dict[int, list[_Note]] = defaultdict(list)
    query = (
        sa.select(col(Instance.study_id), col(Instance.status), col(Instance.reason), col(Instance.remark))
        .where(
            col(Instance.study_id).in_(study_ids),
            sa.or_(col(Instance.reason) != "", col(Instance.remark) != ""),
        )
        .order_by(col(Instance.received_at), col(Instance.id))
    )
    for study_id, *note in session.execute(query):
        notes[study_id].append(_Note(*note))
    return notes


def _reason(study: Study, notes: Sequence[_Note]) -> str:
    """Say in words why a study is failed or not eligible, or what is worth knowing of a complete one."""
    if study.ai_status == "failed":
        reasons = [note.reason for note in notes if note.status == InstanceStatus.FAILED]
    elif study.ai_status == "not_eligible":
        reasons = [note.reason for note in notes]
    else:
        reasons = []
    reasons += [note.remark for note in notes if note.remark]
    distinct = list(dict.fromkeys(reason for reason in (*reasons, study.report_error, study.remark) if reason))
    shown = "; ".join(distinct[:3])
    return f"{shown}; and {len(distinct) - 3} more" if len(distinct) > 3 else shown
