"""An empty database of each kind, copied from one whose schema is made once; passwords that cost little."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.support.accounts import cheap_passwords
from worker import schema
from worker.database import Database


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    cheap_passwords(monkeypatch)


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "firstread.db"
    _migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def postgres_template(postgres_server: str) -> str:
    import psycopg

    name = f"template{time.time_ns()}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")  # the name is made of digits here
    _migrate(sa.make_url(postgres_server).set(database=name).render_as_string(hide_password=False))
    return name


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "firstread.db")
        made = Database(f"sqlite:///{tmp_path / 'firstread.db'}")
        yield made
        made.dispose()
        return
    import psycopg

    server, template = request.getfixturevalue("postgres_server"), request.getfixturevalue("postgres_template")
    name = f"t{time.time_ns()}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    made = Database(sa.make_url(server).set(database=name).render_as_string(hide_password=False))
    yield made
    made.dispose()
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _migrate(url: str) -> None:
    made = Database(url)
    schema.migrate(made)
    made.dispose()
