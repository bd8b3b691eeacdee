"""Whole systems, from C-STORE to a committed result: ours, and Orthanc with its Python plugin."""

import json
import os
import signal
import site
import time
from abc import ABC, abstractmethod
from collections.abc import Collection
from pathlib import Path
from typing import Self

from tests.bench.loads import Sendable
from tests.bench.receivers import OURS, empty
from tests.bench.watch import Watch
from tests.conftest import ROOT, RedisServer
from tests.support import peers
from tests.support.stack import Stack

READY_SECONDS = 240.0
DONE_SECONDS = 240.0
SHIPPED = {"sweep_seconds": 2, "lease_seconds": 30}
"""Settings that a test's stack has shorter."""
QUIET_SECONDS = 1.0


class System(ABC):
    """Something that is sent images and commits what a model says of them.

    Attributes
    ----------
    results
        When the result of an instance was committed, by SOP Instance UID, on the clock of `time.perf_counter`.
    reports
        The same of reports that a PACS has acknowledged, by Study Instance UID.
    """

    name: str
    called: str
    port: int
    reports_expected = False

    def __init__(self) -> None:
        self.results: dict[str, float] = {}
        self.reports: dict[str, float] = {}

    @abstractmethod
    def __enter__(self) -> Self: ...

    @abstractmethod
    def __exit__(self, *_: object) -> None: ...

    @abstractmethod
    def look(self) -> None:
        """Bring `results` and `reports` up to date."""

    @abstractmethod
    def clear(self) -> None:
        """Remove the bytes of what is done with, so that the disk does not fill up."""

    def wait(self, sent: Collection[Sendable], *, reported: bool = False) -> None:
        """Wait until each has its result, and its report where that is asked for.

        Raises
        ------
        TimeoutError
            Some have none.
        """
        deadline = time.monotonic() + DONE_SECONDS
        while True:
            self.look()
            wanting = [one for one in sent if one.sop_instance_uid not in self.results]
            if reported and self.reports_expected:
                wanting += [one for one in sent if one.study_instance_uid not in self.reports]
            if not wanting:
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name}: {len(wanting)} of {len(sent)} have no result or report")
            time.sleep(0.002)


class OurSystem(System):
    """Listener, intake, inference and delivery as services, Redis, SQLite, and a PACS for the reports."""

    name, called, reports_expected = OURS, "FIRSTREAD", True

    def __init__(self, folder: Path, model: str, engine: str, workers: int, models_dir: Path) -> None:
        super().__init__()
        self.folder, self.workers = folder, [f"inference-{number}" for number in range(1, workers + 1)]
        self._redis = RedisServer(folder)
        self._pacs = peers.Storescp(folder / "pacs")
        route = [{"name": "what is measured", "when": {"Modality": "CR"}, "model": model}]
        settings = {
            "engine": engine, "study_quiet_seconds": QUIET_SECONDS, "pacs": self._pacs.peer, **SHIPPED,
            "models_dir": models_dir, "route": json.dumps(route),
        }  # fmt: skip
        self._stack = Stack(folder / "data", self._redis.url, **settings)
        self._stack.services = {**Stack.services, "inference": ("worker", "--queues", f"inference.{model}")}  # type: ignore[misc]
        self._watch = Watch(folder / "data" / "firstread.db", self.results, self.reports)
        self.port = self._stack.port

    def __enter__(self) -> Self:
        try:
            self._redis.start()
            self._pacs.start()
            self._stack.start("listener", "intake", "delivery", *self.workers)
            self._watch.open(READY_SECONDS)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.go_on()
        self._watch.close()
        self._stack.__exit__()
        self._pacs.stop()
        self._redis.stop()

    def look(self) -> None:
        self._watch.look()

    def clear(self) -> None:
        empty(self.folder / "pacs")
        for day in (self.folder / "data" / "spool" / "stored").iterdir():
            empty(day)

    def registered(self) -> int:
        """Count what has been received and is known."""
        return self._watch.instances()

    def pause(self) -> None:
        """Let nothing be classified for now."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it be classified again."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        for name in self.workers:
            if process := self._stack.processes.get(name):
                os.killpg(process.pid, number)


class OrthancWithPlugin(System):
    """Orthanc, fsyncing, with `orthanc_plugin` in it.

    Parameters
    ----------
    way
        How the model is asked: `predict`, or `engine:` and its name.
    """

    called = "ORTHANC"

    def __init__(self, name: str, folder: Path, model: str, way: str, plugin: Path, models_dir: Path) -> None:
        super().__init__()
        folder.mkdir()
        self.name = name
        self._seen = folder / "results"
        self._seen.touch()
        self._offset = 0
        configuration = {
            "Plugins": [str(plugin)], "PythonScript": str(Path(__file__).with_name("orthanc_plugin.py")),
            "MaximumPduLength": 131072, "SyncStorageArea": True,
        }  # fmt: skip
        self._server = peers.Orthanc(folder, configuration)
        self._server.environment = {
            **os.environ,
            "TCP_NODELAY": "1",
            "TF_CPP_MIN_LOG_LEVEL": "2",
            "BENCH_PACKAGES": json.dumps(site.getsitepackages()),
            "BENCH_ROOT": str(ROOT),
            "BENCH_MODEL": model,
            "BENCH_MODELS_DIR": str(models_dir),
            "BENCH_WAY": way,
            "BENCH_RESULTS": str(self._seen),
        }
        self.port = self._server.port

    def __enter__(self) -> Self:
        self._server.start(READY_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()

    def clear(self) -> None:
        self._server.clear()

    def look(self) -> None:
        with self._seen.open() as results:
            results.seek(self._offset)
            while (line := results.readline()).endswith("\n"):
                uid, moment = line.split()
                self.results[uid] = float(moment)
                self._offset = results.tell()
