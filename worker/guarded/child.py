"""The parent's side of a guarded child: start it, hand it an object, take the answer, end it.

Nothing the child says is believed beyond what it may say: its answers are checked by whoever asked.
"""

import json
import math
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from worker.errors import ChildLost
from worker.guarded.confinement import WHY
from worker.guarded.serving import PACKET_BYTES

_START_SECONDS = 60.0
"""How long a child may take to import what it needs: a loaded machine is slow, a dead child is seen at once."""
_END_SECONDS = 10.0
_STDERR_BYTES = 2000
_LAYER_CHARACTERS = 200
_PASSED_ON = frozenset(
    {"PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "LD_LIBRARY_PATH"}
)
"""The child reads what strangers sent: it gets no tokens and no database URL."""
KEPT_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(128 << 20)}
"""Environment in which the memory of one object is kept for the next (mallopt(3)): to get fresh memory from the system
takes as long as to decode a small image. What is larger than the first is given back all the same."""
_SET = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", **KEPT_MEMORY}


class ChildEndedError(Exception):
    """The child ended.

    Attributes
    ----------
    status
        As `subprocess` gives it: negative, the signal that ended it.
    at_work
        Whether it had the object; else it was gone before.
    """

    def __init__(self, status: int, *, at_work: bool) -> None:
        super().__init__(status)
        self.status = status
        self.at_work = at_work

    @property
    def signal(self) -> signal.Signals | None:
        """The signal that ended it, None where it exited."""
        return signal.Signals(-self.status) if self.status < 0 else None

    def __str__(self) -> str:
        return self.signal.name if self.signal else f"exit status {self.status}"


class GuardedChild:
    """A running child.

    Parameters
    ----------
    module
        The program, run as `python -m module`; it serves as `worker.guarded.serving` describes.
    seconds
        Time a job may take.
    memory_bytes
        Its address space.
    options
        What else it is told, `--name=value`.
    descriptors
        Open files that it gets under the same numbers.

    Attributes
    ----------
    owner
        Process id of who started it.
    served
        Jobs it has answered.
    layers
        What it said is in force, once it is ready: layer → (whether, what or why not).

    Raises
    ------
    ChildLost
        It cannot be started.
    """

    def __init__(
        self,
        module: str,
        *,
        seconds: float,
        memory_bytes: int,
        options: Mapping[str, object] | None = None,
        descriptors: Sequence[int] = (),
    ) -> None:
        self.owner = os.getpid()
        self.served = 0
        self.layers: dict[str, tuple[bool, str]] = {}
        self._seconds = seconds
        self._ready = False
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # Without a name: nothing is left behind, whoever dies.
        self._stderr = -1
        try:
            with theirs:
                self._stderr = os.memfd_create("firstread-child-stderr", os.MFD_CLOEXEC)
                arguments = {
                    "socket": theirs.fileno(),
                    "parent": self.owner,
                    "seconds": seconds,
                    "memory-bytes": memory_bytes,
                    **(options or {}),
                }
                command = [sys.executable, "-P", "-m", module]
                command += [f"--{name}={argument}" for name, argument in arguments.items()]
                if threading.current_thread() is threading.main_thread():
                    command.append("--die-with-thread")
                self._process = subprocess.Popen(
                    command,
                    pass_fds=(theirs.fileno(), *descriptors),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=self._stderr,
                    env={key: text for key, text in os.environ.items() if key in _PASSED_ON} | _SET,
                )
        except OSError as error:
            self._close()
            raise ChildLost(f"the process that reads objects cannot be started: {error}") from error

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def ask(
        self, request: Mapping[str, object], file: int | None = None, meanwhile: Callable[[], object] = lambda: None
    ) -> dict[str, Any]:
        """Hand over an object and wait for the answer.

        Parameters
        ----------
        request
            What is asked; the number of the job is added.
        file
            Descriptor of the file, open for reading; the child shares its position.
        meanwhile
            Done by us while the child works.

        Returns
        -------
        dict
            As the program describes; nothing in it is checked but the number of the job.

        Raises
        ------
        ChildEndedError
            It ended before it answered.
        TimeoutError
            It did not answer in time.
        ChildLost
            It was just started and did not become ready.
        ValueError, TypeError
            It answered nonsense.
        """
        self.wait_until_ready()
        job = self.served + 1
        message = json.dumps({"job": job, **request}).encode()
        try:
            socket.send_fds(self._channel, [message], [] if file is None else [file])
        except (BrokenPipeError, ConnectionResetError):
            raise ChildEndedError(self._status(), at_work=False) from None
        meanwhile()
        answer = self._receive(self._seconds)
        if answer.get("job") != job:
            raise ValueError("the answer to another job")
        self.served = job
        return answer

    def wait_until_ready(self) -> None:
        """Wait until it has imported what it needs and given up what it does not.

        Raises
        ------
        ChildLost
            It did not become ready.
        """
        if self._ready:
            return
        try:
            said = self._receive(_START_SECONDS)
        except ChildEndedError as ended:
            words = self.last_words().splitlines()
            raise ChildLost(
                f"the process that reads objects did not start ({ended}): {words[-1] if words else 'it said nothing'}"
            ) from ended
        except TimeoutError as error:
            raise ChildLost(f"the process that reads objects was not ready after {_START_SECONDS:g} seconds") from error
        layers = said.get("layers", {})
        self.layers = {
            name: (bool(layers[name][0]), str(layers[name][1])[:_LAYER_CHARACTERS]) for name in WHY if name in layers
        }
        self._ready = True

    def last_words(self) -> str:
        """Return the end of what the child wrote to standard error."""
        size = os.fstat(self._stderr).st_size
        return os.pread(self._stderr, _STDERR_BYTES, max(0, size - _STDERR_BYTES)).decode(errors="replace").strip()

    def end(self) -> None:
        """End the child: it holds nothing that could be lost."""
        if self.owner == os.getpid():
            self._process.kill()
            self._process.wait()
        else:
            self._process.returncode = 0  # a fork's copy of the handle: the child is another process's to end
        self._close()

    def _close(self) -> None:
        self._channel.close()
        if self._stderr >= 0:
            os.close(self._stderr)
        self._stderr = -1

    def _receive(self, seconds: float) -> dict[str, Any]:
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        deadline = time.monotonic() + seconds
        while not poll.poll(max(0, math.ceil(1000 * (deadline - time.monotonic())))):
            if time.monotonic() >= deadline:
                raise TimeoutError
        try:
            packet = self._channel.recv(PACKET_BYTES)
        except ConnectionResetError:
            packet = b""
        if not packet:
            raise ChildEndedError(self._status(), at_work=True)
        try:
            answer = json.loads(packet)
        except RecursionError as error:
            raise ValueError("nested without end") from error
        if not isinstance(answer, dict):
            raise TypeError("no object")
        return answer

    def _status(self) -> int:
        """Return how the child ended; its socket is closed already, so it is ending."""
        try:
            return self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()
