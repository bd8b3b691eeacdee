"""Backups for tests: made, restored and compared."""

from pathlib import Path
from typing import Any

from tests.support.fakes import MODEL, FakeClassifier, FakeReader
from tests.support.schema_fixture import Content
from worker.backup import create, restore
from worker.backup.layout import Manifest
from worker.backup.verify import Verification
from worker.database import Database
from worker.intake.spool import Spool
from worker.pipeline import Pipeline
from worker.reconcile import reconcile

NOBODY = {"release": "0.0.0", "models": {}}


class Told:
    """Hears how far a backup has come."""

    def __init__(self) -> None:
        self.total = self.done = 0

    def expect(self, total: int) -> None:
        self.total, self.done = total, 0

    def advance(self, count: int) -> None:
        self.done += count


def back_up(pipeline: Pipeline, target: Path, told: Any = None) -> Manifest:
    """Back the data directory of a pipeline up."""
    data_dir = pipeline.spool.directory.parent
    return create.create(pipeline.database, data_dir, target, told=told or Told(), **NOBODY)  # type: ignore[arg-type]


def restore_to(database_url: str, data_dir: Path, source: Path, told: Any = None) -> restore.Restored:
    """Restore a backup that is whole."""
    found, restored = restore.restore(database_url, data_dir, source, told=told or Told())
    assert restored is not None, list(found.complaints())
    return restored


def look(source: Path) -> Verification:
    """Verify a backup."""
    return restore.verified(source, Told())


def accounted(database_url: str, data_dir: Path) -> dict[str, Any]:
    """`reconcile --verify`."""
    database = Database(database_url)
    sums = reconcile(database, Spool(data_dir / "spool"), data_dir / "reports", verify=True).as_json()
    database.dispose()
    return sums


def work_off(pipeline: Pipeline) -> None:
    """Let all that has arrived go through."""
    while pipeline.register_arrivals():
        pass
    pipeline.infer(MODEL, FakeClassifier(), FakeReader())  # type: ignore[arg-type]
    pipeline.report()
    pipeline.deliver()


def assert_same_but_for_the_restore(restored: Content, original: Content) -> None:
    """All rows are the same, but for the audit event that a restore appends."""
    *events, last = restored["audit_event"]["rows"]
    assert "backup.restored" in last
    assert events == original["audit_event"]["rows"]
    for table in original.keys() - {"audit_event", "audit_head"}:
        assert restored[table] == original[table], table
