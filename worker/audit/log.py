"""The audit log: append-only, each event carrying the SHA-256 of the one before.

Events are appended in the transaction of what they record, so that neither is there without the other. Appends are
serialised by the row that says how far the chain reaches: BEGIN IMMEDIATE on SQLite, a row lock on PostgreSQL. Events
name studies, instances and models by UID and version, never a patient.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlmodel import Session, col, select

from worker.database import AuditEvent, AuditHead, utc_now
from worker.errors import AuditBroken

GENESIS = "0" * 64
"""What the first event carries in place of a digest."""

_HEAD: sa.Table = AuditHead.__table__  # type: ignore[attr-defined]
_EVENT: sa.Table = AuditEvent.__table__  # type: ignore[attr-defined]

_PENDING = "audit events of this transaction"

_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def operator() -> str:
    """Return who types a command, as an actor: the account of the operating system, which needs no name."""
    return f"operator (uid {os.getuid()})"


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

    Raises
    ------
    AuditBroken
        When nothing says how far the chain reaches: nothing is done that could not be recorded.
    """
    (row,) = _append_all(session, [{"action": action, "subject": subject, "detail": detail, "actor": actor}])
    return AuditEvent(**row)


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


def _append_all(session: Session, entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Append events in their order, with one statement for all; return their rows."""
    session.flush()  # what they record is written first: the chain is locked last
    connection = session.connection()
    head = connection.execute(_lock_head()).one_or_none()
    if head is None:
        raise AuditBroken(
            "the row of the table audit_head is gone, so nothing can be recorded and nothing is done: "
            "`firstread audit verify` says what else is missing; restore the database from a backup"
        )
    count, last_id, last_sha256 = head
    made: list[dict[str, Any]] = []
    for entry in entries:
        last_id += 1  # never the database's own: a number is in the chain, none is left out or used again
        row = {**entry, "id": last_id, "at": utc_now(), "detail": canonical(entry["detail"])}
        row["previous_sha256"] = last_sha256
        row["sha256"] = last_sha256 = digest_of(
            row["at"], row["actor"], row["action"], row["subject"], row["detail"], last_sha256
        )
        made.append(row)
    # The head first: events beyond it are refused.
    reaches = {"count": count + len(made), "last_id": last_id, "last_sha256": last_sha256}
    connection.execute(_move_head(), reaches)
    if made:
        connection.execute(_insert(), made)
    return made


@cache
def _lock_head() -> sa.Select[Any]:
    head = _HEAD.c
    return sa.select(head.count, head.last_id, head.last_sha256).with_for_update()


@cache
def _move_head() -> sa.Update:
    return sa.update(_HEAD).where(_HEAD.c.id == 1)


@cache
def _insert() -> sa.Insert:
    return sa.insert(_EVENT)


def read_head(session: Session) -> AuditHead | None:
    """Return how far the chain reaches; None where the row that says so is gone."""
    return session.exec(select(AuditHead).where(col(AuditHead.id) == 1)).one_or_none()


def digest(entry: AuditEvent) -> str:
    """Return the SHA-256 that an event must carry: over its content and the digest before it."""
    return digest_of(entry.at, entry.actor, entry.action, entry.subject, entry.detail, entry.previous_sha256)


def digest_of(at: datetime | str, actor: str, action: str, subject: str, detail: str, previous: str) -> str:
    """Return the SHA-256 over the content of an event, each field as the database gives it."""
    content = {
        "at": moment_text(at),
        "actor": actor,
        "action": action,
        "subject": subject,
        "detail": detail,
        "previous": previous,
    }
    return hashlib.sha256(_ENCODER.encode(content).encode()).hexdigest()


def moment_text(at: datetime | str) -> str:
    """Write a moment as it stands in a digest: ISO 8601, UTC, microseconds.

    SQLite keeps moments as text; taken as they are, a row that somebody filled with nonsense can still be named.
    """
    if isinstance(at, str):
        return f"{at.replace(' ', 'T')}+00:00"
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def canonical(value: Mapping[str, Any]) -> str:
    """Return the one way to write a mapping as JSON."""
    return _ENCODER.encode(value)
