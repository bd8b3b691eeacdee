"""The parent's side of the guarded child: start it, hand it an object, take the answer, end it.

Nothing the child says is believed beyond what it may say: its answers are checked, and the memory it shares with us is
sealed against shrinking, so that not even a child taken over by what it decodes can end us.
"""

import fcntl
import json
import math
import mmap
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.errors import DecoderLost

PIXEL_BYTES = np.dtype(np.float32).itemsize
PACKET_BYTES = 1 << 16
_START_SECONDS = 60.0
"""How long a child may take to import what it needs: a loaded machine is slow, a dead child is seen at once."""
_END_SECONDS = 10.0
_STDERR_BYTES = 2000
_PASSED_ON = frozenset(
    {"PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "LD_LIBRARY_PATH"}
)
"""The child decodes what strangers sent: it gets no tokens and no database URL."""


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
    seconds
        Time a job may take.
    memory_bytes
        Its address space.
    max_pixels
        Largest frame, rows x columns x samples.

    Attributes
    ----------
    owner
        Process id of who started it.
    served
        Jobs it has answered.

    Raises
    ------
    DecoderLost
        It cannot be started.
    """

    def __init__(self, *, seconds: float, memory_bytes: int, max_pixels: int) -> None:
        self.owner = os.getpid()
        self.served = 0
        self._seconds = seconds
        self._ready = False
        self._capacity = max_pixels * PIXEL_BYTES
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._memory = self._stderr = -1
        try:
            with theirs:
                # Sparse: costs nothing until written. Without a name: nothing is left behind, whoever dies.
                self._memory = os.memfd_create("firstread-pixels", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
                os.ftruncate(self._memory, self._capacity)
                fcntl.fcntl(self._memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
                self._stderr = os.memfd_create("firstread-decoder-stderr", os.MFD_CLOEXEC)
                arguments = {
                    "socket": theirs.fileno(),
                    "memory": self._memory,
                    "parent": self.owner,
                    "seconds": seconds,
                    "memory-bytes": memory_bytes,
                    "max-pixels": max_pixels,
                }
                command = [sys.executable, "-P", "-m", "worker.inference.decoder"]
                command += [f"--{name}={argument}" for name, argument in arguments.items()]
                if threading.current_thread() is threading.main_thread():
                    command.append("--die-with-thread")
                self._process = subprocess.Popen(
                    command,
                    pass_fds=(theirs.fileno(), self._memory),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=self._stderr,
                    env={key: text for key, text in os.environ.items() if key in _PASSED_ON}
                    | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
                )
        except OSError as error:
            self._close()
            raise DecoderLost(f"the decoding process cannot be started: {error}") from error

    def ask(self, file: int, frame_policy: str, window: tuple[float, float] | None) -> dict[str, Any]:
        """Hand over an object and wait for the answer.

        Parameters
        ----------
        file
            Descriptor of the DICOM file, open for reading.
        frame_policy
            `first`, `middle` or `refuse`.
        window
            Centre and width over Hounsfield units, or None.

        Returns
        -------
        dict
            As `worker.inference.decoder` describes.

        Raises
        ------
        ChildEndedError
            It ended before it answered.
        TimeoutError
            It did not answer in time.
        DecoderLost
            It was just started and did not become ready.
        ValueError, TypeError
            It answered nonsense.
        """
        self._wait_until_ready()
        job = self.served + 1
        request = json.dumps({"job": job, "frame_policy": frame_policy, "window": window}).encode()
        try:
            socket.send_fds(self._channel, [request], [file])
        except (BrokenPipeError, ConnectionResetError):
            raise ChildEndedError(self._status(), at_work=False) from None
        answer = self._receive(self._seconds)
        if answer.get("job") != job:
            raise ValueError(f"job {answer.get('job')} instead of {job}")
        self.served = job
        return answer

    def image(self, rows: int, columns: int) -> NDArray[np.float32]:
        """Copy the image out of the shared memory, float32 (rows, columns)."""
        size = rows * columns * PIXEL_BYTES
        if rows < 1 or columns < 1 or size > self._capacity:
            raise ValueError(f"an image of {rows} x {columns} pixels")
        with mmap.mmap(self._memory, size, prot=mmap.PROT_READ) as shared:
            shared_image = np.frombuffer(shared, np.float32).reshape(rows, columns)
            image = shared_image.copy()
            del shared_image  # it would keep the mapping open
        return image

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
        for descriptor in (self._memory, self._stderr):
            if descriptor >= 0:
                os.close(descriptor)
        self._memory = self._stderr = -1

    def _wait_until_ready(self) -> None:
        if self._ready:
            return
        try:
            self._receive(_START_SECONDS)
        except ChildEndedError as ended:
            said = self.last_words().splitlines()
            raise DecoderLost(
                f"the decoding process did not start ({ended}): {said[-1] if said else 'it said nothing'}"
            ) from ended
        except TimeoutError as error:
            raise DecoderLost(f"the decoding process was not ready after {_START_SECONDS:g} seconds") from error
        self._ready = True

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
        answer = json.loads(packet)
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
