"""What a guarded child can still do, found out by trying: `firstread check` asks a real one."""

import os
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path

ATTEMPTS = ("read a file", "write a file", "open a socket", "start a process", "signal its parent")


def attempt_all() -> list[str]:
    """Try each of `ATTEMPTS` and return those that succeeded; what they make is taken away again."""
    ways: dict[str, Callable[[], None]] = {
        "read a file": _read,
        "write a file": _write,
        "open a socket": _connect,
        "start a process": _start,
        "signal its parent": _signal,
    }
    return [name for name in ATTEMPTS if _succeeds(ways[name])]


def _succeeds(way: Callable[[], None]) -> bool:
    try:
        way()
    except OSError:
        return False
    return True


def _read() -> None:
    Path("/etc/passwd").read_bytes()


def _write() -> None:
    path = Path(tempfile.gettempdir()) / f"firstread-probe-{os.getpid()}"
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    path.unlink()


def _connect() -> None:
    """Reach a port of this machine: one that nobody listens at refuses, and that is an answer."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        with socket.create_connection(listener.getsockname(), timeout=5):
            return


def _start() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def _signal() -> None:
    os.kill(os.getppid(), 0)  # tells whether it could; sends nothing
