"""The audit log: append-only, each event carrying the SHA-256 of the one before.

Events are appended in the transaction of what they record, so that neither is there without the other. Appends are
serialised: by BEGIN IMMEDIATE on SQLite, by an advisory lock on PostgreSQL. Events name studies, instances and models
by UID and version, never a patient.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlmodel import Session, col, select

from worker.database import AuditEvent, utc_now

GENESIS = "0" * 64
"""What the first event carries in place of a digest."""

_CHAIN_LOCK = 0x66697273  # "firs": one number for all our processes on one database


def append(session: Session, action: str, subject: str, detail: Mapping[str, Any], *, actor: str) -> AuditEvent:
    """Append one event to the chain.

    Parameters
    ----------
    action
        What was done, as `instance.registered`, `prediction.made`, `report.stored`.
    subject
        The UID or number of what it was done to.
    detail
        What proves it; JSON-able, no patient data.
    actor
        The service, or the user.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(sa.select(sa.func.pg_advisory_xact_lock(_CHAIN_LOCK)))
    last = session.exec(select(AuditEvent.sha256).order_by(col(AuditEvent.id).desc()).limit(1)).first()
    event = AuditEvent(
        at=utc_now(),
        actor=actor,
        action=action,
        subject=subject,
        detail=canonical(detail),
        previous_sha256=last or GENESIS,
        sha256="",
    )
    event.sha256 = digest(event)
    session.add(event)
    session.flush()
    return event


def digest(event: AuditEvent) -> str:
    """Return the SHA-256 that an event must carry: over its content and the digest before it."""
    content = {
        "at": event.at.isoformat(timespec="microseconds"),
        "actor": event.actor,
        "action": event.action,
        "subject": event.subject,
        "detail": event.detail,
        "previous": event.previous_sha256,
    }
    return hashlib.sha256(canonical(content).encode()).hexdigest()


def canonical(value: Mapping[str, Any]) -> str:
    """Return the one way to write a mapping as JSON."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
