"""What ops do on a bad day: look at the quarantine, try again, reprocess a study, send its report again."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa
from sqlmodel import Session, col, select

from worker.config import Peer
from worker.database import (
    CommitmentRequest,
    CommitmentStatus,
    Database,
    Delivery,
    DeliveryStatus,
    Instance,
    ModelVersion,
    Prediction,
    Report,
    Study,
    WorkItem,
    WorkKind,
    WorkState,
    is_quarantined,
    utc_now,
)
from worker.errors import BytesRemoved, NotFound
from worker.pipeline import Pipeline
from worker.retention.rules import has_failed
from worker.studies import ACKNOWLEDGED, timestamp
from worker.study_state import locked, refresh


@dataclass(frozen=True)
class Quarantined:
    """One piece of work that was given up."""

    id: int
    kind: str
    lane: str
    subject: str
    attempts: int
    last_error: str
    since: str
    study_instance_uid: str
    sop_instance_uid: str

    def as_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


def quarantine_list(database: Database) -> list[Quarantined]:
    """Return the work that was given up, oldest first."""
    with database.read() as session:
        items = session.exec(select(WorkItem).where(is_quarantined()).order_by(col(WorkItem.finished_at))).all()
        return [_quarantined(session, item) for item in items]


def _quarantined(session: Session, item: WorkItem) -> Quarantined:
    study, sop_instance_uid = _about(session, item)
    return Quarantined(
        id=item.id or 0,
        kind=item.kind,
        lane=item.lane,
        subject=item.subject,
        attempts=item.attempts,
        last_error=item.last_error or "",
        since=timestamp(item.finished_at) or "",
        study_instance_uid=study.study_instance_uid if study else "",
        sop_instance_uid=sop_instance_uid,
    )


def _about(session: Session, item: WorkItem) -> tuple[Study | None, str]:
    """Return the study that work is about, and the instance or report."""
    if item.kind == WorkKind.INFER:
        instance = session.get(Instance, item.subject_id)
        return (session.get(Study, instance.study_id), instance.sop_instance_uid) if instance else (None, "")
    if item.kind == WorkKind.REPORT:
        return session.get(Study, item.subject_id), ""
    if item.kind == WorkKind.COMMIT:  # of any number of studies
        return None, ""
    delivery = session.get(Delivery, item.subject_id)
    report = session.get(Report, delivery.report_id) if delivery else None
    return (session.get(Study, report.study_id), report.sop_instance_uid) if report else (None, "")


def quarantine_retry(pipeline: Pipeline, work_id: int) -> Quarantined:
    """Owe given-up work once more, with fresh attempts.

    Raises
    ------
    NotFound
        When no work of this number is in quarantine.
    BytesRemoved
        When retention has removed the stored bytes that it needs.
    """
    with pipeline.database.write() as session:
        item = session.get(WorkItem, work_id)
        study = _about(session, item)[0] if item else None
        if study is not None:
            locked(session, study.id or 0)
            session.refresh(item, with_for_update=True)
        if item is None or item.state != WorkState.QUARANTINED:
            raise NotFound(f"no work {work_id} in quarantine; `firstread quarantine list` shows what is")
        _require_bytes(session, item)
        described = _quarantined(session, item)
        pipeline.work.reopen(item, utc_now())
        session.add(item)
        session.flush()
        _show_pending(session, pipeline, item)
        if study is not None:
            study.report_error = "" if item.kind == WorkKind.REPORT else study.report_error
            refresh(session, study)
        pipeline.record(session, "work.retried", item.subject, {"kind": item.kind, "lane": item.lane})
    return described


def _require_bytes(session: Session, item: WorkItem) -> None:
    """Refuse work that needs stored bytes which retention has removed.

    Raises
    ------
    BytesRemoved
        Saying when.
    """
    if item.kind not in {WorkKind.INFER, WorkKind.REPORT}:  # the number is that of a delivery or a request
        return
    about = Instance.id if item.kind == WorkKind.INFER else Instance.study_id
    removals = session.exec(select(Instance.removal_began_at).where(about == item.subject_id)).all()
    if removals and None not in removals:
        raise BytesRemoved(f"work {item.id}: {_REMOVED.format(timestamp(removals[0]))}")


_REMOVED = "the stored bytes were removed by retention on {}: it cannot be done again"


def _show_pending(session: Session, pipeline: Pipeline, item: WorkItem) -> None:
    """Let what the work is about look pending again."""
    if item.kind == WorkKind.INFER:
        instance = session.get(Instance, item.subject_id)
        if instance is not None:
            instance.reason = ""
            pipeline.results.settle_instance(session, instance)
    elif item.kind == WorkKind.DELIVER:
        delivery = session.get(Delivery, item.subject_id)
        if delivery is not None:
            delivery.status = DeliveryStatus.PENDING
            session.add(delivery)
    elif item.kind == WorkKind.ASK_COMMITMENT:
        delivery = session.get(Delivery, item.subject_id)
        if delivery is not None:
            delivery.status = DeliveryStatus.DELIVERED  # it was, and the destination is asked anew
            pipeline.commitments.asking.begin_anew(session, delivery)
    elif item.kind == WorkKind.COMMIT:
        request = session.get(CommitmentRequest, item.subject_id)
        if request is not None:
            request.status = CommitmentStatus.PENDING
            session.add(request)


def reprocess(pipeline: Pipeline, study_instance_uid: str, models: Sequence[str] = ()) -> int:
    """Owe inference for the eligible instances of a study once more; return how many pieces of work.

    Parameters
    ----------
    models
        `name@version` of the models to use; empty: those that the instances went to before.

    Raises
    ------
    NotFound
        When there is no such study, or nothing of it can be classified.
    BytesRemoved
        When retention has removed the stored bytes of all that could be.
    """
    owed = 0
    with pipeline.database.write() as session:
        study = _study(session, study_instance_uid)
        instances = session.exec(
            select(Instance).where(Instance.study_id == study.id, col(Instance.reportable).is_(True))
        ).all()
        removals = [one.removal_began_at for one in instances if one.removal_began_at is not None]
        for instance in instances:
            if instance.removal_began_at is not None:
                continue
            earlier = session.exec(
                select(WorkItem).where(WorkItem.kind == WorkKind.INFER, WorkItem.subject_id == instance.id)
            ).all()
            lanes = {item.lane for item in earlier} | _predicted_by(session, instance)
            if not lanes:
                continue  # failed at registration (a UID conflict): there is nothing to run again
            for model in models or sorted(lanes):
                name = model.partition("@")[0]
                for item in earlier:
                    if item.state == WorkState.QUARANTINED and item.lane.partition("@")[0] == name:
                        item.state = WorkState.DONE  # what is owed now takes its place
                        session.add(item)
                pipeline.work.owe(
                    session,
                    WorkKind.INFER,
                    f"instance {instance.id} {model}",
                    instance.id or 0,
                    lane=model,
                    not_before=utc_now(),
                )
                owed += 1
            instance.reason = ""
            pipeline.results.settle_instance(session, instance)
        if removals and not owed:
            raise BytesRemoved(f"study {study_instance_uid}: {_REMOVED.format(timestamp(removals[0]))}")
        if not owed:
            raise NotFound(f"study {study_instance_uid} holds nothing that a model has been asked about")
        refresh(session, study)
        pipeline.record(session, "study.reprocessed", study_instance_uid, {"models": list(models), "owed": owed})
    return owed


def _predicted_by(session: Session, instance: Instance) -> set[str]:
    """Return the models that have classified an instance: the row of the work may be removed by now."""
    versions = session.exec(
        select(ModelVersion.name, ModelVersion.version)
        .join(Prediction, col(Prediction.model_version_id) == col(ModelVersion.id))
        .where(Prediction.instance_id == instance.id)
    )
    return {f"{name}@{version}" for name, version in versions}


def acknowledge(pipeline: Pipeline, study_instance_uid: str) -> None:
    """Write that a person knows of a study's failure: retention may then remove its bytes.

    Raises
    ------
    NotFound
        When there is no such study, or nothing of it has failed.
    """
    with pipeline.database.write() as session:
        study = _study(session, study_instance_uid)
        if not session.scalar(sa.select(has_failed()).where(col(Study.id) == study.id)):
            raise NotFound(f"nothing of study {study_instance_uid} has failed (AI status {study.ai_status})")
        study.failure_acknowledged_at = utc_now()
        session.add(study)
        pipeline.record(session, ACKNOWLEDGED, study_instance_uid, {"ai_status": study.ai_status})


def resend(pipeline: Pipeline, study_instance_uid: str, destinations: Sequence[Peer]) -> list[str]:
    """Owe the newest report of a study to every destination, those it was sent to before and those set now.

    Raises
    ------
    NotFound
        When there is no such study, no report of it, or no destination.
    """
    with pipeline.database.write() as session:
        study = _study(session, study_instance_uid)
        report = session.exec(
            select(Report).where(Report.study_id == study.id).order_by(col(Report.generation).desc()).limit(1)
        ).first()
        if report is None:
            raise NotFound(f"study {study_instance_uid} has no report yet (AI status {study.ai_status})")
        earlier = session.exec(select(Delivery.destination).where(Delivery.report_id == report.id)).all()
        peers = {Peer.parse(name).secured_as(destinations) for name in earlier} | set(destinations)
        wanted = sorted(map(str, peers))
        if not wanted:
            raise NotFound("there is no destination: set FIRSTREAD_PACS=AE@HOST:PORT")
        for destination in wanted:
            pipeline.reports.owe_delivery(session, report, destination)
        pipeline.record(session, "report.resent", report.sop_instance_uid, {"destinations": wanted})
    return wanted


def _study(session: Session, study_instance_uid: str) -> Study:
    query = select(Study).where(Study.study_instance_uid == study_instance_uid).with_for_update()
    study = session.exec(query).one_or_none()
    if study is None:
        raise NotFound(f"no study {study_instance_uid}; `firstread studies` lists them")
    return study
