"""Storage SCPs side by side: ours and its peers, each a process of its own that is started once and keeps running."""

import os
import shutil
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from tests.bench import raw_limit
from tests.bench.senders import Storescu
from tests.support.listener_process import ListenerProcess
from tests.support.stack import answers

OURS = "firstread"
LIMIT = "raw limit"
PATIENCE_SECONDS = 60.0


class Receiver(ABC):
    """A server that objects are pushed into.

    Attributes
    ----------
    durable
        Whether what it answers success for is on the disk by then.
    grows
        Whether all it takes is taken by the processes there are before an association: then their memory is watched.
    ae_title
        Its own.
    """

    name: str
    durable: bool
    grows = True
    ae_title = "ANY"
    port: int

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        self.start()
        try:
            self._wait_listening()
        except BaseException:
            self.stop()
            raise
        return self

    def _wait_listening(self) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not answers(self.port):
            if time.monotonic() > deadline:
                raise AssertionError(f"{self.name} does not listen after {PATIENCE_SECONDS:g} s")
            time.sleep(0.05)

    def __exit__(self, *_: object) -> None:
        self.stop()

    @classmethod
    def missing(cls) -> str:
        """Say what is not installed; empty where nothing is missing."""
        return ""

    @abstractmethod
    def start(self) -> None:
        """Start; it will listen on `port`."""

    @abstractmethod
    def stop(self) -> None:
        """End."""

    @property
    @abstractmethod
    def pid(self) -> int:
        """The root of its processes."""

    @abstractmethod
    def held(self) -> int:
        """Count what it has kept since it was last cleared."""

    @abstractmethod
    def clear(self) -> None:
        """Remove what it has received, so that neither the disk nor its index fills up."""

    def push(self, sender: Storescu, files: Sequence[Path], count: int, associations: int) -> float:
        """Push objects into it; return the seconds it took."""
        return sender.push(self.port, self.ae_title, files, count, associations)


def empty(folder: Path) -> None:
    """Remove what lies in a folder."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def files_below(folder: Path) -> int:
    """Count the files in a folder and below."""
    return sum(1 for path in folder.rglob("*") if path.is_file())


class Ours(Receiver):
    """The listener as it ships: a process of its own, its log in a file, both fsyncs on."""

    name, durable = OURS, True
    ae_title = "FIRSTREAD"

    def start(self) -> None:
        self._listener = ListenerProcess(self.folder / "data").start()
        self.port = self._listener.port

    def stop(self) -> None:
        self._listener.stop()

    @property
    def pid(self) -> int:
        return self._listener.pid

    def held(self) -> int:
        return len(self._listener.arrivals())

    def clear(self) -> None:
        empty(self._listener.spool.incoming_dir)
        os.truncate(self._listener.log, 0)


class RawLimit(Receiver):
    """What the machine can do at best; `tests.bench.raw_limit`."""

    name, durable, grows = LIMIT, True, False

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.bench.raw_limit", str(self.folder)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def stop(self) -> None:
        self._process.communicate(timeout=30)  # which closes its standard input

    @property
    def pid(self) -> int:
        return self._process.pid

    def held(self) -> int:
        return files_below(self.folder)

    def clear(self) -> None:
        empty(self.folder)

    def push(self, sender: Storescu, files: Sequence[Path], count: int, associations: int) -> float:
        return raw_limit.push(self.port, files, count, associations)
