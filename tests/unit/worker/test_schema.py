"""The schema: the migrations make exactly the tables that the code describes, on both databases."""

import multiprocessing

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlmodel import SQLModel

from worker import schema
from worker.database import Database
from worker.errors import SchemaOwed


def test_the_migrations_make_what_the_code_describes(empty_database_url: str) -> None:
    database = Database(empty_database_url)
    assert schema.current(database) is None
    assert schema.migrate(database) == (None, schema.newest())
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, SQLModel.metadata) == []
    assert schema.migrate(database) == (schema.newest(), schema.newest())
    database.dispose()


def test_services_make_an_sqlite_schema_and_ask_for_a_postgresql_one(empty_database_url: str) -> None:
    database = Database(empty_database_url)
    if database.is_sqlite:
        schema.ensure(database)
        assert schema.current(database) == schema.newest()
    else:
        with pytest.raises(SchemaOwed, match="firstread migrate"):
            schema.ensure(database)
    database.dispose()


def _ensure(url: str) -> None:
    schema.ensure(Database(url))


def test_services_that_start_together_migrate_once(tmp_path) -> None:
    url = f"sqlite:///{tmp_path}/firstread.db"
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_ensure, args=(url,)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
