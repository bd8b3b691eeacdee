"""A restore brings everything back, into an empty place alone, from either database into either."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlmodel import col, select

from tests.support.backups import (
    Told,
    accounted,
    assert_same_but_for_the_restore,
    back_up,
    look,
    restore_to,
    work_off,
)
from tests.support.fakes import MODEL, make_pipeline
from tests.support.objects import film, spool_object
from tests.support.schema_fixture import OLDEST, content_of, put_back
from worker import bootstrap, schema
from worker.audit.anchor import AnchorFile
from worker.audit.log import GENESIS, digest, read_head
from worker.audit.verify import verify
from worker.backup import create, restore, tables
from worker.backup.layout import LISTING, MANIFEST, RESTORING
from worker.config import Peer, load_settings
from worker.database import AuditEvent, Database, Instance, Study, WorkItem, WorkKind, WorkState
from worker.errors import BackupError, PeerUnreachable, SchemaOwed, SchemaTooNew
from worker.intake.spool import Spool
from worker.pipeline import Pipeline
from worker.reporting import pacs


@pytest.fixture
def pipeline(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipeline]:
    """One study reported and delivered, one whose report waits, one leased, one arrival."""
    yield from _filled(database_url, tmp_path, monkeypatch)


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipeline]:
    """The same on SQLite, for what has nothing to do with the database."""
    yield from _filled(f"sqlite:///{tmp_path}/data/firstread.db", tmp_path, monkeypatch)


def _filled(database_url: str, tmp_path: Path, patch: pytest.MonkeyPatch) -> Iterator[Pipeline]:
    made = make_pipeline(database_url, tmp_path / "data", destinations=[Peer.parse("PACS@192.0.2.1:104")])
    patch.setattr(pacs, "deliver", lambda *_, **__: pacs.Delivered(sop_class_uid="1.2", status=0, warning=None))
    spool_object(made.spool, film(PatientName="山田^太郎", SpecificCharacterSet="ISO_IR 192"))
    work_off(made)
    patch.setattr(pacs, "deliver", _away)
    spool_object(made.spool, film())
    work_off(made)
    spool_object(made.spool, film())
    made.register_arrivals()
    made.work.claim(WorkKind.INFER, lane=MODEL)
    spool_object(made.spool, film())
    yield made
    made.database.dispose()


def _away(*_: Any, **__: Any) -> pacs.Delivered:
    raise PeerUnreachable("no answer")


@pytest.fixture
def elsewhere(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of the other kind than the test's."""
    named = {"database_url", "empty_database_url"} & set(request.fixturenames)
    if str(request.getfixturevalue(named.pop())).startswith("sqlite"):
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{tmp_path}/restored/firstread.db"


@pytest.fixture
def here(tmp_path: Path) -> tuple[str, Path]:
    """An empty place to restore to."""
    return f"sqlite:///{tmp_path}/restored/firstread.db", tmp_path / "restored"


def test_it_all_comes_back_in_the_other_database(
    pipeline: Pipeline, elsewhere: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "restored"
    (data / "models").mkdir(parents=True)
    back_up(pipeline, tmp_path / "backup")
    restored = restore_to(elsewhere, data, tmp_path / "backup")
    assert (restored.objects, restored.arrivals, restored.reports, restored.leases_freed) == (3, 1, 2, 1)
    with pipeline.database.write() as session:  # what the restore does with the lease
        leased = session.exec(select(WorkItem).where(WorkItem.state == WorkState.LEASED)).one()
        leased.state, leased.lease_until, leased.attempts, leased.token = WorkState.OWED, None, 0, leased.token + 1
    database = Database(elsewhere)
    assert_same_but_for_the_restore(content_of(database), content_of(pipeline.database))
    with database.read() as session:
        last = GENESIS
        for event in session.exec(select(AuditEvent).order_by(col(AuditEvent.id))):
            assert (event.previous_sha256, event.sha256) == (last, digest(event))
            last = event.sha256
    sums = accounted(elsewhere, data)
    assert (sums["accepted"], sums["complete"], sums["pending"], sums["unaccounted"]) == (4, 2, 2, [])
    for path in data.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0 or path == data / "models", path
    sent: list[Path] = []

    def take(path: Path, *_: Any, **__: Any) -> pacs.Delivered:
        sent.append(path)
        return pacs.Delivered(sop_class_uid="1.2", status=0, warning=None)

    monkeypatch.setattr(pacs, "deliver", take)
    goes_on = make_pipeline(elsewhere, data, destinations=[Peer.parse("PACS@192.0.2.1:104")])
    with goes_on.database.write() as session:
        for item in session.exec(select(WorkItem)):
            item.not_before = item.created_at
    spool_object(goes_on.spool, film())  # new rows get numbers of their own
    work_off(goes_on)
    goes_on.database.dispose()
    assert len(sent) == len(set(sent)) == 4  # not the one that was delivered before the backup
    assert accounted(elsewhere, data)["complete"] == 5
    database.dispose()


def test_a_backup_of_an_old_schema_is_restored_and_migrated(
    empty_database_url: str, elsewhere: str, tmp_path: Path
) -> None:
    database = Database(empty_database_url)
    before = put_back(database, OLDEST)
    manifest = create.create(database, tmp_path / "data", tmp_path / "backup", release="", models={}, told=Told())
    assert manifest.schema == schema.current(database) == OLDEST
    assert len(manifest.problems) == len(before["instance"]["rows"]) + len(before["report"]["rows"])
    restored = restore_to(elsewhere, tmp_path / "restored", tmp_path / "backup")
    assert (restored.schema_before, restored.schema) == (OLDEST, schema.newest())
    after = Database(elsewhere)
    for table, entry in content_of(after).items():
        if table in before and table != "work_item":
            places = [entry["columns"].index(column) for column in before[table]["columns"]]
            kept = [[row[place] for place in places] for row in entry["rows"]]
            assert kept[: len(before[table]["rows"])] == before[table]["rows"]
    for one in (database, after):
        one.dispose()


def test_a_database_that_was_upgraded_once_comes_back(empty_database_url: str, elsewhere: str, tmp_path: Path) -> None:
    database = Database(empty_database_url)
    put_back(database, OLDEST)
    schema.migrate(database)
    create.create(database, tmp_path / "data", tmp_path / "backup", release="", models={}, told=Told())
    restore_to(elsewhere, tmp_path / "restored", tmp_path / "backup")
    restored = Database(elsewhere)
    with database.read() as before, restored.read() as after:
        was, is_now = read_head(before), read_head(after)
    assert was is not None
    assert is_now is not None
    assert was.gapless_after == is_now.gapless_after > 0
    assert verify(restored, AnchorFile(tmp_path / "anchors.jsonl")).findings == []
    for one in (database, restored):
        one.dispose()


def test_what_retention_removed_meanwhile_is_no_hole(small: Pipeline, here: tuple[str, Path], tmp_path: Path) -> None:
    name = min(small.spool.filed())

    class Removes(Told):
        def expect(self, total: int) -> None:
            from worker.database import Instance, utc_now

            with small.database.write() as session:
                row = session.exec(select(Instance).where(Instance.spool_name == name)).one()
                row.removal_began_at = utc_now()
            small.spool.filed_path(name).unlink()

    manifest = back_up(small, tmp_path / "backup", Removes())
    assert (list(manifest.removed), manifest.problems, manifest.registered) == ([name], [], 2)
    restore_to(*here, tmp_path / "backup")
    assert accounted(*here)["unaccounted"] == []
    database, spool, reports = Database(here[0]), Spool(here[1] / "spool"), here[1] / "reports"
    result = verify(
        database,
        AnchorFile(tmp_path / "anchors.jsonl"),
        locate=lambda table, place: spool.path(place) if table == "instance" else reports / place,
    )
    assert result.findings == [], "bytes that the chain knows nothing of would be missing for ever"
    with database.read() as session:
        event = session.exec(select(AuditEvent).where(AuditEvent.action == "bytes.removed")).one()
        row = session.exec(select(Instance).where(Instance.spool_name == name)).one()
        study = session.exec(select(Study).where(Study.id == row.study_id)).one()
        assert event.subject == study.study_instance_uid
        assert json.loads(event.detail) == {
            "because": "restored", "instances": 1, "bytes": row.size_bytes, "ids": [[row.id, row.id]],
        }  # fmt: skip
    database.dispose()


def test_only_an_empty_place_is_restored_to(
    pipeline: Pipeline, elsewhere: str, database_url: str, tmp_path: Path
) -> None:
    back_up(pipeline, tmp_path / "backup")
    with pytest.raises(BackupError, match=r"it is not empty \(.*stop every service"):
        restore.restore(elsewhere, tmp_path / "data", tmp_path / "backup", told=Told())
    with pytest.raises(BackupError, match=r"the database is not empty .*a new database"):
        restore.restore(database_url, tmp_path / "restored", tmp_path / "backup", told=Told())
    with pytest.raises(BackupError, match="this is no backup"):
        restore.restore(elsewhere, tmp_path / "restored", tmp_path / "data", told=Told())
    assert not (tmp_path / "restored").exists()
    inside = tmp_path / "backup" / "inside"
    with pytest.raises(BackupError, match="move the backup elsewhere"):
        restore.restore(f"sqlite:///{inside}/firstread.db", tmp_path, tmp_path / "backup", told=Told())


def test_rows_that_a_migration_made_are_brought_to_those_of_the_backup(empty_database_url: str) -> None:
    database = Database(empty_database_url)
    with database.engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE head (id INTEGER PRIMARY KEY, said TEXT NOT NULL)"))
        connection.execute(sa.text("INSERT INTO head VALUES (1, 'of the migration'), (2, 'same')"))
        (table,) = tables.reflected(connection)
        rows = [[1, "of the backup"], [2, "same"], [3, "new"]]
        assert tables.insert(connection, table, ["id", "said"], rows) == 3
        assert list(tables.rows(connection, table)) == rows
    database.dispose()


def damage(target: Path, what: str) -> str:
    """Do something to a backup; return what has to be named."""
    victim = min((target / "objects").rglob("*.dcm"))
    name = str(victim.relative_to(target))
    if what == "missing":
        victim.unlink()
    elif what == "damaged":
        victim.write_bytes(victim.read_bytes()[:-1] + b"!")
    elif what == "link":
        victim.rename(target.parent / "moved.dcm")
        victim.symlink_to(target.parent / "moved.dcm")
        return f"missing: {name}"
    elif what == "table":
        (table,) = target.glob("runs/*/tables/instance.jsonl.gz")
        table.write_bytes(table.read_bytes()[:-1])
        return f"damaged: {table.relative_to(target)}"
    else:
        stranger = target / "objects" / "stranger.dcm"
        stranger.touch()
        return "extra: objects/stranger.dcm"
    return f"{what}: {name}"


@pytest.mark.parametrize("what", ["missing", "damaged", "link", "table", "extra"])
def test_what_is_wrong_with_a_backup_is_named_and_nothing_touched(
    small: Pipeline, here: tuple[str, Path], tmp_path: Path, what: str
) -> None:
    back_up(small, tmp_path / "backup")
    named = damage(tmp_path / "backup", what)
    found, restored = restore.restore(*here, tmp_path / "backup", told=Told())
    assert (found.whole, restored) == (False, None)
    (said,) = found.complaints()
    assert said.startswith(named)
    assert not here[1].exists()


def test_a_damaged_manifest_or_listing_is_said(small: Pipeline, tmp_path: Path) -> None:
    target = tmp_path / "backup"
    manifest = back_up(small, target)
    text = (target / MANIFEST).read_text()
    for change, words in (
        (text.replace('"registered": 3', '"registered": 4'), "not what was written"),
        (text[:-5], "it is damaged"),
        (text.replace('"format": 1', '"format": 2'), "a newer release wrote it"),
    ):
        (target / MANIFEST).write_text(change)
        with pytest.raises(BackupError, match=words):
            look(target)
    (target / MANIFEST).write_text(text)
    listing = target / manifest.run_dir / LISTING
    listing.write_text(listing.read_text() + f"{'0' * 64}  ../../etc/passwd\n")
    with pytest.raises(BackupError, match="SHA-256 differs"):
        look(target)


def test_a_backup_of_a_newer_release_is_refused(small: Pipeline, here: tuple[str, Path], tmp_path: Path) -> None:
    with small.database.write() as session:
        session.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SchemaTooNew):
        back_up(small, tmp_path / "backup")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema, "require_known", lambda *_: None)
        back_up(small, tmp_path / "backup")
    with pytest.raises(SchemaTooNew, match="the schema of the backup is 9999"):
        restore.restore(*here, tmp_path / "backup", told=Told())
    assert not here[1].exists()


DIES = """
import os, signal, sys
from pathlib import Path
from tests.support.backups import Told
from worker import schema
from worker.backup import restore
point = sys.argv[4]
class Dies(Told):
    def advance(self, count):
        super().advance(count)
        if point == "files" and (Path(sys.argv[2]) / "restoring").exists() and self.done > self.total / 2:
            os.kill(os.getpid(), signal.SIGKILL)
if point == "rows":
    restore._settle = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
restore.restore(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), told=Dies())
"""


@pytest.mark.parametrize("point", ["files", "rows"])
def test_a_restore_that_is_killed_goes_on_when_it_is_begun_again(
    small: Pipeline, here: tuple[str, Path], tmp_path: Path, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    back_up(small, tmp_path / "backup")
    script = [sys.executable, "-c", DIES, here[0], str(here[1]), str(tmp_path / "backup"), point]
    killed = subprocess.run(script, check=False, env=os.environ | {"PYTHONPATH": "."})
    assert killed.returncode == -signal.SIGKILL
    assert (here[1] / RESTORING).exists()
    monkeypatch.setenv("FIRSTREAD_DATA_DIR", str(here[1]))
    with pytest.raises(SchemaOwed, match="is being restored"):
        bootstrap.open_database(load_settings())
    back_up(small, tmp_path / "another")
    with pytest.raises(BackupError, match="another backup was being restored"):
        restore.restore(*here, tmp_path / "another", told=Told())
    restore_to(*here, tmp_path / "backup")
    assert not (here[1] / RESTORING).exists()
    assert accounted(*here)["unaccounted"] == []
    database = bootstrap.open_database(load_settings())
    assert schema.current(database) == schema.newest()
    database.dispose()


def test_a_disk_that_is_too_small_is_said_first(
    small: Pipeline, here: tuple[str, Path], tmp_path: Path, monkeypatch
) -> None:
    back_up(small, tmp_path / "backup")
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10}))
    with pytest.raises(BackupError, match="bytes are needed and 10 are free"):
        restore.restore(*here, tmp_path / "backup", told=Told())
