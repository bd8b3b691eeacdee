"""The intake process beside the listener: started, started again when it dies, stopped with us.

The listener accepts whether intake runs or not; what is in the spool is registered when it does.
"""

import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence

from worker.supervision.processes import finish
from worker.supervision.service import Restart, Service, ServiceState

INTAKE = (sys.executable, "-m", "worker.cli", "intake")
STOP_SECONDS = 15.0
TICK_SECONDS = 0.1


class IntakeProcess:
    """Keeps one child running, from a thread of its own (the kernel kills the child when that thread ends).

    Our standard output carries one line, the address; what the child writes goes where our logs go, standard error.

    Parameters
    ----------
    command
        Program and arguments.
    environment
        The whole environment of the child.
    restart
        How soon a child that died is started again.
    stop_seconds
        How long it may take to stop when asked to, before it is killed.
    """

    def __init__(
        self,
        command: Sequence[str] = INTAKE,
        environment: Mapping[str, str] | None = None,
        *,
        restart: Restart | None = None,
        stop_seconds: float = STOP_SECONDS,
    ) -> None:
        service = Service("intake", tuple(command), stop_seconds)
        given = os.environ if environment is None else environment
        self._state = ServiceState(service, given, None, restart or Restart(longest=60.0))
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._look_after, name="intake", daemon=True)

    @property
    def process(self) -> subprocess.Popen[bytes] | None:
        """The child that runs now."""
        return self._state.process

    def start(self) -> None:
        """Start the child and look after it."""
        self._thread.start()

    def ask_to_stop(self) -> None:
        """Have the child asked to stop (SIGTERM), and killed if it does not; it is not started again."""
        self._stopping.set()

    def wait(self) -> None:
        """Wait until the child that was asked to stop has ended."""
        self._thread.join()

    def _look_after(self) -> None:
        while not self._stopping.is_set():
            self._state.look_after(lambda _name: {})
            self._stopping.wait(TICK_SECONDS)
        if self._state.process is not None:
            finish(self._state.process, self._state.service.name, self._state.service.drain_seconds)
