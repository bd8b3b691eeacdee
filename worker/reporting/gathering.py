"""What a study's report has to say, gathered from the database.

The digest of it tells whether a new generation would say anything new: a reprocessing with the same outcome makes none.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from pydicom.dataset import Dataset
from sqlmodel import Session, col, select

from worker.database import (
    Instance,
    InstanceStatus,
    ModelVersion,
    Prediction,
    Report,
    Series,
    Study,
    WorkItem,
    WorkKind,
)
from worker.errors import ReportError
from worker.reporting.study_result import Algorithm, Evidence, Iod, ReportedFinding, StudyResult


@dataclass(frozen=True)
class Gathered:
    """What the next report of a study says, and the digest of it.

    Attributes
    ----------
    said_before
        Whether the newest report says exactly this already.
    """

    study_id: int
    study_instance_uid: str
    generation: int
    priority: str
    instances: tuple[tuple[Instance, Series], ...]
    findings: tuple[ReportedFinding, ...]
    algorithms: tuple[Algorithm, ...]
    predecessor: tuple[str, str, str] | None
    remarks: tuple[str, ...]
    sha256: str
    said_before: bool

    def result(self, *, iod: Iod, created_at: datetime, header_of: Callable[[Instance], Path | Dataset]) -> StudyResult:
        """Return the input of `structured_report.build`; `header_of` says where an instance's header is."""
        return StudyResult(
            study_instance_uid=self.study_instance_uid,
            generation=self.generation,
            priority=self.priority,  # type: ignore[arg-type]
            findings=self.findings,
            evidence=tuple(
                Evidence(
                    sop_class_uid=instance.sop_class_uid,
                    sop_instance_uid=instance.sop_instance_uid,
                    series_instance_uid=series.series_instance_uid,
                    status="classified" if instance.status == InstanceStatus.CLASSIFIED else "failed",
                    reason=instance.reason,
                    header=header_of(instance),
                )
                for instance, series in self.instances
            ),
            created_at=created_at,
            predecessor=self.predecessor,
            algorithms=self.algorithms,
            iod=iod,
            remarks=self.remarks,
        )


def gather(session: Session, study: Study) -> Gathered:
    """Gather what the next report of a study has to say.

    Raises
    ------
    ReportError
        When there is nothing to report: no instance was classified, none should have been.
    """
    rows = session.exec(_instances(), params={"study_id": study.id}).all()
    if not rows:
        raise ReportError(f"study {study.study_instance_uid} has nothing to report")
    instances = tuple((instance, series) for instance, series in rows)
    versions = _versions(session, study)
    algorithms = {(v.name, v.version): Algorithm(v.name, v.version, v.weights_sha256) for v in versions}
    newest = session.exec(_newest(), params={"study_id": study.id}).first()
    sha256 = _digest(study, instances, list(algorithms.values()))
    return Gathered(
        study_id=study.id or 0,
        study_instance_uid=study.study_instance_uid,
        generation=study.generation + 1,
        priority=study.priority,
        instances=instances,
        findings=tuple(_finding(e, algorithms[e["model"], e["model_version"]]) for e in study.findings),
        algorithms=tuple(algorithms.values()),
        predecessor=(newest.sop_class_uid, newest.sop_instance_uid, newest.series_instance_uid) if newest else None,
        remarks=tuple(dict.fromkeys(instance.remark for instance, _ in instances if instance.remark)),
        sha256=sha256,
        said_before=newest is not None and newest.evidence_sha256 == sha256,
    )


# To put a statement together takes longer than the database takes over it: each is put together once.


@cache
def _instances() -> Any:
    return (
        select(Instance, Series)
        .join(Series, col(Series.id) == col(Instance.series_id))
        .where(Instance.study_id == sa.bindparam("study_id"), col(Instance.reportable).is_(True))
        .order_by(col(Instance.received_at), col(Instance.id))
    )


@cache
def _newest() -> Any:
    of_study = select(Report).where(Report.study_id == sa.bindparam("study_id"))
    return of_study.order_by(col(Report.generation).desc()).limit(1)


def _versions(session: Session, study: Study) -> Sequence[ModelVersion]:
    """Return the model versions whose word counts; of a study that no model could read, those that were to."""
    counting = sorted({f"{entry['model']}@{entry['model_version']}" for entry in study.findings})
    if not counting:  # the work of what was predicted may be removed by now
        counting = sorted(session.scalars(_owed_or_predicted(), {"study_id": study.id}))
    found: Sequence[ModelVersion] = session.exec(_named(), params={"counting": counting}).all()
    return found


@cache
def _owed_or_predicted() -> Any:
    owed = (
        select(WorkItem.lane)
        .join(Instance, col(Instance.id) == col(WorkItem.subject_id))
        .where(WorkItem.kind == WorkKind.INFER, Instance.study_id == sa.bindparam("study_id"))
    )
    predicted = (
        select(_identifier())
        .join(Prediction, col(Prediction.model_version_id) == col(ModelVersion.id))
        .join(Instance, col(Instance.id) == col(Prediction.instance_id))
        .where(Instance.study_id == sa.bindparam("study_id"))
    )
    return sa.union(owed, predicted)


@cache
def _named() -> Any:
    return (
        select(ModelVersion)
        .where(_identifier().in_(sa.bindparam("counting", expanding=True)))
        .order_by(col(ModelVersion.name), col(ModelVersion.version))
    )


def _identifier() -> sa.ColumnElement[str]:
    return col(ModelVersion.name) + sa.literal("@") + col(ModelVersion.version)


def _finding(entry: dict[str, Any], algorithm: Algorithm) -> ReportedFinding:
    return ReportedFinding(
        label=entry["label"],
        code_scheme=entry["code"]["scheme"],
        code_value=entry["code"]["value"],
        code_meaning=entry["code"]["meaning"],
        probability=entry["probability"],
        threshold=entry["threshold"],
        flagged=entry["flagged"],
        sop_instance_uid=entry["sop_instance_uid"],
        algorithm=algorithm,
        rollup=entry.get("rollup", ""),
    )


def _digest(study: Study, instances: Sequence[tuple[Instance, Series]], algorithms: Sequence[Algorithm]) -> str:
    said = {
        "findings": study.findings,
        "priority": study.priority,
        "instances": sorted((i.sop_instance_uid, i.dataset_sha256, i.status, i.reason) for i, _ in instances),
        "algorithms": [(a.name, a.version, a.weights_sha256) for a in algorithms],
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
