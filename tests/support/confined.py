"""A process that puts layers of confinement in force and then tries one thing: `confined.py LAYERS ATTEMPT [ARGUMENT]`.

Layers are joined by commas, empty for none. It says what is in force, then `did it` or why not, a line of JSON each.
"""

import ctypes
import json
import mmap
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from worker.guarded.confinement import restrict
from worker.guarded.limits import deadline

MEMORY = 1 << 30
PTRACE_ATTACH = 16


def connect(port: str) -> None:
    with socket.create_connection(("127.0.0.1", int(port)), timeout=10):
        pass


def send_datagram(port: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", ("127.0.0.1", int(port)))


def open_socket(_: str) -> None:
    socket.socket(socket.AF_UNIX, socket.SOCK_STREAM).close()


def write(path: str) -> None:
    Path(path).write_bytes(b"mine")


def change(path: str) -> None:
    with Path(path).open("r+b") as file:
        file.write(b"mine")


def read(path: str) -> None:
    Path(path).read_bytes()


def fork(_: str) -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def execute(_: str) -> None:
    os.execv("/bin/true", ["/bin/true"])  # noqa: S606


def trace(pid: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(ctypes.c_long(PTRACE_ATTACH), ctypes.c_long(int(pid)), None, None) < 0:
        raise OSError(ctypes.get_errno(), "ptrace")


def send_signal(pid: str) -> None:
    os.kill(int(pid), signal.SIGCONT)


def take_memory(_: str) -> None:
    mmap.mmap(-1, 2 * MEMORY).close()


def write_much(_: str) -> None:
    with os.fdopen(os.memfd_create("much"), "wb") as file:
        file.write(bytes(2 << 20))


def open_many(_: str) -> None:
    for _number in range(100):
        os.dup(0)


def spin(seconds: str) -> None:
    with deadline(float(seconds)):
        while True:
            pass


ATTEMPTS: dict[str, Callable[[str], None]] = {
    name: way for name, way in globals().items() if callable(way) and getattr(way, "__module__", "") == "__main__"
}


if __name__ == "__main__":
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    print(json.dumps(restrict(tuple(filter(None, sys.argv[1].split(","))), MEMORY)), flush=True)
    try:
        ATTEMPTS[sys.argv[2]]("".join(sys.argv[3:]))
    except (OSError, MemoryError) as error:
        print(json.dumps(f"{type(error).__name__}"))
    else:
        print(json.dumps("did it"))
