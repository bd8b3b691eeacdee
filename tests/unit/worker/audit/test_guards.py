"""The databases themselves refuse to change what was done."""

from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from sqlmodel import col, select

from tests.support.tampering import events, execute
from worker import schema
from worker.audit.anchor import AnchorFile
from worker.audit.log import GENESIS, digest, read_head
from worker.audit.verify import verify
from worker.database import AuditEvent, Database, utc_now


@pytest.fixture
def database(database_url: str):
    made = Database(database_url)
    schema.migrate(made)
    events(made, 3)
    yield made
    made.dispose()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_event SET subject = 'other' WHERE id = 2",
        "DELETE FROM audit_event WHERE id = 3",
        "DELETE FROM audit_event",
        "DELETE FROM audit_head",
        "UPDATE audit_head SET count = 2, last_id = 2",
        "UPDATE audit_head SET last_sha256 = 'f'",
        "UPDATE audit_head SET count = 4, last_id = 4, gapless_after = 4",
        "INSERT INTO audit_head VALUES (2, 1, 1, 'a', 0)",
    ],
)
def test_refused_on_both(database: Database, statement: str) -> None:
    with pytest.raises(sa.exc.DBAPIError):
        execute(database, statement)


def test_truncate_is_refused(postgres_url: str) -> None:
    database = Database(postgres_url)  # SQLite has no TRUNCATE
    schema.migrate(database)
    for table in ("audit_event", "audit_head"):
        with pytest.raises(sa.exc.DBAPIError, match="append-only"):
            execute(database, f"TRUNCATE {table}")
    database.dispose()


@pytest.mark.parametrize("number", [2, 3])
def test_replace_is_refused(database: Database, number: int) -> None:
    if database.is_sqlite:
        statement = (
            "INSERT OR REPLACE INTO audit_event SELECT :number, at, actor, action, 'other', detail, previous_sha256,"
            " 'f' FROM audit_event WHERE id = 1"
        )
    else:
        statement = (
            "INSERT INTO audit_event SELECT :number, at, actor, action, subject, detail, previous_sha256, 'f'"
            " FROM audit_event WHERE id = 1 ON CONFLICT (id) DO UPDATE SET subject = 'other'"
        )
    with pytest.raises(sa.exc.DBAPIError, match="append-only"):
        execute(database, statement, number=number)


def appended_as_the_first_release_did(database: Database) -> None:
    """Chain an event to the last one under a number of the database's own; that release knows of no head."""
    with database.write() as session:
        last = session.exec(select(AuditEvent).order_by(col(AuditEvent.id).desc()).limit(1)).one_or_none()
        event = AuditEvent(
            at=utc_now(), actor="old", action="b", subject="c", detail="{}", sha256="",
            previous_sha256=last.sha256 if last else GENESIS,
        )  # fmt: skip
        event.sha256 = digest(event)
        session.add(event)


def test_a_service_of_the_first_release_that_still_runs_fails_and_not_the_new_one(
    empty_database_url: str, tmp_path: Path
) -> None:
    database = Database(empty_database_url)
    with schema.changing(database) as connection:
        schema.upgrade(connection, "0001")
    for _ in range(3):
        appended_as_the_first_release_did(database)
    schema.migrate(database)
    for _ in range(2):
        with pytest.raises(sa.exc.DBAPIError, match=r"append-only.*older release"):
            appended_as_the_first_release_did(database)
        events(database, 2)
    result = verify(database, AnchorFile(tmp_path / "anchors.jsonl"))
    assert (result.findings, result.events) == ([], 7)
    database.dispose()


def test_a_chain_of_the_first_schema_gets_its_head(empty_database_url: str, tmp_path: Path) -> None:
    database = Database(empty_database_url)
    config = schema._config()
    with database.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    previous = GENESIS
    with database.write() as session:
        for number in (1, 2, 5):  # PostgreSQL leaves numbers out where a transaction failed
            event = AuditEvent(
                id=number, at=utc_now(), actor="a", action="b", subject="c", detail="{}", previous_sha256=previous,
                sha256="",
            )  # fmt: skip
            event.sha256 = previous = digest(event)
            session.add(event)
            session.flush()
    schema.migrate(database)
    with database.read() as session:
        head = read_head(session)
        assert head is not None
        assert (head.count, head.last_id, head.last_sha256, head.gapless_after) == (3, 5, previous, 5)
    events(database, 2)
    result = verify(database, AnchorFile(tmp_path / "anchors.jsonl"))
    assert (result.findings, result.events, result.last["id"]) == ([], 5, 7)  # type: ignore[index]
    with database.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0001")
    assert schema.current(database) == "0001"
    database.dispose()
