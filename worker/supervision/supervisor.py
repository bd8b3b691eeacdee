"""Every service on this machine, supervised: started, restarted when one dies, drained in order.

One thread starts all children and looks after them; the kernel kills them should it vanish (see `processes`).
"""

import fcntl
import os
import shutil
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self, TextIO

from prometheus_client import multiprocess

from worker.config import Peer, Settings
from worker.errors import StartError
from worker.files import make_private
from worker.logs import get_logger
from worker.supervision.addresses import Addresses, SaidAddresses, port_is_free
from worker.supervision.embedded_redis import EmbeddedRedis
from worker.supervision.plan import default_services
from worker.supervision.processes import exists, finish
from worker.supervision.service import Restart, Service, ServiceState

log = get_logger(__name__)

TICK_SECONDS = 0.1


class Supervisor:
    """All services of one data directory.

    Parameters
    ----------
    settings
        The effective settings; the children get theirs from `environment`, and from here the data directory and the
        address of the embedded Redis, which is started where `broker_url` is empty.
    services
        What to run, in the order in which it is drained; Redis is drained after them.
    environment
        Environment of the children; default: ours.
    restart
        How soon what dies is started again.
    echo
        Where the lines of all logs are written too.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        services: Sequence[Service] | None = None,
        environment: Mapping[str, str] | None = None,
        restart: Restart | None = None,
        echo: TextIO | None = None,
    ) -> None:
        self._settings = settings
        self._services = default_services() if services is None else tuple(services)
        self._base_environment = dict(os.environ if environment is None else environment)
        self._restart = restart or Restart()
        self._echo = echo
        self.data_dir = settings.data_dir
        self.logs_dir = self.data_dir / "logs"
        self._run_dir = self.data_dir / "run"
        self._said = SaidAddresses(self._run_dir)
        self._metrics_dir = self._run_dir / "metrics"
        self._states: list[ServiceState] = []
        self._lock: int | None = None
        self._redis: EmbeddedRedis | None = None
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._hurry = threading.Event()
        self._reload = threading.Event()
        self.failure: Exception | None = None
        """Why the supervising thread gave up, if it did (it drains all the same)."""

    def start(self) -> None:
        """Take the data directory, check the ports, start everything; return at once.

        Raises
        ------
        StartError
            Another supervisor has this data directory, a port is taken, or there is no redis-server.
        """
        make_private(self.data_dir)
        make_private(self._run_dir)
        make_private(self.logs_dir)
        self._lock = _take(self._run_dir / "supervisor.lock")
        try:
            _require_free_port("FIRSTREAD_DICOM_PORT", self._settings.dicom_host, self._settings.dicom_port)
            _require_free_port(
                "FIRSTREAD_DICOM_PLAIN_PORT", self._settings.dicom_host, self._settings.dicom_plain_port or 0
            )
            _require_free_port("FIRSTREAD_WEB_PORT", self._settings.web_host, self._settings.web_port)
            if self._settings.metrics_port:
                log.warning(
                    "metrics_port_not_used",
                    port=self._settings.metrics_port,
                    fix="none needed: /metrics of the worklist shows every service that runs here",
                )
            shutil.rmtree(self._metrics_dir, ignore_errors=True)
            make_private(self._metrics_dir)
            self._said.forget()
            if not self._settings.broker_url:
                self._redis = EmbeddedRedis(self.data_dir / "redis")
            self._states = self._plan()
        except BaseException:
            self._release()
            raise
        self._thread = threading.Thread(target=self._supervise, name="supervisor")
        self._thread.start()

    def wait_ready(self, timeout: float = 60.0) -> Addresses:
        """Wait until the listener and the worklist have said where they are and the worklist answers `/readyz`.

        Parameters
        ----------
        timeout
            Seconds to wait.

        Raises
        ------
        StartError
            Not ready in time, or stopped meanwhile; says what is missing and which log to read.
        """
        deadline = time.monotonic() + timeout
        while True:
            found = self._said.readiness()
            if isinstance(found, Addresses):
                return found
            self._wait_a_little(deadline, found, timeout)

    def wait_listener(self, timeout: float = 60.0) -> Peer:
        """Wait until the listener has said where it is: from then on scans are accepted, whatever else is not ready.

        Raises
        ------
        StartError
            As `wait_ready`.
        """
        deadline = time.monotonic() + timeout
        while (listener := self._said.listener()) is None:
            self._wait_a_little(deadline, "the listener has not said its address", timeout)
        return listener

    def hurry(self) -> None:
        """Kill what a drain, under way or to come, would wait for."""
        self._hurry.set()

    def reload(self) -> None:
        """Have the listener read its certificates again (SIGHUP)."""
        self._reload.set()

    def stop(self) -> None:
        """Drain: each service in its order is asked to stop and waited for, Redis last."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def alive(self) -> bool:
        """Say whether the supervising thread runs."""
        return self._thread is not None and self._thread.is_alive()

    def troubles(self) -> list[str]:
        """Say of each service that has ended by itself how it last did, and where to read why."""
        return [state.trouble() for state in self._states if state.trouble()]

    def pids(self) -> dict[str, int]:
        """Return the process ids of what runs now, by service."""
        return {state.service.name: state.process.pid for state in self._states if state.process is not None}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _wait_a_little(self, deadline: float, missing: str, timeout: float) -> None:
        if self._stopping.wait(TICK_SECONDS):
            raise StartError("stopped before the services were ready") from self.failure
        if time.monotonic() > deadline:
            raise StartError("; ".join([f"not ready after {timeout:g} s: {missing}", *self.troubles()]))

    def _plan(self) -> list[ServiceState]:
        environment = {
            **self._base_environment,
            "FIRSTREAD_DATA_DIR": str(self.data_dir),
            "PROMETHEUS_MULTIPROC_DIR": str(self._metrics_dir),
            "FIRSTREAD_METRICS_PORT": "0",  # one port cannot be everybody's; the worklist shows what all share
            "PYTHONUNBUFFERED": "1",
        }
        environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        if self._redis is not None:
            environment["FIRSTREAD_BROKER_URL"] = self._redis.url
        services = self._services
        if self._redis is not None:
            services = (*services, Service("redis", self._redis.command, 10))
        return [
            ServiceState(service, environment, self.logs_dir / f"{service.name}.log", self._restart, self._echo)
            for service in services
        ]

    def _supervise(self) -> None:
        try:
            self._start_redis_first()
            while not self._stopping.is_set():
                for state in self._states:
                    if state.look_after(self._said.known_port):
                        self._forget_metrics_of_the_dead()
                self._pass_reload_on()
                self._stopping.wait(TICK_SECONDS)
        except Exception as error:
            self.failure = error
            with suppress(OSError):  # the log may be what failed: whoever read our standard error is gone
                log.exception("supervisor_failed")
        finally:
            self._stopping.set()
            self._drain()
            self._release()

    def _pass_reload_on(self) -> None:
        """Send SIGHUP to a listener that is up: one that is still starting reads its certificates anyway."""
        if not self._reload.is_set():
            return
        self._reload.clear()
        for state in self._states:
            if state.service.name == "listener" and state.process is not None and self._said.listener() is not None:
                state.process.send_signal(signal.SIGHUP)

    def _start_redis_first(self) -> None:
        """Start the broker and let it answer: the others would only wait for it in their own, slower way."""
        if self._redis is None:
            return
        redis = self._states[-1]
        redis.look_after(self._said.known_port)
        deadline = time.monotonic() + 5
        while not self._redis.answers() and time.monotonic() < deadline and not self._stopping.is_set():
            time.sleep(0.01)

    def _drain(self) -> None:
        for state in self._states:
            if state.process is None:
                continue
            with suppress(OSError):  # a log that nobody can read any more must not keep the next one running
                finish(state.process, state.service.name, state.service.drain_seconds, hurry=self._hurry.is_set)
                log.info("service_drained", name=state.service.name)
                state.echo_new_lines()
            state.process = None
        self._forget_metrics_of_the_dead()

    def _release(self) -> None:
        if self._redis is not None:
            self._redis.stop()
            self._redis = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _forget_metrics_of_the_dead(self) -> None:
        """Gauges of processes that are gone must not be shown; those of a child's own children are found by file."""
        for path in self._metrics_dir.glob("gauge_live*_*.db"):
            pid = int(path.stem.rpartition("_")[2])
            if not exists(pid):
                multiprocess.mark_process_dead(pid, str(self._metrics_dir))  # type: ignore[no-untyped-call]


def _require_free_port(name: str, host: str, port: int) -> None:
    if port and not port_is_free(host, port):
        raise StartError(
            f"{name}={port}: cannot listen on {host}:{port}, something else does or it is not an address of this "
            f"machine; stop that, or set {name} to another port (0: a free one)"
        )


def _take(path: Path) -> int:
    """Lock the data directory; the kernel gives it back when we end, however we end."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 32).decode().strip() or "unknown"
        os.close(descriptor)
        raise StartError(
            f"firstread already runs on {path.parent.parent} (process {holder}): stop it first, or set "
            "FIRSTREAD_DATA_DIR to another directory"
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor
