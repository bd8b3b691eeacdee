"""A connection to PostgreSQL that was idle is asked first; one that was just used fails as one does in midstream."""

from collections.abc import Iterator

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy import event

from worker.database import Database, is_away
from worker.database import session as module


@pytest.fixture
def database(postgres_url: str) -> Iterator[Database]:
    made = Database(postgres_url)
    yield made
    made.dispose()


def ask(database: Database) -> int:
    with database.read() as session:
        return int(session.execute(sa.text("SELECT pg_backend_pid()")).scalar_one())


def end_all(url: str) -> None:
    """End every connection to the database, as a restart does."""
    words = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> %s"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(words, [connection.info.backend_pid])


def test_a_connection_that_was_idle_is_made_anew_when_it_is_dead(
    database: Database, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.0)
    first = ask(database)
    end_all(postgres_url)
    assert ask(database) != first


def test_one_that_was_just_used_says_that_the_database_is_away_and_the_next_is_new(
    database: Database, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IDLE_SECONDS", 60.0)
    first = ask(database)
    end_all(postgres_url)
    with pytest.raises(sa.exc.OperationalError) as caught:
        ask(database)
    assert is_away(caught.value)
    assert ask(database) != first


def test_one_that_was_just_used_is_not_asked(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(database.engine.dialect, "do_ping", asked.append)
    monkeypatch.setattr(module, "IDLE_SECONDS", 60.0)
    ask(database)
    ask(database)
    assert asked == []
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.0)
    ask(database)
    assert len(asked) == 1


def test_sqlite_waits_for_the_disk(tmp_path: object) -> None:
    database = Database(f"sqlite:///{tmp_path}/x.db")
    seen: list[str] = []
    event.listen(database.engine, "before_cursor_execute", lambda *said: seen.append(said[2]))
    with database.write() as session:
        assert session.execute(sa.text("PRAGMA synchronous")).scalar_one() == 2
        assert session.execute(sa.text("PRAGMA journal_mode")).scalar_one() == "wal"
    assert seen[0] == "BEGIN IMMEDIATE"
    database.dispose()
