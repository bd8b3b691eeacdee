"""An idle connection to PostgreSQL is asked first, one just used fails as in midstream; SQLite's writers take turns."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

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
    with database.write() as session:
        assert session.execute(sa.text("PRAGMA synchronous")).scalar_one() == 2
        assert session.execute(sa.text("PRAGMA journal_mode")).scalar_one() == "wal"
        assert session.execute(sa.text("PRAGMA busy_timeout")).scalar_one() == 30_000
    database.dispose()


def test_whoever_writes_on_sqlite_holds_the_lock_from_the_beginning(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/x.db")
    with closing(sqlite3.connect(tmp_path / "x.db", timeout=0)) as other:
        with database.write() as session:
            session.connection()
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                other.execute("BEGIN IMMEDIATE")
        other.execute("BEGIN IMMEDIATE")
    database.dispose()


def test_the_next_writer_begins_when_this_one_has_ended(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/x.db")
    began, order = threading.Event(), []

    def write() -> None:
        began.set()
        with database.write() as session:
            session.connection()
            order.append("second")

    with database.write() as session:
        session.connection()
        second = threading.Thread(target=write)
        second.start()
        began.wait()
        second.join(0.05)
        order.append("first")
    second.join()
    assert order == ["first", "second"]
    database.dispose()


def test_a_lock_that_nobody_gives_back_is_told_of_as_a_database_that_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOCKED_SECONDS", 0.05)
    database = Database(f"sqlite:///{tmp_path}/x.db")
    with database.read() as session:
        session.execute(sa.text("SELECT 1"))
    with closing(sqlite3.connect(tmp_path / "x.db")) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(sa.exc.OperationalError) as told, database.write() as session:
            session.connection()
        assert is_away(told.value)
    with database.write() as session:
        session.execute(sa.text("CREATE TABLE t (a)"))
    database.dispose()
