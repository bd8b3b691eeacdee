"""The audit log: append-only, each event carrying the SHA-256 of the one before.

Events are appended in the transaction of what they record, so that neither is there without the other. Appends are
serialised: by BEGIN IMMEDIATE on SQLite, by an advisory lock on PostgreSQL. Events name studies, instances and models
by UID and version, never a patient.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlmodel import Session, col, select

from worker.database import AuditEvent, utc_now

GENESIS = "0" * 64
"""What the first event carries in place of a digest."""

_PENDING = "audit events of this transaction"

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
    return _append_all(session, [{"action": action, "subject": subject, "detail": detail, "actor": actor}])[0]


def record(session: Session, action: str, subject: str, detail: Mapping[str, Any], *, actor: str) -> None:
    """Append an event when the transaction commits, after all else it does.

    The chain is one lock for everybody: taken last it is held shortest, and nobody who holds it waits for a study.
    """
    pending: list[dict[str, Any]] | None = session.info.get(_PENDING)
    if pending is None:
        pending = session.info[_PENDING] = []
        event.listen(session, "before_commit", _append_pending, once=True)
    pending.append({"action": action, "subject": subject, "detail": detail, "actor": actor})


def _append_pending(session: Session) -> None:
    _append_all(session, session.info.pop(_PENDING, []))


def _append_all(session: Session, entries: Sequence[Mapping[str, Any]]) -> list[AuditEvent]:
    if session.get_bind().dialect.name == "postgresql":
        session.execute(sa.select(sa.func.pg_advisory_xact_lock(_CHAIN_LOCK)))
    last = session.exec(select(AuditEvent.sha256).order_by(col(AuditEvent.id).desc()).limit(1)).first()
    made: list[AuditEvent] = []
    for entry in entries:
        one = AuditEvent(
            at=utc_now(),
            actor=entry["actor"],
            action=entry["action"],
            subject=entry["subject"],
            detail=canonical(entry["detail"]),
            previous_sha256=last or GENESIS,
            sha256="",
        )
        one.sha256 = last = digest(one)
        session.add(one)
        session.flush()  # one by one, so that the numbers run in the order of the chain
        made.append(one)
    return made


def digest(entry: AuditEvent) -> str:
    """Return the SHA-256 that an event must carry: over its content and the digest before it."""
    content = {
        "at": entry.at.isoformat(timespec="microseconds"),
        "actor": entry.actor,
        "action": entry.action,
        "subject": entry.subject,
        "detail": entry.detail,
        "previous": entry.previous_sha256,
    }
    return hashlib.sha256(canonical(content).encode()).hexdigest()


def canonical(value: Mapping[str, Any]) -> str:
    """Return the one way to write a mapping as JSON."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
