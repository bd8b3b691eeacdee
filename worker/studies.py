"""The read model: a study as CONTRACT.md shows it, from the database.

One place makes the JSON of a study for `firstread studies`, the HTTP interface and the worklist page, so that the three
cannot disagree. A page of studies takes three queries, however many studies it holds.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

import sqlalchemy as sa
from sqlmodel import Session, col

from worker.database import (
    AuditEvent,
    Delivery,
    Heartbeat,
    Instance,
    InstanceStatus,
    ModelVersion,
    Prediction,
    Report,
    Series,
    Study,
    WorkItem,
    WorkKind,
    is_leased,
    is_owed,
    utc_now,
)
from worker.errors import NotFound

STUDY_UID = re.compile(r"[0-9.]{1,64}")
"""What a Study Instance UID may look like (DICOM PS3.5 9.1); anything else is not asked of the database."""

STATUSES = ("pending", "complete", "failed", "not_eligible")
PRIORITIES = ("immediate", "urgent", "routine", "none")
"""What `ai_status` and `priority` of a study may be."""

ACKNOWLEDGED = "failure.acknowledged"
"""The audit event with which a person says that the failure of a study is known."""

_IDS_AT_ONCE = 500
"""SQLite binds at most 32,766 values in a statement."""
_MOST_WORDS = 8
"""Words of a search that are looked for: each costs a scan."""
_INSTANCE_ORDER = (
    InstanceStatus.FAILED,
    InstanceStatus.PENDING,
    InstanceStatus.CLASSIFIED,
    InstanceStatus.NOT_ELIGIBLE,
)

Document = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class StudyFilter:
    """Which studies are asked for.

    Parameters
    ----------
    search
        Words that must all occur in the patient ID, the patient name or the accession number; case does not matter.
    status
        `ai_status`, or None for any.
    priority
        `priority`, or None for any.
    limit
        At most so many; None for all.
    offset
        How many to pass over first.
    """

    search: str = ""
    status: str | None = None
    priority: str | None = None
    limit: int | None = 100
    offset: int = 0


def list_studies(session: Session, wanted: StudyFilter) -> list[Document]:
    """List studies as JSON documents: most urgent first, then oldest first."""
    query = (
        sa.select(Study)
        .where(*_conditions(wanted))
        .order_by(col(Study.rank), col(Study.received_at), col(Study.id))
        .offset(wanted.offset)
    )
    if wanted.limit is not None:
        query = query.limit(wanted.limit)
    return _documents(session, session.scalars(query).all())


def count_studies(session: Session, wanted: StudyFilter) -> int:
    """Count the studies that a filter lets through, its limit and offset left aside."""
    return session.scalar(sa.select(sa.func.count()).select_from(Study).where(*_conditions(wanted))) or 0


def count_by_class(session: Session, search: str = "") -> Counter[tuple[str, str]]:
    """Count studies by (`ai_status`, `priority`), among those that a search finds."""
    columns = (col(Study.ai_status), col(Study.priority))
    rows = session.execute(
        sa.select(*columns, sa.func.count()).where(*_conditions(StudyFilter(search=search))).group_by(*columns)
    )
    counts: Counter[tuple[str, str]] = Counter()
    for status, priority, count in rows:
        counts[_status(status), _priority(priority)] += count
    return counts


def study_document(session: Session, study_instance_uid: str) -> Document:
    """Return one study as a JSON document.

    Raises
    ------
    NotFound
        When no study has this UID.
    """
    return _documents(session, [_study(session, study_instance_uid)])[0]


def study_detail(session: Session, study_instance_uid: str, *, instances: int | None = None) -> Document:
    """Return one study with its series and instances and every class probability of each.

    Parameters
    ----------
    session
        An open session.
    study_instance_uid
        Which study.
    instances
        At most so many instances, those that a finding comes from first, then failed and pending ones; None for all.

    Raises
    ------
    NotFound
        When no study has this UID.
    """
    study = _study(session, study_instance_uid)
    return _documents(session, [study])[0] | {
        "remark": study.remark,
        "generation": study.generation,
        "failure_acknowledged_by": _acknowledged_by(session, study),
        "series": _series(session, study),
        "instances_detail": _instances(session, study, instances),
    }


def worker_silence(session: Session, now: datetime | None = None) -> float | None:
    """Return for how many seconds inference work has been due while no inference worker said that it is alive.

    None when nothing is due. Both clocks must have run: the newest heartbeat of a worker for that model is as old as
    that, and so is the oldest work for it that could have been taken; a scan that has just arrived after a quiet night
    is no alarm yet. A heartbeat says `inference LANE HOST`; one that names no lane (`name@version`) counts for all.
    """
    now = now or utc_now()
    oldest: dict[str, datetime] = {}
    for state, due_since in ((is_owed(), col(WorkItem.not_before)), (is_leased(), col(WorkItem.lease_until))):
        query = (
            sa.select(col(WorkItem.lane), sa.func.min(due_since))
            .where(state, col(WorkItem.kind) == WorkKind.INFER, due_since <= now)
            .group_by(col(WorkItem.lane))
        )
        for lane, since in session.execute(query):
            oldest[lane] = min(since, oldest.get(lane, since))
    if not oldest:
        return None
    heard = _heard(session)
    silent = min(max(filter(None, (due, heard.get(lane), heard.get("")))) for lane, due in oldest.items())
    return max((now - silent) / timedelta(seconds=1), 0.0)


def _heard(session: Session) -> dict[str, datetime]:
    """Return when an inference worker was last heard, by the lane it takes work of; "" where it does not say."""
    heard: dict[str, datetime] = {}
    for beat in session.scalars(sa.select(Heartbeat).where(col(Heartbeat.service).startswith("inference"))):
        lane = next((word for word in beat.service.split()[1:2] if "@" in word), "")
        heard[lane] = max(beat.at, heard.get(lane, beat.at))
    return heard


def timestamp(moment: datetime | None) -> str | None:
    """Write a moment as CONTRACT.md does: `2026-11-20T15:05:00Z`."""
    return None if moment is None else moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _conditions(wanted: StudyFilter) -> list[sa.ColumnElement[bool]]:
    conditions = [
        sa.or_(
            *(
                sa.func.lower(column).like(pattern, escape="\\")
                for column in (col(Study.patient_id), col(Study.patient_name), col(Study.accession_number))
                for pattern in _patterns(word)
            )
        )
        for word in _words(wanted.search)
    ]
    if wanted.status is not None:
        conditions.append(col(Study.ai_status) == wanted.status)
    if wanted.priority is not None:
        conditions.append(col(Study.priority) == wanted.priority)
    return conditions


def _words(search: str) -> Iterator[str]:
    """Cut a search at blanks, commas and the delimiters of a DICOM person name (PS3.5 6.2.1)."""
    printable = "".join(character if character.isprintable() else " " for character in search)
    return islice((word for word in re.split(r"[\s,^=]+", printable) if word), _MOST_WORDS)


def _patterns(word: str) -> set[str]:
    r"""Return the LIKE patterns that find a word in any case, with `%`, `_` and `\` standing for themselves.

    `lower()` of SQLite, and of PostgreSQL in the C locale, folds ASCII alone: there MÜLLER becomes mÜller. So the word
    is also looked for with its other letters as typed, as capitals, and as in a title.
    """
    spellings = {word.lower(), *(_ascii_lower(form) for form in (word, word.upper(), word.title()))}
    return {"%" + re.sub(r"([%_\\])", r"\\\1", spelling) + "%" for spelling in spellings}


def _ascii_lower(word: str) -> str:
    return "".join(character.lower() if character.isascii() else character for character in word)


def _study(session: Session, study_instance_uid: str) -> Study:
    study = None
    if STUDY_UID.fullmatch(study_instance_uid):
        study = session.scalar(sa.select(Study).where(col(Study.study_instance_uid) == study_instance_uid))
    if study is None:
        raise NotFound(f"no study {study_instance_uid!r} has been received here: check the Study Instance UID")
    return study


def _acknowledged_by(session: Session, study: Study) -> str | None:
    """Return who said last that the failure is known, as the audit trail names them."""
    if study.failure_acknowledged_at is None:
        return None
    told = (col(AuditEvent.subject) == study.study_instance_uid, col(AuditEvent.action) == ACKNOWLEDGED)
    return session.scalar(sa.select(col(AuditEvent.actor)).where(*told).order_by(col(AuditEvent.id).desc()).limit(1))


def _documents(session: Session, studies: Sequence[Study]) -> list[Document]:
    documents = []
    for start in range(0, len(studies), _IDS_AT_ONCE):
        chunk = studies[start : start + _IDS_AT_ONCE]
        ids = [study.id for study in chunk if study.id is not None]
        counts, reports = _instance_counts(session, ids), _reports(session, ids)
        documents += [_document(study, counts[study.id or 0], reports[study.id or 0]) for study in chunk]
    return documents


def _document(study: Study, counts: Counter[str], reports: list[Document]) -> Document:
    return {
        "study_instance_uid": study.study_instance_uid,
        "patient_id": study.patient_id,
        "patient_name": study.patient_name,
        "accession_number": study.accession_number,
        "modality": study.modality,
        "study_description": study.study_description,
        "received_at": timestamp(study.received_at),
        "completed_at": timestamp(study.completed_at),
        "priority": _priority(study.priority),
        "ai_status": _status(study.ai_status),
        "reason": study.reason,
        "failure_acknowledged_at": timestamp(study.failure_acknowledged_at),
        "instances": {"received": counts.total()} | {str(status): counts[status] for status in _COUNTED},
        "findings": study.findings,
        "reports": reports,
    }


_COUNTED = (
    InstanceStatus.CLASSIFIED,
    InstanceStatus.FAILED,
    InstanceStatus.NOT_ELIGIBLE,
    InstanceStatus.PENDING,
)


def _status(stored: str) -> str:
    """Say "pending" of a study that nobody has looked at yet: silence is never read as negative."""
    return stored or str(InstanceStatus.PENDING)


def _priority(stored: str) -> str:
    return stored or "none"


def _instance_counts(session: Session, ids: list[int]) -> defaultdict[int, Counter[str]]:
    rows = session.execute(
        sa.select(col(Instance.study_id), col(Instance.status), sa.func.count())
        .where(col(Instance.study_id).in_(ids))
        .group_by(col(Instance.study_id), col(Instance.status))
    )
    counts: defaultdict[int, Counter[str]] = defaultdict(Counter)
    for study_id, status, count in rows:
        counts[study_id][status] = count
    return counts


def _reports(session: Session, ids: list[int]) -> defaultdict[int, list[Document]]:
    """Read the reports of studies, each with its deliveries, in one query."""
    rows = session.execute(
        sa.select(Report, Delivery)
        .join(Delivery, col(Delivery.report_id) == col(Report.id), isouter=True)
        .where(col(Report.study_id).in_(ids))
        .order_by(col(Report.generation), col(Report.kind).desc(), col(Report.id), col(Delivery.destination))
    )
    reports: defaultdict[int, list[Document]] = defaultdict(list)
    written: dict[int | None, Document] = {}
    for report, delivery in rows:
        if report.id not in written:
            written[report.id] = report.model_dump(include={"sop_instance_uid", "kind", "generation"})
            written[report.id]["deliveries"] = []
            reports[report.study_id].append(written[report.id])
        if delivery is not None:
            shown = delivery.model_dump(include={"destination", "status", "attempts", "last_error", "committed"})
            written[report.id]["deliveries"].append(shown)
    return reports


def _series(session: Session, study: Study) -> list[Document]:
    rows = session.execute(
        sa.select(Series, sa.func.count(col(Instance.id)))
        .join(Instance, col(Instance.series_id) == col(Series.id), isouter=True)
        .where(col(Series.study_id) == study.id)
        .group_by(col(Series.id))
        .order_by(col(Series.id))
    )
    return [series.model_dump(exclude={"id", "study_id"}) | {"instances": count} for series, count in rows]


def _instances(session: Session, study: Study, limit: int | None) -> list[Document]:
    sources = {finding.get("sop_instance_uid") for finding in study.findings}
    place = sa.case(
        (col(Instance.sop_instance_uid).in_(sources), 0),
        *((col(Instance.status) == status, place) for place, status in enumerate(_INSTANCE_ORDER, start=1)),
    )
    chosen = (
        sa.select(col(Instance.id))
        .where(col(Instance.study_id) == study.id)
        .order_by(place, col(Instance.received_at), col(Instance.id))
        .limit(limit)
    )
    rows = session.execute(
        sa.select(Instance, col(Series.series_instance_uid))
        .join(Series, col(Series.id) == col(Instance.series_id))
        .where(col(Instance.id).in_(chosen))
        .order_by(place, col(Instance.received_at), col(Instance.id))
    ).all()
    predictions = _predictions(session, chosen)
    return [
        {
            "id": instance.id,
            "sop_instance_uid": instance.sop_instance_uid,
            "series_instance_uid": series_instance_uid,
            "sop_class_uid": instance.sop_class_uid,
            "transfer_syntax_uid": instance.transfer_syntax_uid,
            "status": instance.status,
            "reason": instance.reason,
            "remark": instance.remark,
            "calling_ae": instance.calling_ae,
            "patient_id": instance.patient_id,
            "received_at": timestamp(instance.received_at),
            "size_bytes": instance.size_bytes,
            "sha256": instance.sha256,
            "bytes_removed_at": timestamp(instance.bytes_removed_at or instance.removal_began_at),
            "predictions": predictions[instance.id],
        }
        for instance, series_instance_uid in rows
    ]


def _predictions(session: Session, instance_ids: sa.Select[Any]) -> defaultdict[int | None, list[Document]]:
    rows = session.execute(
        sa.select(Prediction, col(ModelVersion.name), col(ModelVersion.version))
        .join(ModelVersion, col(ModelVersion.id) == col(Prediction.model_version_id))
        .where(col(Prediction.instance_id).in_(instance_ids))
        .order_by(col(Prediction.id))
    )
    predictions: defaultdict[int | None, list[Document]] = defaultdict(list)
    for prediction, name, version in rows:
        predictions[prediction.instance_id].append(
            {"model": name, "model_version": version, "created_at": timestamp(prediction.created_at)}
            | prediction.model_dump(exclude={"instance_id", "model_version_id", "created_at"})
        )
    return predictions
