"""A backup is whole, private, incremental, and made while everything runs."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.support.backups import Told, accounted, back_up, look, restore_to, work_off
from tests.support.disks import small_disk_at
from tests.support.fakes import make_pipeline
from tests.support.objects import film, spool_object
from worker.backup import create, snapshot, tables
from worker.backup.layout import MANIFEST
from worker.database import Database
from worker.errors import BackupError
from worker.pipeline import Pipeline


@pytest.fixture
def pipeline(database_url: str, tmp_path: Path) -> Iterator[Pipeline]:
    made = make_pipeline(database_url, tmp_path / "data")
    for number in range(3):
        spool_object(made.spool, film(PatientID=f"P{number}"))
    work_off(made)
    yield made
    made.database.dispose()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Pipeline]:
    """The same on SQLite, for what has nothing to do with the database."""
    made = make_pipeline(f"sqlite:///{tmp_path}/data/firstread.db", tmp_path / "data")
    for number in range(3):
        spool_object(made.spool, film(PatientID=f"P{number}"))
    work_off(made)
    yield made
    made.database.dispose()


def written(target: Path) -> dict[Path, tuple[int, int]]:
    """Of each DICOM file which one it is, and when it was written."""
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in target.rglob("*.dcm")}


def test_everything_is_in_it_and_nobody_else_reads_it(pipeline: Pipeline, tmp_path: Path) -> None:
    spool_object(pipeline.spool, film())
    carried = tmp_path / "data" / "spool" / "commitments"
    carried.mkdir(exist_ok=True)
    (carried / "1.json").write_text("{}")
    (tmp_path / "data" / "audit").mkdir()
    (tmp_path / "data" / "audit" / "anchors.jsonl").write_text("anchored\n")
    target = tmp_path / "backup"
    told = Told()
    manifest = back_up(pipeline, target, told)
    assert told.done == told.total > 0
    assert (manifest.registered, manifest.arrivals, manifest.reports, manifest.problems) == (3, 1, 3, [])
    assert manifest.tables["instance"] == 3
    assert manifest.audit["events"] == manifest.audit["last_id"] == manifest.tables["audit_event"]
    assert look(target).whole
    assert (target / manifest.run_dir / "carried/spool/commitments/1.json").read_text() == "{}"
    assert (target / manifest.run_dir / "carried/audit/anchors.jsonl").read_text() == "anchored\n"
    restore_to(f"sqlite:///{tmp_path}/restored/firstread.db", tmp_path / "restored", target)
    assert (tmp_path / "restored/spool/commitments/1.json").read_text() == "{}"
    assert (tmp_path / "restored/audit/anchors.jsonl").read_text() == "anchored\n"
    for path in (target, *target.rglob("*")):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path
    done = subprocess.run(
        ["sha256sum", "--check", "--quiet", f"{manifest.run_dir}/SHA256SUMS"], cwd=target, check=False
    )
    assert done.returncode == 0


def test_no_password_is_in_it(pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data" / "firstread.toml").write_text('database_url = "postgresql://u:hunter2@h/db"')
    back_up(pipeline, tmp_path / "backup")
    assert not [path for path in (tmp_path / "backup").rglob("*") if path.is_file() and b"hunter2" in path.read_bytes()]


def test_the_next_run_copies_what_is_new_alone(small: Pipeline, tmp_path: Path) -> None:
    target = tmp_path / "backup"
    spool_object(small.spool, film())
    first = back_up(small, target)
    kept = written(target)
    assert len(kept) == 7
    work_off(small)  # the arrival becomes an object, with a report
    told = Told()
    second = back_up(small, target, told)
    assert (second.registered, second.arrivals, second.reports) == (4, 0, 4)
    assert kept.items() <= written(target).items()
    (new,) = written(target).keys() - kept.keys()
    assert told.done == new.stat().st_size
    assert not (target / first.run_dir).exists()
    assert look(target).whole


def test_what_is_gone_from_here_goes_from_the_backup(small: Pipeline, tmp_path: Path) -> None:
    target = tmp_path / "backup"
    name = spool_object(small.spool, film())
    back_up(small, target)
    small.spool.discard(name)
    assert back_up(small, target).arrivals == 0
    assert len(list((target / "objects").rglob("*.dcm"))) == 3


def test_files_that_are_damaged_or_gone_here_are_named_and_the_others_saved(small: Pipeline, tmp_path: Path) -> None:
    first, second, _ = sorted(small.spool.filed())
    small.spool.filed_path(first).unlink()
    small.spool.filed_path(second).write_bytes(b"rot")
    manifest = back_up(small, tmp_path / "backup")
    assert [(Path(p["path"]).stem, p["why"]) for p in manifest.problems] == [
        (second, "it is not what its row says (SHA-256 differs)"),
        (first, "its row is there, its stored bytes are gone"),
    ]
    assert manifest.registered == 2
    assert look(tmp_path / "backup").whole


def test_what_is_accepted_meanwhile_is_put_back_among_the_arrivals(
    pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = snapshot.take

    def take_and_go_on(*arguments: Any) -> snapshot.Snapshot:
        taken = take(*arguments)
        spool_object(pipeline.spool, film(PatientID="MEANWHILE"))
        work_off(pipeline)
        return taken

    monkeypatch.setattr(snapshot, "take", take_and_go_on)
    manifest = back_up(pipeline, tmp_path / "backup")
    assert (manifest.registered, manifest.arrivals, manifest.tables["instance"]) == (3, 1, 3)
    url = f"sqlite:///{tmp_path}/restored/firstread.db"
    restore_to(url, tmp_path / "restored", tmp_path / "backup")
    sums = accounted(url, tmp_path / "restored")
    assert (sums["accepted"], sums["complete"], sums["pending"], sums["unaccounted"]) == (4, 3, 1, [])
    restored = make_pipeline(url, tmp_path / "restored")
    work_off(restored)
    restored.database.dispose()
    assert accounted(url, tmp_path / "restored")["complete"] == 4


def test_the_rows_are_those_of_one_moment(pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = tables.write

    def write_and_go_on(connection: sa.Connection, table: sa.Table, path: Path) -> int:
        count = write(connection, table, path)
        spool_object(pipeline.spool, film())
        work_off(pipeline)
        return count

    monkeypatch.setattr(tables, "write", write_and_go_on)
    manifest = back_up(pipeline, tmp_path / "backup")
    assert {manifest.tables[name] for name in ("study", "series", "instance", "prediction", "report")} == {3}
    assert manifest.audit["events"] == manifest.tables["audit_event"] == 9
    assert manifest.registered == 3


def test_backups_under_load_are_each_consistent(pipeline: Pipeline, tmp_path: Path) -> None:
    stop = threading.Event()

    def receive() -> None:
        while not stop.is_set():
            spool_object(pipeline.spool, film())
            work_off(pipeline)

    thread = threading.Thread(target=receive)
    thread.start()
    try:
        manifests = [back_up(pipeline, tmp_path / "backup") for _ in range(4)]
    finally:
        stop.set()
        thread.join()
    assert [manifest.problems for manifest in manifests] == [[]] * 4
    url = f"sqlite:///{tmp_path}/restored/firstread.db"
    restore_to(url, tmp_path / "restored", tmp_path / "backup")
    sums = accounted(url, tmp_path / "restored")
    assert sums["unaccounted"] == []
    assert sums["accepted"] == manifests[-1].registered + manifests[-1].arrivals


DIES = """
import os, signal, sys
from pathlib import Path
from tests.support.backups import NOBODY
from worker.backup import create
from worker.database import Database
class Dies:
    seen = 0
    def expect(self, total): pass
    def advance(self, count):
        self.seen += 1
        if self.seen > 4: os.kill(os.getpid(), signal.SIGKILL)
create.create(Database(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), told=Dies(), **NOBODY)
"""


@pytest.mark.parametrize("has_earlier", [False, True])
def test_a_run_that_is_killed_leaves_the_backup_before_it_whole(
    small: Pipeline, tmp_path: Path, has_earlier: bool
) -> None:
    target, data = tmp_path / "backup", tmp_path / "data"
    earlier = back_up(small, target) if has_earlier else None
    for _ in range(3):
        spool_object(small.spool, film())
    work_off(small)
    script = [sys.executable, "-c", DIES, f"sqlite:///{data}/firstread.db", str(data), str(target)]
    killed = subprocess.run(script, check=False, env=os.environ | {"PYTHONPATH": "."})
    assert killed.returncode == -signal.SIGKILL
    copied = written(target)
    if earlier:
        found = look(target)
        assert (found.whole, found.manifest.run, bool(found.left)) == (True, earlier.run, True)
    else:
        with pytest.raises(BackupError, match=r"no manifest\.json"):
            look(target)
    manifest = back_up(small, target)
    assert (manifest.registered, manifest.reports) == (6, 6)
    assert copied.items() <= written(target).items()
    found = look(target)
    assert (found.whole, found.left) == (True, [])
    assert list(target.rglob("*.part")) == []


def test_a_target_that_cannot_be_one_is_refused(small: Pipeline, tmp_path: Path) -> None:
    for inside in (tmp_path / "data" / "backup", tmp_path / "data", tmp_path):
        with pytest.raises(BackupError, match="a backup must outlive this one"):
            back_up(small, inside)
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.doc").touch()
    with pytest.raises(BackupError, match=r"holds thesis\.doc and is no backup"):
        back_up(small, other)
    with pytest.raises(BackupError, match="it is no directory"):
        back_up(small, other / "thesis.doc")
    assert [path.name for path in other.iterdir()] == ["thesis.doc"]
    empty = Database(f"sqlite:///{tmp_path}/empty/firstread.db")
    with pytest.raises(BackupError, match="nothing has been received here yet"):
        create.create(empty, tmp_path / "empty", tmp_path / "b", told=Told(), release="", models={})
    empty.dispose()


def test_one_run_at_a_time(small: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    take = snapshot.take

    def meanwhile(*arguments: Any) -> snapshot.Snapshot:
        with pytest.raises(BackupError, match="another backup is being written"):
            back_up(small, tmp_path / "backup")
        return take(*arguments)

    monkeypatch.setattr(snapshot, "take", meanwhile)
    assert back_up(small, tmp_path / "backup").registered == 3


def test_a_disk_that_is_too_small_is_said_before_and_a_full_one_when_it_is(
    small: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np

    disk = tmp_path / "disk"
    with small_disk_at(disk):
        back_up(small, disk)
        for _ in range(5):
            spool_object(small.spool, film(np.zeros((1000, 1000), np.uint16)))
        with pytest.raises(BackupError, match=r"bytes are needed and [\d,]+ are free"):
            back_up(small, disk)
        monkeypatch.setattr(create, "require_room", lambda *_: None)
        with pytest.raises(BackupError, match=r"\.dcm: the disk is full"):
            back_up(small, disk)
        assert look(disk).whole
        assert look(disk).manifest.registered == 3
    assert not (disk / MANIFEST).exists()
