"""Which studies may lose their stored bytes, and why the others keep theirs, as SQL.

Kept without regard to age or space: what is pending, what is owed (an answer to a peer too), what is not delivered, and
what has failed until a person has acknowledged it.
"""

from typing import Any

import sqlalchemy as sa
from sqlmodel import col

from worker.database import (
    Delivery,
    DeliveryStatus,
    Instance,
    InstanceStatus,
    Report,
    Study,
    WorkItem,
    WorkKind,
    WorkState,
)

PENDING, OWED, UNDELIVERED, FAILED = "pending", "owed", "undelivered", "failed_not_acknowledged"
KEPT_BECAUSE = (PENDING, OWED, UNDELIVERED, FAILED)
"""Why a study keeps its bytes, in the order in which it is asked."""

_OPEN = (WorkState.OWED, WorkState.LEASED)

Condition = sa.ColumnElement[bool]


def keeps_bytes() -> Condition:
    """Say that bytes of a study are still stored."""
    return _some_instance(col(Instance.bytes_removed_at).is_(None))


def kept_because(promised: sa.Select[Any]) -> sa.ColumnElement[str]:
    """Return why a study must keep its bytes; empty when they may go.

    Parameters
    ----------
    promised
        SOP Instance UIDs that a peer waits for an answer about.
    """
    awaited = sa.select(col(Instance.study_id)).where(col(Instance.sop_instance_uid).in_(promised))
    return sa.case(
        (sa.or_(col(Study.ai_status).in_(("pending", "")), _some_instance(_is_pending())), PENDING),
        (sa.or_(_some_work(col(WorkItem.state).in_(_OPEN)), col(Study.id).in_(awaited)), OWED),
        (_some_delivery(col(Delivery.status) != DeliveryStatus.DELIVERED), UNDELIVERED),
        (sa.and_(has_failed(), sa.not_(_is_acknowledged())), FAILED),
        else_="",
    )


def has_failed() -> Condition:
    """Say that something about a study has failed for good: an instance, its report, a piece of work."""
    return sa.or_(
        col(Study.ai_status) == InstanceStatus.FAILED,
        col(Study.report_error) != "",
        _some_work(col(WorkItem.state) == WorkState.QUARANTINED),
    )


def _is_acknowledged() -> Condition:
    since = sa.and_(
        col(WorkItem.state) == WorkState.QUARANTINED, col(WorkItem.finished_at) > col(Study.failure_acknowledged_at)
    )
    return sa.and_(col(Study.failure_acknowledged_at).is_not(None), sa.not_(_some_work(since)))


def _is_pending() -> Condition:
    return col(Instance.status) == InstanceStatus.PENDING


def _some_instance(condition: Condition) -> Condition:
    return _some(sa.select(sa.literal(1)).select_from(Instance).where(col(Instance.study_id) == Study.id, condition))


def _some_delivery(condition: Condition) -> Condition:
    deliveries = sa.select(sa.literal(1)).select_from(Delivery).join(Report, col(Report.id) == col(Delivery.report_id))
    return _some(deliveries.where(col(Report.study_id) == Study.id, condition))


def _some_work(condition: Condition) -> Condition:
    """Say that there is such work about a study: about its instances, its reports or their deliveries."""
    work = sa.select(sa.literal(1)).select_from(WorkItem).where(condition)
    instances = sa.select(col(Instance.id)).where(col(Instance.study_id) == Study.id)
    deliveries = (
        sa.select(col(Delivery.id))
        .join(Report, col(Report.id) == col(Delivery.report_id))
        .where(col(Report.study_id) == Study.id)
    )
    kind, subject = col(WorkItem.kind), col(WorkItem.subject_id)
    return sa.or_(  # each by the index on subject and kind
        _some(work.where(kind == WorkKind.INFER, subject.in_(instances.correlate(Study)))),
        _some(work.where(kind == WorkKind.REPORT, subject == Study.id)),
        _some(work.where(kind == WorkKind.DELIVER, subject.in_(deliveries.correlate(Study)))),
    )


def _some(query: sa.Select[Any]) -> Condition:
    return query.correlate(Study).exists()
