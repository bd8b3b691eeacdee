"""The physical limit of a durable receiver: bytes off a loopback socket into a file, fsync of the file and of its
directory, one byte back. No DICOM, nothing looked at. `python -m tests.bench.raw_limit DIRECTORY` is its receiver.
"""

import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from worker.files import sync_directory

_LENGTH = struct.Struct(">Q")
BUFFER_BYTES = 1 << 20


def serve(directory: Path) -> None:
    """Receive until standard input ends; each connection in a process of its own, as cores can be used so."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(server.getsockname()[1], flush=True)
        threading.Thread(target=_end_with_input, daemon=True).start()
        while True:
            connection, _ = server.accept()
            _reap()
            if os.fork() == 0:
                server.close()
                _receive(connection, directory)
                os._exit(0)
            connection.close()


def _reap() -> None:
    """Collect children that have ended, so that their CPU time is counted."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


def _end_with_input() -> None:
    sys.stdin.read()
    os._exit(0)


def _receive(connection: socket.socket, directory: Path) -> None:
    buffer = memoryview(bytearray(BUFFER_BYTES))
    head = memoryview(bytearray(_LENGTH.size))
    number = 0
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while connection.recv_into(head, len(head), socket.MSG_WAITALL):
        (left,) = _LENGTH.unpack(head)
        number += 1
        descriptor = os.open(directory / f"{os.getpid()}-{number}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        while left:
            received = connection.recv_into(buffer, min(left, BUFFER_BYTES))
            os.write(descriptor, buffer[:received])
            left -= received
        os.fsync(descriptor)
        os.close(descriptor)
        sync_directory(directory)
        connection.sendall(b"\1")


def push(port: int, files: Sequence[Path], count: int, associations: int) -> float:
    """Send `count` files over each of several connections at once; return the seconds it took."""
    ready = threading.Barrier(associations + 1, timeout=30)
    with ThreadPoolExecutor(associations) as senders:
        sending = [senders.submit(_send, port, files, count, ready) for _ in range(associations)]
        ready.wait()
        began = time.perf_counter()
        for one in sending:
            one.result()
        return time.perf_counter() - began


def _send(port: int, files: Sequence[Path], count: int, ready: threading.Barrier) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened = [path.open("rb") for path in files]
        sizes = [path.stat().st_size for path in files]
        ready.wait()
        try:
            for number in range(count):
                file, size = opened[number % len(files)], sizes[number % len(files)]
                connection.sendall(_LENGTH.pack(size))
                sent = 0
                while sent < size:
                    sent += os.sendfile(connection.fileno(), file.fileno(), sent, size - sent)
                if connection.recv(1) != b"\1":
                    raise ConnectionError("the receiver has gone")
        finally:
            for file in opened:
                file.close()


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
