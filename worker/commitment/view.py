"""Storage commitment as people look at it: what peers asked of us, and what we asked of destinations."""

from typing import Any

from sqlmodel import Session, col, select

from worker.commitment.message import reason_words
from worker.database import CommitmentAsked, CommitmentRequest, CommitmentStatus, Delivery, Report
from worker.studies import timestamp

Document = dict[str, Any]


def requests_of_peers(session: Session, limit: int = 100) -> list[Document]:
    """Return what peers asked us to answer for, newest first."""
    query = select(CommitmentRequest).order_by(col(CommitmentRequest.id).desc()).limit(limit)
    return [
        {
            "transaction_uid": one.transaction_uid,
            "calling_ae": one.calling_ae,
            "received_at": timestamp(one.received_at),
            "status": one.status,
            "instances": len(one.instances),
            "failed": None if one.failures is None else len(one.failures),
            "failures": [
                {"sop_instance_uid": sop_instance_uid, "reason": reason_words(int(reason))}
                for _, sop_instance_uid, reason in one.failures or ()
            ],
            "reported_at": timestamp(one.reported_at),
            "attempts": one.attempts,
            "last_error": one.last_error,
        }
        for one in session.exec(query)
    ]


def requests_of_ours(session: Session, limit: int = 100) -> list[Document]:
    """Return what we asked destinations to answer for, newest first; what was begun anew is left out."""
    query = (
        select(CommitmentAsked, Delivery, Report)
        .join(Delivery, col(Delivery.id) == col(CommitmentAsked.delivery_id))
        .join(Report, col(Report.id) == col(Delivery.report_id))
        .where(CommitmentAsked.status != CommitmentStatus.SUPERSEDED)
        .order_by(col(CommitmentAsked.id).desc())
        .limit(limit)
    )
    return [
        {
            "transaction_uid": asked.transaction_uid,
            "destination": delivery.destination,
            "sop_instance_uid": report.sop_instance_uid,
            "status": asked.status,
            "failure": None if asked.failure_reason is None else reason_words(asked.failure_reason),
            "asked_at": timestamp(asked.asked_at),
            "answered_at": timestamp(asked.answered_at),
        }
        for asked, delivery, report in session.exec(query)
    ]
