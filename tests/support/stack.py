"""The real services as real processes: started here, killed here, asked through the public commands."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Self

from sqlmodel import col, select

from worker import schema
from worker.database import Database, WorkItem
from worker.intake.spool import Spool
from worker.reconcile import reconcile
from worker.studies import StudyFilter, list_studies

SERVICES = {
    "listener": ("listener", "--no-intake"),
    "intake": ("intake",),
    "inference": ("worker", "--queues", "inference"),
    "delivery": ("worker", "--queues", "delivery"),
}


FAULTY = Path(__file__).with_name("faulty_worker.py")


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    """Whether somebody listens on a port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Stack:
    """Listener, intake, inference and delivery on one data directory; each can be stopped, killed, started again.

    A second process of a service has its name with a number behind it: `inference-2`.
    """

    services: ClassVar[dict[str, tuple[str, ...]]] = SERVICES

    def __init__(self, data_dir: Path, broker_url: str = "", **settings: Any) -> None:
        self.data_dir = data_dir
        data_dir.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("FIRSTREAD_")},
            "FIRSTREAD_DATA_DIR": str(data_dir),
            "FIRSTREAD_DICOM_PORT": str(self.port),
            "FIRSTREAD_LISTENER_PROCESSES": "1",
            "FIRSTREAD_BROKER_URL": broker_url,
            "FIRSTREAD_STUDY_QUIET_SECONDS": "1",
            "FIRSTREAD_SWEEP_SECONDS": "0.5",
            "FIRSTREAD_LEASE_SECONDS": "5",
            "FIRSTREAD_LOG_FORMAT": "json",
            "TF_CPP_MIN_LOG_LEVEL": "2",
            "OMP_NUM_THREADS": "1",
            **{f"FIRSTREAD_{name.upper()}": str(value) for name, value in settings.items()},
        }
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self.processes):
            self.stop(name)

    def start(self, *names: str) -> None:
        """Start services; all of them when none is named."""
        for name in names or self.services:
            self._spawn(name, "-m", "worker.cli")
        if "listener" in (names or self.services):
            self.wait(self.listening, 60, "the listener to listen")

    def start_faulty(self, name: str, fault: str, witness: Path) -> None:
        """Start a worker with a fault of `tests.support.faulty_worker`; `witness` is written when it strikes."""
        self._spawn(name, "-P", str(FAULTY), fault, str(witness))

    def _spawn(self, name: str, *python: str) -> None:
        command = [sys.executable, *python, *self.services[name.partition("-")[0]]]
        with (self.data_dir / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command, env=self.environment, stdout=log, stderr=log, cwd=self.data_dir, start_new_session=True
            )

    def listening(self) -> bool:
        """Whether the DICOM port answers."""
        return answers(self.port)

    def stop(self, name: str, sig: int = signal.SIGTERM) -> int:
        """End a service, and with SIGKILL its children too, as a dying machine would."""
        process = self.processes.pop(name)
        if sig == signal.SIGKILL:
            os.killpg(process.pid, sig)
        else:
            process.send_signal(sig)
        try:
            return process.wait(45)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise AssertionError(f"{name} did not end: {self.log(name)[-3000:]}") from None

    def kill(self, name: str) -> None:
        """`kill -9`."""
        self.stop(name, signal.SIGKILL)

    def has_died(self, name: str) -> bool:
        """Whether a service has ended by itself; what it left behind is ended too, and it can be started again."""
        process = self.processes[name]
        if process.poll() is None:
            return False
        del self.processes[name]
        with contextlib.suppress(ProcessLookupError):  # nothing is left of its process group
            os.killpg(process.pid, signal.SIGKILL)
        return True

    def alive(self) -> dict[str, bool]:
        """Which services run."""
        return {name: process.poll() is None for name, process in self.processes.items()}

    def log(self, name: str) -> str:
        """What a service wrote."""
        return (self.data_dir / f"{name}.log").read_text(errors="replace")

    def run(self, *arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run `firstread …` with the settings of the stack."""
        return subprocess.run(
            [sys.executable, "-m", "worker.cli", *arguments],
            env=self.environment, capture_output=True, text=True, timeout=timeout, cwd=self.data_dir, check=False,
        )  # fmt: skip

    def json(self, *arguments: str) -> Any:
        """Run a command with `--json` and return what it said."""
        done = self.run(*arguments, "--json")
        assert done.stdout, f"{arguments}: exit {done.returncode}, {done.stderr[-2000:]}"
        return json.loads(done.stdout)

    def studies(self) -> list[dict[str, Any]]:
        """`firstread studies --json`."""
        result: list[dict[str, Any]] = self.json("studies")
        return result

    @contextlib.contextmanager
    def database(self) -> Iterator[Database]:
        """The database as a command opens it, in this process.

        What a wait asks again and again is asked here: a command is a new interpreter each time, which takes from the
        services the processor time they are waited for. What a test asserts of a result it asks of the commands.
        """
        database = Database(self.environment.get("FIRSTREAD_DATABASE_URL") or f"sqlite:///{self.data_dir}/firstread.db")
        try:
            schema.ensure(database)
            yield database
        finally:
            database.dispose()

    def work(self, kind: str) -> list[tuple[str, int]]:
        """State and attempts of all work of a kind, oldest first: from the table, for no command shows leases."""
        query = select(WorkItem).where(WorkItem.kind == kind).order_by(col(WorkItem.id))
        with self.database() as database, database.read() as session:
            return [(str(item.state), item.attempts) for item in session.exec(query)]

    def sums(self) -> dict[str, Any]:
        """What `firstread reconcile --json` would say, for a wait."""
        with self.database() as database:
            return reconcile(database, Spool(self.data_dir / "spool"), self.data_dir / "reports").as_json()

    def listed(self) -> list[dict[str, Any]]:
        """What `firstread studies --json` would say, for a wait."""
        with self.database() as database, database.read() as session:
            return list_studies(session, StudyFilter())

    def settled(self, count: int) -> bool:
        """Whether `count` instances are registered and none is pending."""
        sums = self.sums()
        return bool(sums["accepted"] == count and sums["pending"] == 0)

    def wait(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        """Wait until something holds; show the logs when it does not."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                logs = "\n".join(f"--- {name}\n{self.log(name)[-1500:]}" for name in self._logged())
                raise AssertionError(f"waited {seconds} s for {what}\n{logs}")
            time.sleep(0.2)

    def _logged(self) -> list[str]:
        return sorted(path.stem for path in self.data_dir.glob("*.log"))

    def storescu(self, *files: Path, timeout: float = 120) -> int:
        """Push files with dcmtk's storescu; returns its exit status."""
        with self.pushing(*files) as push:
            return push.wait(timeout)

    @contextlib.contextmanager
    def pushing(self, *files: Path, port: int = 0) -> Iterator[subprocess.Popen[bytes]]:
        """Push files over one association of dcmtk's storescu while the block runs, to another port if one is given."""
        address = ["127.0.0.1", str(port or self.port)]
        command = ["storescu", "-R", "-aec", "FIRSTREAD", "-aet", "STORESCU", *address, *(str(file) for file in files)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as push:
            try:
                yield push
            finally:
                push.kill()
