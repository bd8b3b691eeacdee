"""The real listener process, as a service manager would run it."""

import json
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from tests.support import certificates
from worker.config import Credentials, Peer
from worker.intake.spool import Spool


class ListenerProcess:
    """`python -m dicom_listener` on a free port, with a data directory of the test's own.

    It serves in one process, whatever the machine has, unless told otherwise. Settings are given by their names in
    lower case; `before` stands before the command (a tracer). With `credentials` the port speaks TLS, and `client` is
    the context of a sender that has the same.
    """

    def __init__(
        self,
        data_dir: Path,
        *options: str,
        before: Sequence[str] = (),
        intake: bool = False,
        credentials: Credentials | None = None,
        **settings: object,
    ) -> None:
        self.data_dir = data_dir
        self.log = data_dir.with_name(f"{data_dir.name}.log")
        self.spool_dir = data_dir / "spool"
        self._command = [
            *before,
            sys.executable,
            "-m",
            "dicom_listener",
            *([] if intake else ["--no-intake"]),
            *options,
        ]
        usual = {"dicom_port": 0, "listener_processes": 1, "min_free_bytes": 0, "log_format": "json"}
        named = {"data_dir": data_dir, **usual, **settings}
        self.metrics_port = settings.get("metrics_port")
        self.client: ssl.SSLContext | None = None
        if credentials is not None:
            named |= certificates.settings(credentials)
            self.client = certificates.client(credentials)
        self._environment = {**os.environ, **{f"FIRSTREAD_{key.upper()}": str(value) for key, value in named.items()}}
        self.process: subprocess.Popen[str] | None = None
        self.host, self.port, self.plain_port = "", 0, 0

    def start(self) -> Self:
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                self._command, env=self._environment, stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.startswith("listening "):
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()
            raise AssertionError(f"{line!r}\n{self.log.read_text()}")
        first, *second = [Peer.parse(address) for address in line.removeprefix("listening ").split(", ")]
        assert first.tls == (self.client is not None)
        self.host, self.port = first.host, first.port
        self.plain_port = second[0].port if second else 0
        return self

    def run(self) -> subprocess.CompletedProcess[str]:
        """Run a listener that is expected to end by itself."""
        return subprocess.run(
            self._command, env=self._environment, capture_output=True, text=True, timeout=60, check=False
        )

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def stop(self, sig: int = signal.SIGTERM, *, timeout: float = 40) -> int:
        assert self.process is not None
        self.process.send_signal(sig)
        return self.wait(timeout)

    def wait(self, timeout: float = 40) -> int:
        assert self.process is not None
        code = self.process.wait(timeout)
        assert self.process.stdout is not None
        self.rest_of_stdout = self.process.stdout.read()
        self.process.stdout.close()
        self.process = None
        return code

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.stop(signal.SIGKILL)

    @property
    def spool(self) -> Spool:
        return Spool(self.spool_dir)

    def arrivals(self) -> list[Path]:
        return self.spool.arrivals()

    def partials(self) -> list[Path]:
        return sorted((self.spool_dir / "incoming").glob("*.part"))

    def events(self, name: str) -> list[dict[str, Any]]:
        """The log lines of one event."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == name]
