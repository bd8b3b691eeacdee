"""Rows in a form that belongs to no database: a file a table, a line of JSON a row.

What is written by one database can be read into the other, and into the schema that it was written from, whatever that
was: tables and columns are taken from the database itself, not from the code of this release.
"""

import base64
import gzip
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from worker.database import UtcDateTime
from worker.errors import BackupError

ROWS_AT_ONCE = 1000
_VERSION_TABLE = "alembic_version"

Row = Sequence[Any]


def reflected(connection: Connection) -> list[sa.Table]:
    """Return the tables that a database has, those that others refer to before those that refer to them.

    The head of the audit chain comes first: the triggers let in only events that it reaches.
    """
    metadata = sa.MetaData()
    metadata.reflect(connection)
    tables = [table for table in metadata.sorted_tables if table.name != _VERSION_TABLE]
    tables.sort(key=lambda table: table.name != "audit_head")
    for column in (column for table in tables for column in table.columns):
        if isinstance(column.type, sa.DateTime):
            column.type = UtcDateTime()
        elif isinstance(column.type, sa.JSON):
            column.type = sa.JSON(none_as_null=bool(column.nullable))
    return tables


def rows(connection: Connection, table: sa.Table) -> Iterator[list[Any]]:
    """Yield the rows of a table in the order of its primary key, each value as JSON can write it."""
    query = sa.select(table).order_by(*table.primary_key.columns).execution_options(yield_per=ROWS_AT_ONCE)
    for row in connection.execute(query):
        yield [_encoded(value, column) for value, column in zip(row, table.columns, strict=True)]


def write(connection: Connection, table: sa.Table, path: Path) -> int:
    """Write a table to a compressed file, durably; return how many rows it has."""
    count = 0
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as raw:
        with gzip.GzipFile("", "wb", compresslevel=3, fileobj=raw, mtime=0) as file:
            file.write(_line({"table": table.name, "columns": [column.name for column in table.columns]}))
            for row in rows(connection, table):
                file.write(_line(row))
                count += 1
        raw.flush()
        os.fsync(raw.fileno())
    return count


def insert(connection: Connection, table: sa.Table, columns: Sequence[str], values: Iterable[Row]) -> int:
    """Insert rows as `rows` gives them; return how many. Those that a migration has made are brought to the same.

    Raises
    ------
    BackupError
        When the table lacks one of the columns.
    """
    if unknown := sorted(set(columns) - set(table.columns.keys())):
        raise BackupError(f"table {table.name} of the backup has columns that its schema does not: {unknown}")
    key = list(table.primary_key.columns)
    made = {row[: len(key)]: row[len(key) :] for row in map(tuple, connection.execute(sa.select(*key, *table.columns)))}
    places = [table.columns[name] for name in columns]
    count, iterator = 0, iter(values)
    while part := list(islice(iterator, ROWS_AT_ONCE)):
        count += len(part)
        decoded = [{c.name: _decoded(value, c) for c, value in zip(places, row, strict=True)} for row in part]
        if made:  # a migration has put rows there
            decoded = [row for row in decoded if not _is_there(connection, table, made, row)]
        if decoded:
            connection.execute(sa.insert(table), decoded)
    return count


def _is_there(
    connection: Connection, table: sa.Table, made: dict[tuple[Any, ...], tuple[Any, ...]], row: dict[str, Any]
) -> bool:
    """Say whether a row of this key was made with the schema; it then gets the values of `row`."""
    key = list(table.primary_key.columns)
    found = made.get(tuple(row[column.name] for column in key))
    if found is None:
        return False
    if dict(zip(table.columns.keys(), found, strict=True)) != row:
        same = (column == row[column.name] for column in key)
        connection.execute(sa.update(table).where(*same).values(row))
    return True


def read(connection: Connection, table: sa.Table, path: Path) -> int:
    """Insert what `write` wrote; return how many rows."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        columns = json.loads(next(lines))["columns"]
        return insert(connection, table, columns, map(json.loads, lines))


def values(path: Path, column: str) -> Iterator[Any]:
    """Yield one column of what `write` wrote."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        place = json.loads(next(lines))["columns"].index(column)
        for line in lines:
            yield json.loads(line)[place]


def go_on_counting(connection: Connection, tables: Iterable[sa.Table]) -> None:
    """Let PostgreSQL's sequences go on behind the rows that were inserted with their numbers; SQLite does so itself."""
    if connection.dialect.name != "postgresql":
        return
    for table in tables:
        for column in table.primary_key.columns:
            if not isinstance(column.type, sa.Integer):
                continue
            sequence = connection.scalar(sa.select(sa.func.pg_get_serial_sequence(table.name, column.name)))
            last = connection.scalar(sa.select(sa.func.max(column)))
            if sequence and last is not None:
                connection.execute(sa.select(sa.func.setval(sequence, last)))


def _line(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _encoded(value: Any, column: sa.Column[Any]) -> Any:
    if isinstance(value, datetime):
        return value.isoformat(timespec="microseconds")
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if value is None or isinstance(value, (str, int, float)) or isinstance(column.type, sa.JSON):
        return value
    raise BackupError(f"column {column} holds a {type(value).__name__}, which a backup cannot write")


def _decoded(value: Any, column: sa.Column[Any]) -> Any:
    if isinstance(column.type, UtcDateTime) and value is not None:
        return datetime.fromisoformat(value)
    if isinstance(column.type, sa.LargeBinary) and value is not None:
        return base64.b64decode(value)
    return value
