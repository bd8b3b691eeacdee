"""What was done, append-only."""

from datetime import datetime
from typing import ClassVar

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from worker.database.columns import moment


class AuditEvent(SQLModel, table=True):
    """Append-only; each row carries the SHA-256 of the one before."""

    __tablename__: ClassVar[str] = "audit_event"
    id: int | None = Field(default=None, primary_key=True)
    at: datetime = moment()
    actor: str
    action: str
    subject: str
    detail: str = Field(sa_type=sa.Text)
    """Canonical JSON."""
    previous_sha256: str
    sha256: str = Field(unique=True)
