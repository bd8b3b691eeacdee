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
from sqlalchemy.engine import Connection

from worker.database import Database
from worker.errors import SchemaOwed, SchemaTooNew

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


def known() -> frozenset[str]:
    """Return the revisions that this release knows."""
    return frozenset(script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions())


def current(database: Database) -> str | None:
    """Return the revision the database has; None when it is empty."""
    with database.engine.connect() as connection:
        return revision_of(connection)


def revision_of(connection: Connection) -> str | None:
    """Return the revision of the database behind a connection; None when it is empty."""
    return MigrationContext.configure(connection).get_current_revision()


def require_known(found: str | None, what: str = "the database") -> None:
    """Refuse a schema of a newer release: nobody knows what it means.

    Raises
    ------
    SchemaTooNew
        When this release does not know the revision `found`.
    """
    if found is not None and found not in known():
        raise SchemaTooNew(
            f"the schema of {what} is {found}, which this release does not know (its own is {newest()}): it was "
            "written by a newer release. Install that release again, or restore a backup that this one made"
        )


def migrate(database: Database) -> tuple[str | None, str]:
    """Bring the schema to the newest version; return what it was and what it is.

    Raises
    ------
    SchemaTooNew
        When a newer release has written the database.
    """
    with _only_one(database):
        before = current(database)
        require_known(before)
        if before != newest():
            with changing(database) as connection:
                upgrade(connection, "head")
        return before, newest()


def upgrade(connection: Connection, revision: str) -> None:
    """Run the migrations up to a revision in the caller's transaction."""
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


@contextmanager
def changing(database: Database) -> Iterator[Connection]:
    """Open one transaction in which tables may be made anew: all of it is done, or nothing.

    SQLite makes a table anew by copying it and dropping the old one, which rows of other tables still refer to; so
    foreign keys are off meanwhile, and looked at once before the commit (https://sqlite.org/lang_altertable.html#otheralter).
    """
    with database.engine.execution_options(begin_immediate=True).connect() as connection:
        driver = connection.connection.driver_connection
        if database.is_sqlite and driver is not None:
            driver.execute("PRAGMA foreign_keys=OFF")  # of no effect within a transaction
        try:
            with connection.begin():
                yield connection
                if database.is_sqlite and (broken := connection.exec_driver_sql("PRAGMA foreign_key_check").all()):
                    named = sorted({f"{row[0]} → {row[2]}" for row in broken})
                    raise SchemaOwed(f"the migration would leave rows that refer to nothing ({', '.join(named)})")
        finally:
            if database.is_sqlite and driver is not None:
                driver.execute("PRAGMA foreign_keys=ON")


def ensure(database: Database) -> None:
    """Make sure the schema is the newest, as a service does at its start.

    Raises
    ------
    SchemaOwed
        On PostgreSQL, where only `firstread migrate` changes the schema.
    SchemaTooNew
        When a newer release has written the database.
    """
    if database.is_sqlite:
        migrate(database)
        return
    found = current(database)
    require_known(found)
    if found != newest():
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
