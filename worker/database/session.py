"""The engine and its sessions. SQLite (WAL, synchronous FULL) and PostgreSQL, the same on both."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Engine, make_url
from sqlmodel import Session, SQLModel, create_engine


def is_away(error: BaseException) -> bool:
    """Say whether an error means that the database cannot be reached or asks to try again, not that it said no."""
    return isinstance(error, (sa.exc.OperationalError, sa.exc.InterfaceError))


def insert_into(session: Session, table: type[SQLModel]) -> Any:
    """Return the insert of this database, which knows ON CONFLICT: what two write for the first time is no error."""
    insert = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
    return insert(table)


IDLE_SECONDS = 1.0
"""A connection that was idle for so long is asked whether it is alive; one just used fails as one does in midstream."""

_USED_AT = "used at"

LOCKED_SECONDS = 30.0
"""How long SQLite may be locked by somebody else before that is an error."""
_LOOK_SECONDS = 0.001
_PATIENT = f"busy_timeout={LOCKED_SECONDS * 1000:.0f}"


class Database:
    """The engine and its sessions. `read()` for looking, `write()` for one transaction that commits or rolls back."""

    def __init__(self, url: str) -> None:
        self.url = make_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        if self.url.drivername == "postgresql":
            self.url = self.url.set(drivername="postgresql+psycopg")
        self.engine = _sqlite_engine(self.url) if self.is_sqlite else _postgresql_engine(self.url)
        self._writing = self.engine.execution_options(begin_immediate=True)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Open a session for reading; whatever it changed is rolled back."""
        with Session(self.engine) as session:
            yield session

    @contextmanager
    def snapshot(self) -> Iterator[Session]:
        """Open a session for reading that sees the database as it is at one moment, however long it reads."""
        with Session(self.engine) as session:
            if not self.is_sqlite:  # where a transaction in WAL mode sees one moment anyhow
                session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """Open a session in one transaction.

        On SQLite it begins IMMEDIATE: a read that becomes a write later cannot be saved by the busy timeout.
        """
        with Session(self._writing, expire_on_commit=False) as session, session.begin():
            yield session

    def dispose(self) -> None:
        """Close every connection."""
        self.engine.dispose()


def _postgresql_engine(url: sa.URL) -> Engine:
    engine = create_engine(url, pool_size=5, hide_parameters=True, connect_args={"connect_timeout": 5})

    @event.listens_for(engine, "checkin")
    def _note_use(_connection: Any, record: Any) -> None:
        record.info[_USED_AT] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def _ask(connection: Any, record: Any, _fairy: Any) -> None:
        if time.monotonic() - record.info.get(_USED_AT, time.monotonic()) < IDLE_SECONDS:
            return
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as error:  # the others are as old: each is made anew
            raise sa.exc.InvalidatePoolError from error

    return engine


def _sqlite_engine(url: sa.URL) -> Engine:
    if url.database and url.database != ":memory:":
        path = Path(url.database)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
    engine = create_engine(url, hide_parameters=True, connect_args={"timeout": 30, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves, below
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", _PATIENT):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        if connection.get_execution_options().get("begin_immediate", False):
            _begin_to_write(connection)
        else:
            connection.exec_driver_sql("BEGIN")

    return engine


def _begin_to_write(connection: Connection) -> None:
    """Begin IMMEDIATE, looking often whether whoever writes has ended.

    SQLite itself looks ever more seldom, up to ten times a second: a process with one short transaction after the other
    would keep the rest of them waiting for seconds.

    Raises
    ------
    OperationalError
        The database stays locked for `LOCKED_SECONDS`.
    """
    sqlite: Any = connection.connection.dbapi_connection
    sqlite.execute("PRAGMA busy_timeout=0")
    try:
        deadline = time.monotonic() + LOCKED_SECONDS
        while True:
            try:
                sqlite.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise sa.exc.OperationalError("BEGIN IMMEDIATE", None, error) from error
                time.sleep(_LOOK_SECONDS)
            else:
                return
    finally:
        sqlite.execute(f"PRAGMA {_PATIENT}")
