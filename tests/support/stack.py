"""The real services as real processes: started here, killed here, asked through the public commands."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

SERVICES = {
    "listener": ("listener", "--no-intake"),
    "intake": ("intake",),
    "inference": ("worker", "--queues", "inference"),
    "delivery": ("worker", "--queues", "delivery"),
}


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Stack:
    """Listener, intake, inference and delivery on one data directory; each can be stopped, killed, started again."""

    def __init__(self, data_dir: Path, broker_url: str = "", **settings: Any) -> None:
        self.data_dir = data_dir
        data_dir.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("FIRSTREAD_")},
            "FIRSTREAD_DATA_DIR": str(data_dir),
            "FIRSTREAD_DICOM_PORT": str(self.port),
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
        for name in names or SERVICES:
            log = (self.data_dir / f"{name}.log").open("ab")
            command = [sys.executable, "-m", "worker.cli", *SERVICES[name]]
            self.processes[name] = subprocess.Popen(
                command, env=self.environment, stdout=log, stderr=log, cwd=self.data_dir, start_new_session=True
            )
            log.close()
        if "listener" in (names or SERVICES):
            self.wait(self.listening, 60, "the listener to listen")

    def listening(self) -> bool:
        """Whether the DICOM port answers."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

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

    def settled(self, count: int) -> bool:
        """Whether `count` instances are registered and none is pending."""
        sums = self.json("reconcile")
        return sums["accepted"] == count and sums["pending"] == 0

    def wait(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        """Wait until something holds; show the logs when it does not."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                logs = "\n".join(f"--- {name}\n{self.log(name)[-1500:]}" for name in SERVICES if self._has_log(name))
                raise AssertionError(f"waited {seconds} s for {what}\n{logs}")
            time.sleep(0.2)

    def _has_log(self, name: str) -> bool:
        return (self.data_dir / f"{name}.log").exists()

    def storescu(self, *files: Path, timeout: float = 120) -> int:
        """Push files with dcmtk's storescu; returns its exit status."""
        listing = [str(file) for file in files]
        command = ["storescu", "-R", "-aec", "FIRSTREAD", "-aet", "STORESCU", "127.0.0.1", str(self.port), *listing]
        return subprocess.run(command, capture_output=True, timeout=timeout, check=False).returncode
