"""The state of a study, kept in its row: AI status, priority, findings, reason, place in the worklist.

Called in the transaction of whatever changed an instance, so that the worklist never shows a result that is not
committed, nor misses one that is.
"""

from collections import Counter
from collections.abc import Sequence

from sqlmodel import Session, col, select

from models.card import Card
from worker.database import Instance, InstanceStatus, ModelVersion, Prediction, Series, Study, utc_now
from worker.inference.triage import Reading, roll_up, study_status, worklist_rank


def refresh(session: Session, study: Study) -> None:
    """Work out the state of a study anew from its instances and predictions."""
    session.flush()
    instances = session.exec(
        select(Instance).where(Instance.study_id == study.id).order_by(col(Instance.received_at), col(Instance.id))
    ).all()
    counts = Counter(instance.status for instance in instances)
    study.findings, study.priority = roll_up(readings(session, study), _unread(session, study))
    study.ai_status = study_status(counts)
    study.rank = worklist_rank(study.ai_status, study.priority)
    study.reason = _reason(study, instances)
    if study.ai_status == "pending":
        study.completed_at = None
    elif study.completed_at is None:
        study.completed_at = utc_now()
    session.add(study)


def locked(session: Session, study_id: int) -> Study:
    """Return a study, locked: whoever goes on to change anything of it does this first (studies, then work)."""
    query = select(Study).where(Study.id == study_id).with_for_update().execution_options(populate_existing=True)
    return session.exec(query).one()


def readings(session: Session, study: Study) -> list[Reading]:
    """Return what the models said of the study's instances; of each model the newest word on each instance."""
    rows = session.exec(
        select(Prediction, ModelVersion, Instance, Series)
        .join(ModelVersion, col(ModelVersion.id) == col(Prediction.model_version_id))
        .join(Instance, col(Instance.id) == col(Prediction.instance_id))
        .join(Series, col(Series.id) == col(Instance.series_id))
        .where(Instance.study_id == study.id)
        .order_by(col(Prediction.created_at), col(Prediction.id))
    ).all()
    newest = {
        (instance.id, version.name): Reading(
            _card(version.id, version.weights_sha256, version),
            instance.sop_instance_uid,
            series.series_instance_uid,
            prediction.probabilities,
        )
        for prediction, version, instance, series in rows
    }
    return list(newest.values())


def _unread(session: Session, study: Study) -> Counter[str]:
    """Count the instances still to be read, by Series Instance UID."""
    return Counter(
        session.exec(
            select(Series.series_instance_uid)
            .join(Instance, col(Instance.series_id) == col(Series.id))
            .where(Instance.study_id == study.id, Instance.status == InstanceStatus.PENDING)
        )
    )


_CARDS: dict[tuple[int | None, str], Card] = {}


def _card(version_id: int | None, digest: str, version: ModelVersion) -> Card:
    key = (version_id, digest)
    if key not in _CARDS:
        _CARDS[key] = Card.model_validate(version.card)
    return _CARDS[key]


def _reason(study: Study, instances: Sequence[Instance]) -> str:
    """Say in words why a study is failed or not eligible, or what is worth knowing of a complete one."""
    if study.ai_status == "failed":
        reasons = [instance.reason for instance in instances if instance.status == InstanceStatus.FAILED]
    elif study.ai_status == "not_eligible":
        reasons = [instance.reason for instance in instances]
    else:
        reasons = []
    reasons += [instance.remark for instance in instances if instance.remark]
    distinct = list(dict.fromkeys(reason for reason in (*reasons, study.report_error, study.remark) if reason))
    shown = "; ".join(distinct[:3])
    return f"{shown}; and {len(distinct) - 3} more" if len(distinct) > 3 else shown
