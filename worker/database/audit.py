"""What was done, append-only, and how far it reaches."""

from datetime import datetime
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from worker.database.columns import moment


class AuditEvent(SQLModel, table=True):
    """Append-only (triggers see to it); each row carries the SHA-256 of the one before."""

    __tablename__: ClassVar[str] = "audit_event"
    id: int | None = Field(default=None, primary_key=True)
    at: datetime = moment()
    actor: str
    action: str
    subject: str = Field(index=True)
    detail: str = Field(sa_type=sa.Text)
    """Canonical JSON."""
    previous_sha256: str
    sha256: str = Field(unique=True)


class AuditHead(SQLModel, table=True):
    """The one row that says how far the chain reaches; it goes forward only, in the transaction of each event."""

    __tablename__: ClassVar[str] = "audit_head"
    __table_args__: ClassVar[Any] = (sa.CheckConstraint("id = 1", name="one_row"),)
    id: int = Field(primary_key=True)
    count: int
    """Events in the chain."""
    last_id: int
    last_sha256: str
    gapless_after: int
    """Behind this event numbers run without a gap; before, PostgreSQL left some out where a transaction failed."""


class AuditCursor(SQLModel, table=True):
    """How far a syslog receiver has got the chain, and which process is sending to it."""

    __tablename__: ClassVar[str] = "audit_cursor"
    receiver: str = Field(primary_key=True)
    last_id: int
    held_by: str
    held_until: datetime = moment()
