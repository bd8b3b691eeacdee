"""One supervised service: its command, its process, its log, and when it is started again."""

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from worker.logs import get_logger
from worker.supervision.processes import describe_exit, has_ended, rotate, spawn

log = get_logger(__name__)

ROTATE_AGAIN_SECONDS = 60.0
"""How long a log that could not be put aside is let grow until that is tried again."""


@dataclass(frozen=True)
class Service:
    """What to run.

    Attributes
    ----------
    name
        Its name, and its log's.
    command
        Program and arguments.
    drain_seconds
        How long it may take to stop before it is killed.
    threads
        Threads for its numerical libraries, unless the environment says otherwise; None: one a core.
    """

    name: str
    command: tuple[str, ...]
    drain_seconds: float = 20.0
    threads: int | None = 1


@dataclass(frozen=True)
class Restart:
    """How soon a service that died is started again: `first` seconds later, doubled each time up to `longest`.

    A service that had been running for `healthy` seconds begins again with `first`.
    """

    first: float = 1.0
    longest: float = 30.0
    healthy: float = 60.0


class ServiceState:
    """A service as it runs: only the thread that starts it may use this (see `worker.supervision.processes.spawn`).

    Parameters
    ----------
    service
        What to run.
    environment
        Its whole environment but for the number of threads.
    log_file
        Where what it writes is appended; put aside when it has grown large. None: it goes to our standard error.
    restart
        How soon it is started again when it has ended.
    echo
        Where the lines of its log are written too.
    descriptors
        Asked for the open files that it is to have too, each time it is started.
    """

    def __init__(
        self,
        service: Service,
        environment: Mapping[str, str],
        log_file: Path | None,
        restart: Restart,
        echo: TextIO | None = None,
        descriptors: Callable[[], Sequence[int]] = tuple,
    ) -> None:
        self.service = service
        self.log_file = log_file
        self.process: subprocess.Popen[bytes] | None = None
        threads = service.threads or os.cpu_count() or 1
        self._environment = {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads), **environment}
        self._restart = restart
        self._delay = restart.first
        self._start_at = 0.0
        self._started_at = 0.0
        self._last_end = ""
        self._echo = echo
        self._descriptors = descriptors
        self._echoed = log_file.stat().st_size if log_file is not None and log_file.exists() else 0
        self._rotate_at = 0.0

    def look_after(self, extra_environment: Callable[[str], Mapping[str, str]]) -> bool:
        """Start the service where it is due, notice where it has ended.

        Parameters
        ----------
        extra_environment
            Asked for what is added to the environment when it starts, by the service's name. An `OSError` of it is one
            of the start: that is tried again later.

        Returns
        -------
        bool
            Whether it was found to have ended.
        """
        now = time.monotonic()
        self.echo_new_lines()
        self._put_log_aside(now)
        if self.process is None:
            if now >= self._start_at:
                self._start(extra_environment)
            return False
        if not has_ended(self.process):
            return False
        self._put_off(describe_exit(self.process.returncode), now)
        self.process = None
        return True

    def trouble(self) -> str:
        """Say how it last ended and where to read why; empty when it never did."""
        return f"{self.service.name}: {self._last_end}, see {self._where_it_writes()}" if self._last_end else ""

    def echo_new_lines(self) -> None:
        """Write the lines that its log has gained to where they are echoed, with its name before each."""
        if self._echo is None or self.log_file is None or not self.log_file.exists():
            return
        with self.log_file.open("rb") as file:
            if self.log_file.stat().st_size < self._echoed:  # somebody else emptied it
                self._echoed = 0
            file.seek(self._echoed)
            fresh = file.read()
        whole = fresh[: fresh.rfind(b"\n") + 1]
        self._echoed += len(whole)
        for line in whole.decode(errors="replace").splitlines():
            self._echo.write(f"{self.service.name:>9} | {line}\n")

    def _put_log_aside(self, now: float) -> None:
        if self.log_file is None or now < self._rotate_at:
            return
        try:
            if rotate(self.log_file):
                self._echoed = 0
        except OSError as error:
            self._rotate_at = now + ROTATE_AGAIN_SECONDS
            log.warning(
                "log_not_put_aside",
                name=self.service.name,
                error=str(error),
                retry_in_seconds=ROTATE_AGAIN_SECONDS,
                fix="make room on the disk of FIRSTREAD_DATA_DIR, and its logs directory writable for us",
            )

    def _where_it_writes(self) -> str:
        return "standard error" if self.log_file is None else str(self.log_file)

    def _start(self, extra_environment: Callable[[str], Mapping[str, str]]) -> None:
        self._started_at = time.monotonic()
        try:
            whole = {**self._environment, **extra_environment(self.service.name)}
            self.process = spawn(self.service.command, self.log_file, whole, self._descriptors())
        except OSError as error:
            self._put_off(f"could not be started ({error})", self._started_at)
        else:
            log.info("service_started", name=self.service.name, pid=self.process.pid)

    def _put_off(self, end: str, now: float) -> None:
        if now - self._started_at >= self._restart.healthy:
            self._delay = self._restart.first
        self._last_end = end
        self._start_at = now + self._delay
        log.warning(
            "service_ended",
            name=self.service.name,
            how=end,
            after_seconds=round(now - self._started_at, 1),
            restart_in_seconds=self._delay,
            log=self._where_it_writes(),
        )
        self._delay = min(2 * self._delay, self._restart.longest)
