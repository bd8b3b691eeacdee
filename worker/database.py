"""Sole owner of the tables and of the session. SQLite (WAL, synchronous FULL) and PostgreSQL, the same on both.

A study has series, a series instances; an instance has a prediction for each model version that classified it; a study
has reports, a report a delivery for each destination. `work_item` is what is still owed; `audit_event` what was done.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine, make_url
from sqlalchemy.types import TypeDecorator
from sqlmodel import Field, Session, SQLModel, create_engine

SQLModel.metadata.naming_convention = {
    "ix": "ix_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


def utc_now() -> datetime:
    """Return the time, in UTC and aware of it."""
    return datetime.now(UTC)


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC; SQLite keeps no time zone, so it is put back on the way out."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:  # noqa: ARG002
        """Refuse a moment of unknown zone; store UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a datetime without time zone cannot be stored")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:  # noqa: ARG002
        """Give back an aware moment."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class CleanText(TypeDecorator[str]):
    """Text that every database takes: PostgreSQL has no NUL, UTF-8 no lone surrogate."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:  # noqa: ARG002
        """Drop what cannot be stored."""
        return None if value is None else value.replace("\0", "").encode("utf-8", "replace").decode()


class InstanceStatus(StrEnum):
    """What the AI made of an instance, and of a study."""

    PENDING = "pending"
    CLASSIFIED = "classified"
    COMPLETE = "complete"  # of a study: at least one instance classified, none failed, none pending
    FAILED = "failed"
    NOT_ELIGIBLE = "not_eligible"


class WorkKind(StrEnum):
    """What can be owed."""

    INFER = "infer"
    REPORT = "report"
    DELIVER = "deliver"


class WorkState(StrEnum):
    """Where owed work stands."""

    OWED = "owed"
    LEASED = "leased"
    DONE = "done"
    QUARANTINED = "quarantined"


class DeliveryStatus(StrEnum):
    """Where the delivery of a report to a destination stands."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


def _moment(**kwargs: Any) -> Any:
    return Field(sa_type=UtcDateTime, **kwargs)


def _json(**kwargs: Any) -> Any:
    return Field(sa_type=sa.JSON, **kwargs)


def _text(**kwargs: Any) -> Any:
    return Field(default="", sa_type=CleanText, **kwargs)


class Study(SQLModel, table=True):
    """A study, with what the worklist shows of it: identity as first received, status, priority, findings."""

    __tablename__: ClassVar[str] = "study"
    __table_args__: ClassVar[Any] = (sa.Index("ix_study_worklist", "rank", "received_at", "id"),)
    id: int | None = Field(default=None, primary_key=True)
    study_instance_uid: str = Field(unique=True)
    patient_id: str = _text(index=True)
    patient_name: str = _text()
    accession_number: str = _text(index=True)
    modality: str = _text()
    study_description: str = _text()
    received_at: datetime = _moment()
    last_received_at: datetime = _moment()
    completed_at: datetime | None = _moment(default=None)
    ai_status: str = _text()
    priority: str = _text()
    reason: str = _text()
    remark: str = _text()
    report_error: str = _text()
    """Why no report of the newest generation could be made; empty when one could."""
    rank: int = Field(default=0)
    """Place in the worklist: immediate 0, urgent 1, failed 2, routine 3, pending 4, none 5."""
    generation: int = Field(default=0)
    """Generation of the newest report; 0 while there is none."""
    findings: list[dict[str, Any]] = _json(default_factory=list)
    """The roll-up: one entry a label, as the JSON interface shows it."""


class Series(SQLModel, table=True):
    """A series of a study."""

    __tablename__: ClassVar[str] = "series"
    __table_args__: ClassVar[Any] = (sa.UniqueConstraint("study_id", "series_instance_uid"),)
    id: int | None = Field(default=None, primary_key=True)
    study_id: int = Field(foreign_key="study.id", index=True)
    series_instance_uid: str
    modality: str = _text()
    series_description: str = _text()
    body_part_examined: str = _text()


class Instance(SQLModel, table=True):
    """One accepted object; the same SOP Instance UID with other bytes is an instance of its own."""

    __tablename__: ClassVar[str] = "instance"
    __table_args__: ClassVar[Any] = (sa.UniqueConstraint("sop_instance_uid", "dataset_sha256"),)
    id: int | None = Field(default=None, primary_key=True)
    study_id: int = Field(foreign_key="study.id", index=True)
    series_id: int = Field(foreign_key="series.id", index=True)
    sop_instance_uid: str = Field(index=True)
    sop_class_uid: str = _text()
    transfer_syntax_uid: str = _text()
    dataset_sha256: str
    """SHA-256 of the data set bytes, file meta left aside: what tells a resend from a change."""
    sha256: str
    """SHA-256 of the stored file."""
    size_bytes: int = Field(sa_type=sa.BigInteger)
    calling_ae: str = _text()
    received_at: datetime = _moment()
    spool_name: str = Field(unique=True)
    patient_id: str = _text()
    status: str
    reason: str = _text()
    reportable: bool = Field(default=False)
    """Whether the study's report has to speak of it: it was classified, or should have been."""
    remark: str = _text()
    """What is worth knowing of an eligible instance: no body part stated, a stand-in UID."""


class ModelVersion(SQLModel, table=True):
    """A model package that has classified here: its card as it was."""

    __tablename__: ClassVar[str] = "model_version"
    __table_args__: ClassVar[Any] = (sa.UniqueConstraint("name", "version"),)
    id: int | None = Field(default=None, primary_key=True)
    name: str
    version: str
    weights_sha256: str
    card: dict[str, Any] = _json()


class Prediction(SQLModel, table=True):
    """What one model version said of one instance, with what is needed to say it again."""

    __tablename__: ClassVar[str] = "prediction"
    __table_args__: ClassVar[Any] = (sa.UniqueConstraint("instance_id", "model_version_id"),)
    id: int | None = Field(default=None, primary_key=True)
    instance_id: int = Field(foreign_key="instance.id")
    model_version_id: int = Field(foreign_key="model_version.id", index=True)
    probabilities: dict[str, float] = _json()
    thresholds: dict[str, float] = _json()
    flagged: list[str] = _json()
    recipe: str
    engine: str
    device: str
    batch_size: int
    decode_seconds: float
    inference_seconds: float
    created_at: datetime = _moment()


class Report(SQLModel, table=True):
    """A report of a study, stored before it is sent."""

    __tablename__: ClassVar[str] = "report"
    __table_args__: ClassVar[Any] = (sa.UniqueConstraint("study_id", "generation", "kind"),)
    id: int | None = Field(default=None, primary_key=True)
    study_id: int = Field(foreign_key="study.id", index=True)
    generation: int
    kind: str
    sop_instance_uid: str = Field(unique=True)
    sop_class_uid: str
    series_instance_uid: str
    path: str
    """Relative to the reports directory."""
    sha256: str
    evidence_sha256: str
    """SHA-256 over what the report says: a report that would say the same again is not made."""
    created_at: datetime = _moment()


class Delivery(SQLModel, table=True):
    """A report on its way to one destination."""

    __tablename__: ClassVar[str] = "delivery"
    __table_args__: ClassVar[Any] = (sa.UniqueConstraint("report_id", "destination"),)
    id: int | None = Field(default=None, primary_key=True)
    report_id: int = Field(foreign_key="report.id")
    destination: str
    status: str
    attempts: int = Field(default=0)
    last_error: str | None = Field(default=None, sa_type=CleanText)
    sent_sop_class_uid: str = _text()
    delivered_at: datetime | None = _moment(default=None)


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
        sa.Index("ix_work_item_subject", "subject_id", "kind"),
    )
    id: int | None = Field(default=None, primary_key=True)
    kind: str
    lane: str = _text()
    """Where it waits: `name@version` of the model for inference, the destination for delivery, else empty."""
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
    lease_until: datetime | None = _moment(default=None)
    not_before: datetime = _moment()
    last_error: str | None = Field(default=None, sa_type=CleanText)
    created_at: datetime = _moment()
    finished_at: datetime | None = _moment(default=None)


class AuditEvent(SQLModel, table=True):
    """Append-only; each row carries the SHA-256 of the one before."""

    __tablename__: ClassVar[str] = "audit_event"
    id: int | None = Field(default=None, primary_key=True)
    at: datetime = _moment()
    actor: str
    action: str
    subject: str
    detail: str = Field(sa_type=sa.Text)
    """Canonical JSON."""
    previous_sha256: str
    sha256: str = Field(unique=True)


class Heartbeat(SQLModel, table=True):
    """When a service last said that it is alive and taking work."""

    __tablename__: ClassVar[str] = "heartbeat"
    service: str = Field(primary_key=True)
    at: datetime = _moment()


def is_away(error: BaseException) -> bool:
    """Say whether an error means that the database cannot be reached or asks to try again, not that it said no."""
    return isinstance(error, (sa.exc.OperationalError, sa.exc.InterfaceError))


class Database:
    """The engine and its sessions. `read()` for looking, `write()` for one transaction that commits or rolls back."""

    def __init__(self, url: str) -> None:
        self.url = make_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        if self.url.drivername == "postgresql":
            self.url = self.url.set(drivername="postgresql+psycopg")
        self.engine = _sqlite_engine(self.url) if self.is_sqlite else _postgresql_engine(self.url)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Open a session for reading; whatever it changed is rolled back."""
        with Session(self.engine) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """Open a session in one transaction.

        On SQLite it begins IMMEDIATE: a read that becomes a write later cannot be saved by the busy timeout.
        """
        engine = self.engine.execution_options(begin_immediate=True)
        with Session(engine, expire_on_commit=False) as session, session.begin():
            yield session

    def dispose(self) -> None:
        """Close every connection."""
        self.engine.dispose()


def _postgresql_engine(url: sa.URL) -> Engine:
    return create_engine(
        url, pool_pre_ping=True, pool_size=5, hide_parameters=True, connect_args={"connect_timeout": 5}
    )


def _sqlite_engine(url: sa.URL) -> Engine:
    if url.database and url.database != ":memory:":
        path = Path(url.database)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
    engine = create_engine(url, hide_parameters=True, connect_args={"timeout": 30, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves, below
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=30000"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        immediate = connection.get_execution_options().get("begin_immediate", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

    return engine
