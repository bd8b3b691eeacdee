"""The rows of one moment, read while everybody goes on writing: one transaction that sees nothing newer."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from worker import schema
from worker.backup import tables
from worker.database import Database
from worker.errors import BackupError


@dataclass(frozen=True)
class Snapshot:
    """What the rows of a moment say.

    Attributes
    ----------
    schema
        Revision of the schema.
    rows
        How many each table has.
    audit
        `events`, `last_id` and `sha256` of the audit chain's end.
    objects
        Spool name of every instance to the SHA-256 and size of its file, bytes.
    removed
        Spool names whose bytes retention has removed or is about to.
    reports
        Path of every report, relative to the reports directory, to its SHA-256.
    """

    schema: str
    rows: dict[str, int]
    audit: dict[str, Any]
    objects: dict[str, tuple[str, int]] = field(repr=False)
    removed: frozenset[str] = field(repr=False)
    reports: dict[str, str] = field(repr=False)


def take(database: Database, directory: Path) -> Snapshot:
    """Write every table to `directory`, all of the same moment.

    SQLite's write-ahead log and PostgreSQL's REPEATABLE READ give a reader the moment of its first look, and hold up
    no writer.

    Raises
    ------
    BackupError
        When the database is empty.
    SchemaTooNew
        When a newer release has written it.
    """
    with database.engine.connect() as plain:
        options = {} if database.is_sqlite else {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        connection = plain.execution_options(**options)
        with connection.begin():
            revision = schema.revision_of(connection)
            if revision is None:
                raise BackupError("the database is empty: nothing has been received here yet")
            schema.require_known(revision)
            found = {table.name: table for table in tables.reflected(connection)}
            written = {
                name: tables.write(connection, table, directory / file_name(name)) for name, table in found.items()
            }
            objects, removed = _objects(connection, found["instance"])
            report = found["report"].columns
            return Snapshot(
                schema=revision,
                rows=written,
                audit=_audit(connection, found["audit_event"]),
                objects=objects,
                removed=removed,
                reports=dict(_rows(connection, report["path"], report["sha256"])),
            )


def file_name(table: str) -> str:
    """Return the name of the file that holds a table."""
    return f"{table}.jsonl.gz"


def _objects(connection: Connection, instance: sa.Table) -> tuple[dict[str, tuple[str, int]], frozenset[str]]:
    began = instance.columns.get("removal_began_at", sa.null())  # the first schema removed nothing
    objects: dict[str, tuple[str, int]] = {}
    removed: set[str] = set()
    wanted = (instance.columns[name] for name in ("spool_name", "sha256", "size_bytes"))
    for name, sha256, size, is_removed in _rows(connection, *wanted, began):
        objects[name] = (sha256, size)
        if is_removed is not None:
            removed.add(name)
    return objects, frozenset(removed)


def _audit(connection: Connection, event: sa.Table) -> dict[str, Any]:
    columns = event.columns
    count = connection.scalar(sa.select(sa.func.count()).select_from(event)) or 0
    last = connection.execute(
        sa.select(columns["id"], columns["sha256"]).order_by(columns["id"].desc()).limit(1)
    ).first()
    return {"events": count, "last_id": last[0] if last else 0, "sha256": last[1] if last else ""}


def _rows(connection: Connection, *columns: Any) -> Iterator[Any]:
    query = sa.select(*columns).execution_options(yield_per=tables.ROWS_AT_ONCE)
    for row in connection.execute(query):
        yield tuple(row)
