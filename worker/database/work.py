"""What is still owed, and who is alive to do it."""

from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlmodel import Field, SQLModel, col

from worker.database.columns import CleanText, moment, text


class WorkKind(StrEnum):
    """What can be owed."""

    INFER = "infer"
    REPORT = "report"
    DELIVER = "deliver"
    COMMIT = "commit"  # read the bytes again that a peer asks about, and report
    ASK_COMMITMENT = "ask_commitment"  # ask a destination to answer for a report it has


class WorkState(StrEnum):
    """Where owed work stands."""

    OWED = "owed"
    LEASED = "leased"
    DONE = "done"
    QUARANTINED = "quarantined"


class WorkItem(SQLModel, table=True):
    """Something owed. A message is only a hint; this row is the truth."""

    __tablename__: ClassVar[str] = "work_item"
    __table_args__: ClassVar[Any] = (
        sa.UniqueConstraint("kind", "subject"),
        # A claim walks the owed rows of its lane in order; what is done long ago is not in the index at all.
        sa.Index(
            "ix_work_item_owed",
            "kind",
            "lane",
            "id",
            postgresql_where=sa.text("state = 'owed'"),
            sqlite_where=sa.text("state = 'owed'"),
        ),
        sa.Index(
            "ix_work_item_leased",
            "lease_until",
            postgresql_where=sa.text("state = 'leased'"),
            sqlite_where=sa.text("state = 'leased'"),
        ),
        # Retention removes what was done longest ago; people look at what was given up.
        sa.Index(
            "ix_work_item_done",
            "finished_at",
            postgresql_where=sa.text("state = 'done'"),
            sqlite_where=sa.text("state = 'done'"),
        ),
        sa.Index(
            "ix_work_item_quarantined",
            "finished_at",
            postgresql_where=sa.text("state = 'quarantined'"),
            sqlite_where=sa.text("state = 'quarantined'"),
        ),
        sa.Index("ix_work_item_subject", "subject_id", "kind"),
    )
    id: int | None = Field(default=None, primary_key=True)
    kind: str
    lane: str = text()
    """Where it waits: `name@version` of a model, a destination, the AE title of who asks for commitment, else empty."""
    subject: str
    """What the work is about, unique for a kind: `instance 17 chest@1.0.0`, `study 3 generation 1`, `delivery 9`."""
    subject_id: int
    state: str = Field(default=WorkState.OWED)
    attempts: int = Field(default=0)
    lost_leases: int = Field(default=0)
    """How often a worker vanished while holding it; such work is claimed singly."""
    retries: int = Field(default=0)
    """How often it was put off since its last success; the backoff grows with it."""
    token: int = Field(default=0)
    """Fencing token: grows with each claim; only the newest holder may finish the work."""
    lease_until: datetime | None = moment(default=None)
    not_before: datetime = moment()
    last_error: str | None = Field(default=None, sa_type=CleanText)
    created_at: datetime = moment()
    finished_at: datetime | None = moment(default=None)


def is_owed() -> sa.ColumnElement[bool]:
    """Say that work waits to be done; the state stands in the statement, so that its partial index is found."""
    return _is_in(WorkState.OWED)


def is_leased() -> sa.ColumnElement[bool]:
    """Say that somebody holds work, as `is_owed` does."""
    return _is_in(WorkState.LEASED)


def of_open_work(query: sa.Select[Any]) -> sa.CompoundSelect[Any]:
    """Return what a query over work finds of what is not over: of what is owed, and of what is leased.

    Each by its own index; SQLite finds none for the two together.
    """
    return sa.union_all(query.where(is_owed()), query.where(is_leased()))


def is_quarantined() -> sa.ColumnElement[bool]:
    """Say that work was given up, as `is_owed` does."""
    return _is_in(WorkState.QUARANTINED)


def is_done() -> sa.ColumnElement[bool]:
    """Say that work is done, as `is_owed` does."""
    return _is_in(WorkState.DONE)


def _is_in(state: WorkState) -> sa.ColumnElement[bool]:
    return col(WorkItem.state) == sa.literal_column(f"'{state}'", sa.String)


class Heartbeat(SQLModel, table=True):
    """When a service last said that it is alive and taking work."""

    __tablename__: ClassVar[str] = "heartbeat"
    service: str = Field(primary_key=True)
    at: datetime = moment()
