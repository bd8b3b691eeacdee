"""What was received and what came of it: study, series, instance; model version, prediction; report, delivery."""

from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from worker.database.columns import CleanText, json_value, moment, text


class InstanceStatus(StrEnum):
    """What the AI made of an instance, and of a study."""

    PENDING = "pending"
    CLASSIFIED = "classified"
    COMPLETE = "complete"  # of a study: at least one instance classified, none failed, none pending
    FAILED = "failed"
    NOT_ELIGIBLE = "not_eligible"


class DeliveryStatus(StrEnum):
    """Where the delivery of a report to a destination stands."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


class Study(SQLModel, table=True):
    """A study, with what the worklist shows of it: identity as first received, status, priority, findings."""

    __tablename__: ClassVar[str] = "study"
    __table_args__: ClassVar[Any] = (
        sa.Index("ix_study_worklist", "rank", "received_at", "id"),
        sa.Index("ix_study_last_received_at", "last_received_at", "id"),  # retention goes from the oldest on
    )
    id: int | None = Field(default=None, primary_key=True)
    study_instance_uid: str = Field(unique=True)
    patient_id: str = text(index=True)
    patient_name: str = text()
    accession_number: str = text(index=True)
    modality: str = text()
    study_description: str = text()
    received_at: datetime = moment()
    last_received_at: datetime = moment()
    completed_at: datetime | None = moment(default=None)
    ai_status: str = text()
    priority: str = text()
    reason: str = text()
    remark: str = text()
    report_error: str = text()
    """Why no report of the newest generation could be made; empty when one could."""
    rank: int = Field(default=0)
    """Place in the worklist: immediate 0, urgent 1, failed 2, routine 3, pending 4, none 5."""
    generation: int = Field(default=0)
    """Generation of the newest report; 0 while there is none."""
    failure_acknowledged_at: datetime | None = moment(default=None)
    """When a person said that the failure is known: retention may then remove the bytes, unless more has come since."""
    findings: list[dict[str, Any]] = json_value(default_factory=list)
    """The roll-up: one entry a label, as the JSON interface shows it."""


class Series(SQLModel, table=True):
    """A series of a study."""

    __tablename__: ClassVar[str] = "series"
    __table_args__: ClassVar[Any] = (sa.UniqueConstraint("study_id", "series_instance_uid"),)
    id: int | None = Field(default=None, primary_key=True)
    study_id: int = Field(foreign_key="study.id", index=True)
    series_instance_uid: str
    modality: str = text()
    series_description: str = text()
    body_part_examined: str = text()


class Instance(SQLModel, table=True):
    """One accepted object; the same SOP Instance UID with other bytes is an instance of its own."""

    __tablename__: ClassVar[str] = "instance"
    __table_args__: ClassVar[Any] = (
        sa.UniqueConstraint("sop_instance_uid", "dataset_sha256"),
        sa.Index(
            "ix_instance_kept",
            "study_id",
            postgresql_where=sa.text("bytes_removed_at IS NULL"),
            sqlite_where=sa.text("bytes_removed_at IS NULL"),
        ),
    )
    id: int | None = Field(default=None, primary_key=True)
    study_id: int = Field(foreign_key="study.id", index=True)
    series_id: int = Field(foreign_key="series.id", index=True)
    sop_instance_uid: str = Field(index=True)
    sop_class_uid: str = text()
    transfer_syntax_uid: str = text()
    dataset_sha256: str
    """SHA-256 of the data set bytes, file meta left aside: what tells a resend from a change."""
    sha256: str
    """SHA-256 of the stored file."""
    size_bytes: int = Field(sa_type=sa.BigInteger)
    calling_ae: str = text()
    received_at: datetime = moment()
    spool_name: str = Field(unique=True)
    patient_id: str = text()
    status: str
    reason: str = text()
    reportable: bool = Field(default=False)
    """Whether the study's report has to speak of it: it was classified, or should have been."""
    remark: str = text()
    """What is worth knowing of an eligible instance: no body part stated, a stand-in UID."""
    removal_began_at: datetime | None = moment(default=None)
    """When retention decided to remove the stored bytes; from then on nobody may count on them."""
    bytes_removed_at: datetime | None = moment(default=None)
    """When the stored bytes and the preview were gone from the disk."""


class ModelVersion(SQLModel, table=True):
    """A model package that has classified here: its card as it was."""

    __tablename__: ClassVar[str] = "model_version"
    __table_args__: ClassVar[Any] = (sa.UniqueConstraint("name", "version"),)
    id: int | None = Field(default=None, primary_key=True)
    name: str
    version: str
    weights_sha256: str
    card: dict[str, Any] = json_value()


class Prediction(SQLModel, table=True):
    """What one model version said of one instance, with what is needed to say it again."""

    __tablename__: ClassVar[str] = "prediction"
    __table_args__: ClassVar[Any] = (sa.UniqueConstraint("instance_id", "model_version_id"),)
    id: int | None = Field(default=None, primary_key=True)
    instance_id: int = Field(foreign_key="instance.id")
    model_version_id: int = Field(foreign_key="model_version.id", index=True)
    probabilities: dict[str, float] = json_value()
    thresholds: dict[str, float] = json_value()
    flagged: list[str] = json_value()
    recipe: str
    engine: str
    device: str
    batch_size: int
    decode_seconds: float
    inference_seconds: float
    created_at: datetime = moment()
    environment: dict[str, Any] | None = json_value(default=None)
    """What it was made with: versions of libraries and recipe, window, tolerance; None in rows of schema 0001."""


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
    created_at: datetime = moment()


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
    sent_sop_class_uid: str = text()
    delivered_at: datetime | None = moment(default=None)
    committed: bool | None = Field(default=None)
    """Whether the destination answers for it (storage commitment); None: not asked, not supported, not yet said."""
