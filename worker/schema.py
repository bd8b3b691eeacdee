"""The database schema: which version it has, and how it becomes the newest.

SQLite is brought up by every service at its start, under a lock; PostgreSQL by `firstread migrate`, and services say so
when it is owed.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from worker.database import Database
from worker.errors import SchemaOwed

MIGRATIONS = Path(__file__).parent / "migrations"


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    return config


def newest() -> str:
    """Return the revision this release needs."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    if head is None:
        raise SchemaOwed(f"no migrations found in {MIGRATIONS}: the installation is incomplete")
    return head


def current(database: Database) -> str | None:
    """Return the revision the database has; None when it is empty."""
    with database.engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def migrate(database: Database) -> tuple[str | None, str]:
    """Bring the schema to the newest version; return what it was and what it is."""
    with _only_one(database):
        before = current(database)
        if before != newest():
            config = _config()
            with database.engine.begin() as connection:
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
        return before, newest()


def ensure(database: Database) -> None:
    """Make sure the schema is the newest, as a service does at its start.

    Raises
    ------
    SchemaOwed
        On PostgreSQL, where only `firstread migrate` changes the schema.
    """
    if database.is_sqlite:
        migrate(database)
    elif (found := current(database)) != newest():
        raise SchemaOwed(
            f"the database schema is {found or 'empty'}, this release needs {newest()}: run `firstread migrate`"
        )


@contextmanager
def _only_one(database: Database) -> Iterator[None]:
    """Several services start at once: one migrates, the others wait."""
    if not database.is_sqlite or not database.url.database:
        yield
        return
    descriptor = os.open(f"{database.url.database}.migrating", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
