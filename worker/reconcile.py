"""Reconcile: everything that was accepted, spool against database, per instance."""

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlmodel import Session, col, select

from worker.database import Database, Instance, InstanceStatus, Report, WorkItem, WorkKind, of_open_work
from worker.intake.headers import identify
from worker.intake.spool import Spool


@dataclass
class Reconciliation:
    """The sum: accepted = complete + failed + not eligible + pending, and what does not fit.

    Instances whose bytes were removed by retention are counted by their status as before; how many they are is said.
    """

    complete: int = 0
    failed: int = 0
    not_eligible: int = 0
    pending: int = 0
    removed_by_retention: int = 0
    unaccounted: list[dict[str, str]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        orphans = sum("has no row" in entry["why"] for entry in self.unaccounted)
        return {
            "accepted": self.complete + self.failed + self.not_eligible + self.pending + orphans,
            "complete": self.complete,
            "failed": self.failed,
            "not_eligible": self.not_eligible,
            "pending": self.pending,
            "removed_by_retention": self.removed_by_retention,
            "unaccounted": self.unaccounted,
        }


class _Row(NamedTuple):
    """What is needed of an instance."""

    id: int | None
    sop_instance_uid: str
    dataset_sha256: str
    sha256: str
    spool_name: str
    status: str
    removal_began_at: datetime | None


def reconcile(database: Database, spool: Spool, reports_dir: Path, *, verify: bool = False) -> Reconciliation:
    """Hold the spool against the database.

    Parameters
    ----------
    verify
        Also read every stored file and compare its digest.

    Notes
    -----
    Safe to run while scans arrive: what looks wrong at first is looked at once more before it is said.
    """
    first = _once(database, spool, reports_dir, verify=verify)
    if not first.unaccounted:
        return first
    second = _once(database, spool, reports_dir, verify=verify)
    second.unaccounted = [entry for entry in second.unaccounted if entry in first.unaccounted]
    return second


def _once(database: Database, spool: Spool, reports_dir: Path, *, verify: bool) -> Reconciliation:
    result = Reconciliation()
    waiting = {path.stem: path for path in spool.arrivals()}
    filed = set(spool.filed())
    with database.read() as session:
        instances = [
            _Row(*row) for row in session.execute(sa.select(*(col(getattr(Instance, name)) for name in _Row._fields)))
        ]
        owed = _owed(session)
        result.unaccounted += _lost_reports(session, reports_dir, verify=verify)
    by_name = {instance.spool_name: instance for instance in instances}
    by_content = {(instance.sop_instance_uid, instance.dataset_sha256) for instance in instances}
    counts = Counter(instance.status for instance in instances)
    result.complete = counts[InstanceStatus.CLASSIFIED]
    result.failed = counts[InstanceStatus.FAILED]
    result.not_eligible = counts[InstanceStatus.NOT_ELIGIBLE]
    result.pending = counts[InstanceStatus.PENDING]
    result.removed_by_retention = sum(instance.removal_began_at is not None for instance in instances)
    for name in sorted(filed - by_name.keys()):
        lost = {"path": str(spool.filed_path(name)), "why": "it lies in the spool and has no row in the database"}
        result.unaccounted.append(lost)
    for path in spool.strangers():
        result.unaccounted.append({"path": str(path), "why": "it lies among the arrivals and was not received here"})
    for name, path in waiting.items():
        if name in by_name or name in filed:
            continue
        try:
            stored = identify(path)
        except FileNotFoundError:
            continue  # registered or discarded while we looked
        except OSError as error:
            result.unaccounted.append({"path": str(path), "why": f"it cannot be read: {error}"})
            continue
        content = (stored.sop_instance_uid, stored.dataset_sha256)
        if content not in by_content:
            by_content.add(content)
            result.pending += 1
    for instance in instances:
        why = _wrong(instance, spool, owed, verify=verify)
        if why:
            result.unaccounted.append({"sop_instance_uid": instance.sop_instance_uid, "why": why})
    return result


def _lost_reports(session: Session, reports_dir: Path, *, verify: bool) -> list[dict[str, str]]:
    """Return the reports that the database knows and the disk does not have as they were."""
    lost: list[dict[str, str]] = []
    for relative, sha256 in session.exec(select(Report.path, Report.sha256)):
        path = reports_dir / relative
        if not path.is_file():
            lost.append({"path": str(path), "why": "a stored report is gone"})
        elif verify and hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
            lost.append({"path": str(path), "why": "a stored report is not what it was (SHA-256 differs)"})
    return lost


def _owed(session: Session) -> set[int]:
    """Return the instances for which inference is owed or under way."""
    return set(
        session.scalars(of_open_work(sa.select(col(WorkItem.subject_id)).where(col(WorkItem.kind) == WorkKind.INFER)))
    )


def _wrong(instance: "_Row", spool: Spool, owed: set[int], *, verify: bool) -> str:
    if instance.status not in {
        InstanceStatus.PENDING,
        InstanceStatus.CLASSIFIED,
        InstanceStatus.FAILED,
        InstanceStatus.NOT_ELIGIBLE,
    }:
        return f"its status is {instance.status!r}, which is none"
    if instance.status == InstanceStatus.PENDING and instance.id not in owed:
        return "it is pending, but no work is owed for it"
    if instance.removal_began_at is not None:
        return ""  # its bytes are gone, or going, because nobody needs them
    return _wrong_bytes(instance, spool, verify=verify)


def _wrong_bytes(instance: "_Row", spool: Spool, *, verify: bool) -> str:
    path = spool.path(instance.spool_name)
    if path is None:
        return "its stored bytes are gone from the spool"
    try:
        if verify and identify(path).sha256 != instance.sha256:
            return "its stored bytes are not those that were received (SHA-256 differs)"
    except OSError as error:
        return f"its stored bytes cannot be read: {error}"
    return ""
