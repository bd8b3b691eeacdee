"""Storage commitment (PS3.4 Annex J): what peers ask us to answer for, and what we ask of our reports' destinations."""

from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar

from sqlmodel import Field, SQLModel

from worker.database.columns import CleanText, json_value, moment, text


class CommitmentStatus(StrEnum):
    """Where a request stands, a peer's or ours."""

    PENDING = "pending"  # a peer's: not yet reported; ours: not yet taken
    REPORTED = "reported"  # a peer's: it has the result
    ASKED = "asked"  # ours: taken, no result yet
    COMMITTED = "committed"
    FAILED = "failed"  # a peer's: it refuses the result; ours: the destination does not answer for the report
    SENT_AGAIN = "sent_again"  # ours: it failed, and the report was sent again for that
    UNSUPPORTED = "unsupported"  # ours: the destination offers no storage commitment
    UNANSWERED = "unanswered"  # ours: no result in time; asked again
    SUPERSEDED = "superseded"  # ours: a person had it begun anew


class CommitmentRequest(SQLModel, table=True):
    """A peer's request that we answer for instances, and what we found."""

    __tablename__: ClassVar[str] = "commitment_request"
    id: int | None = Field(default=None, primary_key=True)
    transaction_uid: str = Field(index=True)
    calling_ae: str = text()
    called_ae: str = text()
    """The AE title it called: the result comes from the same."""
    spool_name: str = Field(unique=True)
    received_at: datetime = moment()
    instances: list[list[str]] = json_value()
    """SOP Class and SOP Instance UID of each."""
    duplicate: bool = Field(default=False)
    """Whether its Transaction UID is that of another request: then all of it fails."""
    failures: list[list[Any]] | None = json_value(default=None, nullable=True)
    """SOP Class UID, SOP Instance UID and failure reason of each that failed; null until the bytes were read again."""
    checked_at: datetime | None = moment(default=None)
    status: str = Field(default=CommitmentStatus.PENDING)
    attempts: int = Field(default=0)
    last_error: str | None = Field(default=None, sa_type=CleanText)
    reported_at: datetime | None = moment(default=None)


class CommitmentAsked(SQLModel, table=True):
    """A request of ours, that a destination answers for a report it has."""

    __tablename__: ClassVar[str] = "commitment_asked"
    id: int | None = Field(default=None, primary_key=True)
    delivery_id: int = Field(foreign_key="delivery.id", index=True)
    transaction_uid: str = Field(unique=True)
    status: str = Field(default=CommitmentStatus.PENDING)
    failure_reason: int | None = Field(default=None)
    """Failure Reason (0008,1197), where the destination gave one."""
    asked_at: datetime = moment()
    answered_at: datetime | None = moment(default=None)
