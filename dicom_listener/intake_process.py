"""The intake process beside the listener: started, started again when it dies, stopped with us.

The listener accepts whether intake runs or not; what is in the spool is registered when it does.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import worker
from worker.logs import get_logger

log = get_logger(__name__)

INTAKE = (sys.executable, "-m", "worker.cli", "intake")
DIE_WITH_PARENT = Path(worker.__file__).parent / "supervision" / "die_with_parent.py"
STOP_SECONDS = 15.0
HEALTHY_SECONDS = 60.0


class IntakeProcess:
    """Keeps one child running, from a thread of its own (the kernel kills the child when that thread ends).

    Parameters
    ----------
    command
        Program and arguments.
    environment
        The whole environment of the child.
    first_delay, longest_delay
        Seconds until a child that died is started again: doubled each time, and begun anew once one has lived for a
        minute.
    """

    def __init__(
        self,
        command: Sequence[str] = INTAKE,
        environment: Mapping[str, str] | None = None,
        *,
        first_delay: float = 1.0,
        longest_delay: float = 60.0,
    ) -> None:
        self._command = list(command)
        self._environment = dict(os.environ if environment is None else environment)
        self._first_delay = first_delay
        self._longest_delay = longest_delay
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._look_after, name="intake", daemon=True)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the child and look after it."""
        self._thread.start()

    def ask_to_stop(self) -> None:
        """Send SIGTERM; the child is not started again."""
        self._stopping.set()
        if self.process is not None:
            self.process.terminate()

    def wait(self, seconds: float = STOP_SECONDS) -> None:
        """Wait until the child has ended; kill it after `seconds`."""
        self._thread.join(seconds)
        if self._thread.is_alive() and self.process is not None:
            log.warning("intake_killed", pid=self.process.pid, allowed_seconds=seconds)
            self.process.kill()
            self._thread.join()

    def _look_after(self) -> None:
        delay = self._first_delay
        while not self._stopping.is_set():
            started = time.monotonic()
            outcome = self._run_once()
            if self._stopping.is_set():
                return
            if time.monotonic() - started > HEALTHY_SECONDS:
                delay = self._first_delay
            log.error("intake_ended", outcome=outcome, restart_in_seconds=delay, fix="its last log lines say why")
            self._stopping.wait(delay)
            delay = min(2 * delay, self._longest_delay)

    def _run_once(self) -> str:
        shim = [sys.executable, "-I", "-S", str(DIE_WITH_PARENT), str(os.getpid())]
        try:
            # Our standard output carries one line, the address; the child's goes where the logs go.
            self.process = subprocess.Popen(
                shim + self._command,
                stdin=subprocess.DEVNULL,
                stdout=2,
                env=self._environment,
                start_new_session=True,  # a Ctrl-C on the terminal reaches us alone: we say when it stops
            )
        except OSError as error:
            return f"cannot be started: {error}"
        log.info("intake_started", pid=self.process.pid)
        if self._stopping.is_set():  # asked to while it was being started
            self.process.terminate()
        code = self.process.wait()
        return f"exit code {code}" if code >= 0 else f"killed by signal {-code}"
