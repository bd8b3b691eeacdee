"""Upgrades with data in place: from every schema that was released, killed in the middle, and never backwards."""

import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlmodel import SQLModel, col, select

from tests.support.fakes import MODEL, FakeClassifier, FakeReader, make_pipeline
from tests.support.objects import film, save
from tests.support.schema_fixture import FIXTURES, content_of, put_back
from worker import schema
from worker.audit.log import GENESIS, digest
from worker.check import check_database
from worker.config import Peer
from worker.database import AuditEvent, Database, Instance, InstanceStatus, Series, Study, WorkItem, WorkState
from worker.errors import SchemaOwed, SchemaTooNew
from worker.files import make_private
from worker.reporting import pacs

SCRIPTS = list(ScriptDirectory(str(schema.MIGRATIONS)).walk_revisions())
OLD = sorted(script.revision for script in SCRIPTS if (FIXTURES / f"{script.revision}.json").is_file())


@pytest.fixture
def database(empty_database_url: str):
    made = Database(empty_database_url)
    yield made
    made.dispose()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.revision)
def test_what_was_released_has_rows_to_upgrade(script: Any) -> None:
    """Make them with `python -m tests.support.schema_fixture`."""
    if getattr(script.module, "released", None):
        assert script.revision in OLD


@pytest.mark.parametrize("revision", OLD)
def test_every_row_and_value_outlasts_the_upgrade(database: Database, revision: str) -> None:
    before = put_back(database, revision)
    assert all(entry["rows"] for entry in before.values())
    assert content_of(database) == before
    assert schema.migrate(database) == (revision, schema.newest())
    after = content_of(database)
    for table, entry in before.items():
        places = [after[table]["columns"].index(column) for column in entry["columns"]]
        assert [[row[place] for place in places] for row in after[table]["rows"]] == entry["rows"], table
    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), SQLModel.metadata) == []
    with database.read() as session:
        last = GENESIS
        for entry in session.exec(select(AuditEvent).order_by(col(AuditEvent.id))):
            assert (entry.previous_sha256, entry.sha256) == (last, digest(entry))
            last = entry.sha256


@pytest.mark.parametrize("revision", OLD)
def test_what_was_owed_before_the_upgrade_is_done_after_it(
    database: Database, empty_database_url: str, revision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_back(database, revision)
    pipeline = make_pipeline(empty_database_url, tmp_path, destinations=[Peer.parse("PACS@192.0.2.1:104")])
    with pipeline.database.read() as session:
        rows = session.exec(
            select(Instance, Study, Series)
            .join(Study, col(Study.id) == col(Instance.study_id))
            .join(Series, col(Series.id) == col(Instance.series_id))
        ).all()
    for instance, study, series in rows:
        path = pipeline.spool.filed_path(instance.spool_name)
        make_private(path.parent)
        save(
            film(
                SOPInstanceUID=instance.sop_instance_uid,
                StudyInstanceUID=study.study_instance_uid,
                SeriesInstanceUID=series.series_instance_uid,
            ),
            path,
        )
    monkeypatch.setattr(pacs, "deliver", lambda *_, **__: pacs.Delivered(sop_class_uid="1.2", status=0, warning=None))
    pipeline.sweep()  # the lease of the worker that the upgrade stopped
    pipeline.infer(MODEL, FakeClassifier(), FakeReader())  # type: ignore[arg-type]
    with pipeline.database.write() as session:  # a delivery that was put off is due by now
        session.execute(sa.update(WorkItem).values(not_before=col(WorkItem.created_at)))
    pipeline.report()
    pipeline.deliver()
    with pipeline.database.read() as session:
        states = {item.state for item in session.exec(select(WorkItem))}
        statuses = [instance.status for instance in session.exec(select(Instance))]
        generations = [study.generation for study in session.exec(select(Study))]
    pipeline.database.dispose()
    assert states == {WorkState.DONE, WorkState.QUARANTINED}
    assert sorted(statuses) == [*[InstanceStatus.CLASSIFIED] * 4, InstanceStatus.FAILED, InstanceStatus.NOT_ELIGIBLE]
    assert sorted(generations) == [0, 1, 1, 1, 1, 1]


def _die_while_migrating(url: str, point: str) -> None:
    database = Database(url)
    changes = 0

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    @sa.event.listens_for(database.engine, "after_cursor_execute")
    def _count(_connection, _cursor, statement, *_):
        nonlocal changes
        changes += statement.lstrip().upper().startswith(("CREATE", "ALTER", "UPDATE", "INSERT", "DROP"))
        if point.isdecimal() and changes == int(point):
            die()

    if point == "commit":
        sa.event.listen(database.engine, "commit", lambda _connection: die())
    schema.migrate(database)


@pytest.mark.parametrize(
    ("revision", "point"), [(None, "4"), *((revision, point) for revision in OLD for point in ("1", "commit"))]
)
def test_a_migration_that_is_killed_leaves_the_old_schema_whole(
    database: Database, empty_database_url: str, revision: str | None, point: str
) -> None:
    before = put_back(database, revision) if revision else {}
    database.dispose()
    process = multiprocessing.get_context("spawn").Process(
        target=_die_while_migrating, args=(empty_database_url, point)
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert schema.current(database) == revision
    assert content_of(database) == before
    assert schema.migrate(database) == (revision, schema.newest())


def test_a_newer_schema_is_refused_in_words(database: Database) -> None:
    schema.migrate(database)
    with database.write() as session:
        session.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    for touch in (schema.migrate, schema.ensure):
        with pytest.raises(SchemaTooNew, match=r"is 9999, which this release does not know .*Install that release"):
            touch(database)
    assert schema.current(database) == "9999"
    finding = check_database(database)
    assert (finding.ok, finding.fix) == (False, "install the newer release that wrote it")


def test_a_table_that_others_refer_to_can_be_made_anew(database: Database) -> None:
    before = put_back(database, OLD[0])
    with schema.changing(database) as connection:
        operations = Operations(MigrationContext.configure(connection, opts={"render_as_batch": True}))
        with operations.batch_alter_table("instance", recreate="always" if database.is_sqlite else "auto") as batch:
            batch.alter_column("reason", existing_type=sa.Text(), server_default="")
    assert content_of(database) == before
    with database.engine.connect() as connection:
        if database.is_sqlite:
            assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1


def test_a_migration_that_leaves_rows_without_what_they_refer_to_is_undone(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/firstread.db")
    before = put_back(database, OLD[0])
    with pytest.raises(SchemaOwed, match="prediction → instance"), schema.changing(database) as connection:
        connection.execute(sa.text("DELETE FROM instance"))
    assert content_of(database) == before
    database.dispose()
