"""Sole owner of the tables and of the session. SQLite (WAL, synchronous FULL) and PostgreSQL, the same on both.

A study has series, a series instances; an instance has a prediction for each model version that classified it; a study
has reports, a report a delivery for each destination. `work_item` is what is still owed; `audit_event` what was done;
`commitment_request` and `commitment_asked` who answers for whose bytes; `account` and what belongs to it, who may look.
"""

from worker.database.accounts import Account, ApiToken, LoginFailure, LoginLink, LoginSession
from worker.database.audit import AuditCursor, AuditEvent, AuditHead
from worker.database.columns import CleanText, UtcDateTime, utc_now
from worker.database.commitments import CommitmentAsked, CommitmentRequest, CommitmentStatus
from worker.database.session import Database, insert_into, is_away
from worker.database.studies import (
    Delivery,
    DeliveryStatus,
    Instance,
    InstanceStatus,
    ModelVersion,
    Prediction,
    Report,
    Series,
    Study,
)
from worker.database.work import (
    Heartbeat,
    WorkItem,
    WorkKind,
    WorkState,
    is_done,
    is_leased,
    is_owed,
    is_quarantined,
    of_open_work,
)

__all__ = [
    "Account",
    "ApiToken",
    "AuditCursor",
    "AuditEvent",
    "AuditHead",
    "CleanText",
    "CommitmentAsked",
    "CommitmentRequest",
    "CommitmentStatus",
    "Database",
    "Delivery",
    "DeliveryStatus",
    "Heartbeat",
    "Instance",
    "InstanceStatus",
    "LoginFailure",
    "LoginLink",
    "LoginSession",
    "ModelVersion",
    "Prediction",
    "Report",
    "Series",
    "Study",
    "UtcDateTime",
    "WorkItem",
    "WorkKind",
    "WorkState",
    "insert_into",
    "is_away",
    "is_done",
    "is_leased",
    "is_owed",
    "is_quarantined",
    "of_open_work",
    "utc_now",
]
