"""A hospital in small: the real services, their Redis, their database, a PACS; whatever dies is started again."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, ClassVar, Self

from tests.conftest import RedisServer
from tests.faults.pacs import MannerlyPacs
from tests.faults.postgres import PostgresServer
from tests.support.stack import SERVICES, Stack

INJECTED = Path(__file__).with_name("injected.py")
LEASE_SECONDS = 5
DATA_MIB, SPOOL_MIB = 192, 64
FLOOR_MIB = 2


class InjectedStack(Stack):
    """The services, each with the dormant faults of `injected` in it; of the models the one that reads films."""

    services: ClassVar[dict[str, tuple[str, ...]]] = SERVICES | {
        "inference": ("worker", "--queues", "inference.chest_xray_triage")
    }

    folder: Path

    def _spawn(self, name: str, *_python: str) -> None:
        super()._spawn(name, "-P", str(INJECTED), str(self.folder))


class Site:
    """Everything that one database serves, in `directory` (of a short path: unix sockets).

    The data directory and the spool in it are file systems of their own (tmpfs) where we may mount: then a disk can be
    full, or read-only, and nobody else's is.
    """

    def __init__(self, directory: Path, database: str) -> None:
        self.directory, self.database = directory, database
        self.data_dir = directory / "data"
        self.faults_dir = directory / "faults"
        self.logs_dir = directory / "logs"
        for path in (self.data_dir, self.faults_dir):
            path.mkdir(mode=0o700)
        self._mounts: list[Path] = []
        self.pacs = MannerlyPacs()
        (directory / "redis").mkdir()
        self.redis = RedisServer(directory / "redis")
        self.postgres: PostgresServer | None = None
        self.stack: InjectedStack

    def __enter__(self) -> Self:
        try:
            self._begin()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _begin(self) -> None:
        self._mount(self.data_dir, DATA_MIB)
        (self.data_dir / "spool").mkdir(mode=0o700)
        self._mount(self.data_dir / "spool", SPOOL_MIB)
        self.redis.start()
        self.pacs.start()
        if self.database == "postgresql":
            self.postgres = PostgresServer(self.directory / "pg")
        self.database_url = self.postgres.url if self.postgres else f"sqlite:///{self.data_dir}/firstread.db"
        self.stack = InjectedStack(
            self.logs_dir,
            self.redis.url,
            pacs=self.pacs.peer,
            lease_seconds=LEASE_SECONDS,
            max_attempts=12,
            min_free_bytes=FLOOR_MIB << 20,
            database_url=self.database_url,
        )
        self.stack.folder = self.faults_dir
        self.stack.environment["FIRSTREAD_DATA_DIR"] = str(self.data_dir)
        migrated = self.stack.run("migrate")
        if migrated.returncode:
            raise AssertionError(migrated.stderr)
        self.stack.start()
        self.wait_ready(*SERVICES)

    def __exit__(self, *_: object) -> None:
        with contextlib.ExitStack() as last:
            for path in self._mounts:  # the last one in comes off first
                last.callback(subprocess.run, ["umount", "--lazy", str(path)], check=True)
            last.callback(self.pacs.stop)
            if self.postgres is not None:
                last.callback(self.postgres.stop)
                last.callback(self.postgres.thaw)
            last.callback(self.redis.stop)
            if hasattr(self, "stack"):
                for name in list(self.stack.processes):
                    last.callback(self.stack.kill, name)

    def _mount(self, path: Path, mebibytes: int) -> None:
        command = ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m,mode=0700", "firstread-faults", str(path)]
        if os.geteuid() == 0 and subprocess.run(command, capture_output=True, check=False).returncode == 0:
            self._mounts.append(path)

    @property
    def can_fill_disks(self) -> bool:
        """Whether data directory and spool are file systems of their own."""
        return len(self._mounts) == 2

    @property
    def spool_dir(self) -> Path:
        return self.data_dir / "spool"

    def arrivals(self) -> list[Path]:
        """What waits for registration."""
        return list((self.spool_dir / "incoming").glob("*.dcm"))

    # ---- faults in processes

    def arm(self, point: str, times: int = 1, how: str = "kill") -> None:
        """Let the fault at a named point strike, so many times from now on."""
        self.disarm()
        fresh = self.faults_dir / "armed.new"
        fresh.write_text(f"{point} {times} {how}")
        fresh.rename(self.faults_dir / "armed")

    def disarm(self) -> None:
        """Let every fault be dormant again, and forget what has struck."""
        for name in ("armed", "struck"):
            (self.faults_dir / name).unlink(missing_ok=True)

    def strikes(self) -> int:
        """How often the armed fault has struck."""
        struck = self.faults_dir / "struck"
        return len(struck.read_text().splitlines()) if struck.exists() else 0

    def step_clock(self, seconds: int) -> None:
        """Let the clock of every service be off by so much from now on; 0: as it should be."""
        fresh = self.faults_dir / "clock.new"
        fresh.write_text(str(seconds))
        fresh.rename(self.faults_dir / "clock")

    def tend(self) -> int:
        """Start again every service that has died, as a supervisor does; return how many."""
        dead = [name for name in list(self.stack.processes) if self.stack.has_died(name)]
        for name in dead:
            self.stack._spawn(name)
        return len(dead)

    def restart(self, *names: str, sig: int = signal.SIGTERM) -> None:
        """Stop services and start them again."""
        for name in names:
            self.stack.stop(name, sig)
        for name in names:
            self.stack._spawn(name)

    def power_cut(self) -> None:
        """End every process of firstread, the broker and the database at once."""
        if self.postgres is not None:
            self.postgres.kill()
        self.redis.stop(signal.SIGKILL)
        for name in list(self.stack.processes):
            self.stack.kill(name)

    def power_on(self) -> None:
        """Start everything again."""
        if self.postgres is not None:
            self.postgres.start()
        self.redis.start()
        for name in SERVICES:
            self.stack._spawn(name)

    def wait_ready(self, *names: str, seconds: float = 180) -> None:
        """Wait until services do their work: the listener listens, workers wait for hints."""
        import redis

        deadline = time.monotonic() + seconds
        waiting = set(names) & {"inference", "delivery"}
        pattern = {"inference": "inference.*", "delivery": "delivery"}
        self.stack.wait(self.stack.listening, seconds, "the listener to listen")
        with redis.Redis(unix_socket_path=str(self.redis.socket), decode_responses=True, socket_timeout=5) as broker:
            while waiting:
                if time.monotonic() > deadline:
                    raise AssertionError(f"not ready: {waiting}")
                bound = set(broker.keys("_kombu.binding.*"))
                waiting = {n for n in waiting if not any(pattern[n].rstrip("*") in key for key in bound)}
                time.sleep(0.1)

    def firstread(self, *arguments: str) -> Any:
        """What a command says with `--json`."""
        return self.stack.json(*arguments)


@contextlib.contextmanager
def site(database: str) -> Any:
    """Open a site in a temporary directory of its own."""
    with (
        tempfile.TemporaryDirectory(prefix="ff-", ignore_cleanup_errors=True) as path,
        Site(Path(path), database) as one,
    ):
        yield one


if sys.platform != "linux":
    raise ImportError("the campaign stops and mounts as Linux does")
