"""Several processes that serve the DICOM ports: started, started again when they die, stopped with us.

Each has the listening sockets; a connection goes to whichever takes it first. What one leaves behind when it dies, half
an object, is swept when it has ended and no earlier: the others go on. Nothing that fails for one may end the thread
that looks after them, as all would end with it.
"""

import itertools
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from prometheus_client import multiprocess

from dicom_listener.acceptor import Inheritance
from dicom_listener.common_places import CommonPlaces, Window, channel
from dicom_listener.places import Places
from dicom_listener.server import LAST_SECONDS, UNASSOCIATED
from worker.errors import StartError
from worker.intake.spool import Spool
from worker.logs import get_logger
from worker.supervision.processes import finish
from worker.supervision.service import Restart, Service, ServiceState

log = get_logger(__name__)

ACCEPTOR = (sys.executable, "-m", "dicom_listener.acceptor")
START_SECONDS = 30.0
"""How long none of them may accept, at the start or later, before we give up; connections wait meanwhile."""
RESTART = Restart(first=0.2, longest=5.0)
"""Well within `START_SECONDS`: each is started several times before we give up."""
TICK_SECONDS = 0.1
POLL_SECONDS = 0.02
CLEAR_AGAIN_SECONDS = 10.0
"""How long what one left lies when it could not be cleared away, until that is tried again."""


def processes(wanted: int) -> int:
    """Return how many processes are to serve the ports: as many as wanted; 0: one for two cores, 1 to 4."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return wanted or min(max(cores // 2, 1), 4)


class Acceptors:
    """Keeps several acceptors running, from a thread of its own (the kernel kills them when that thread ends).

    Parameters
    ----------
    count
        How many.
    sockets
        What they serve: `dicom_listener.sockets.bind`.
    spool
        Where they write; for what those that died have left.
    max_associations
        Associations served at once, by all of them together.
    environment
        The whole environment of each.
    metrics_dir
        Where their metrics lie, if they share any.
    restart
        How soon one that died is started again; `RESTART` unless given.
    """

    def __init__(
        self,
        count: int,
        sockets: Sequence[socket.socket],
        spool: Spool,
        *,
        max_associations: int,
        environment: Mapping[str, str] | None = None,
        metrics_dir: Path | None = None,
        restart: Restart | None = None,
    ) -> None:
        self._sockets = list(sockets)
        self._addresses: list[tuple[str, int]] = [one.getsockname()[:2] for one in sockets]
        self._places = CommonPlaces(Places(max_associations, max_associations + UNASSOCIATED))
        self._runs = itertools.count()
        given = os.environ if environment is None else environment
        self._acceptors = [
            _Acceptor(number, self._begin, spool, metrics_dir, given, restart or RESTART)
            for number in range(1, count + 1)
        ]
        self._stop_at = 0.0
        self._stopping = threading.Event()
        self._reload = threading.Event()
        self._idle_since: float | None = None
        """Since when none has accepted; None while one does."""
        self._given_up = threading.Event()
        self._thread = threading.Thread(target=self._look_after, name="acceptors", daemon=True)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that are bound; the port that speaks TLS, where one does."""
        return self._addresses[0][0], self._addresses[0][1]

    @property
    def plain_port(self) -> int | None:
        """The second port, without TLS, where there is one."""
        return self._addresses[1][1] if len(self._addresses) > 1 else None

    def start(self) -> None:
        """Start them, and return when each accepts, has failed to, or has had the time to.

        Raises
        ------
        StartError
            None accepts; all have been stopped.
        """
        self._thread.start()
        deadline = time.monotonic() + START_SECONDS
        while not all(one.accepts() or one.trouble() for one in self._acceptors) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        if not self._anybody_accepts():
            self.drain(0.0)
            troubles = [trouble for one in self._acceptors if (trouble := one.trouble())]
            raise StartError(
                "no process that serves the DICOM ports got ready "
                f"({'; '.join(troubles) or f'none did in {START_SECONDS:g} s'}): "
                "correct what they say there, and start the listener again"
            )

    def alive(self) -> bool:
        """Whether somebody looks after them, and not in vain; once it is not so, it stays so."""
        return self._thread.is_alive() and not self._given_up.is_set()

    def reload(self) -> None:
        """Have each read its certificates again."""
        self._reload.set()

    def drain(self, seconds: float) -> None:
        """Refuse what is new, have each let running transfers finish; kill what has not ended in time."""
        for one in self._sockets:
            one.shutdown(socket.SHUT_RDWR)
            one.close()
        self._stop_at = time.monotonic() + seconds + LAST_SECONDS + 1
        self._stopping.set()
        self._thread.join()

    def _begin(self) -> tuple[Inheritance, socket.socket, Window]:
        """Make what the next acceptor has from us: to be passed on, closed here then, and where it asks for places."""
        ours, theirs = channel()
        listening = tuple(one.fileno() for one in self._sockets)
        try:
            window = self._places.open(ours)
        except OSError:
            theirs.close()
            raise
        return Inheritance(next(self._runs), listening, theirs.fileno()), theirs, window

    def _look_after(self) -> None:
        while not self._stopping.wait(TICK_SECONDS):
            reload = self._reload.is_set()
            self._reload.clear()
            for acceptor in self._acceptors:
                if reload:
                    acceptor.send(signal.SIGHUP)
                acceptor.look_after()
            self._judge(time.monotonic())
        for acceptor in self._acceptors:
            acceptor.send(signal.SIGTERM)
        for acceptor in self._acceptors:
            acceptor.finish(self._stop_at)

    def _anybody_accepts(self) -> bool:
        return any(acceptor.accepts() for acceptor in self._acceptors)

    def _judge(self, now: float) -> None:
        """Give up when none has accepted for too long: senders would wait in the backlog for ever."""
        if self._anybody_accepts():
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = now
        elif now - self._idle_since > START_SECONDS and not self._given_up.is_set():
            self._given_up.set()
            log.error(
                "nobody_accepts",
                seconds=START_SECONDS,
                fix="correct what the processes that serve the DICOM ports say above, and start the listener again",
            )


class _Acceptor:
    """One of them, again and again; only the thread that starts it may use this, but for `accepts` and `trouble`."""

    def __init__(
        self,
        number: int,
        begin: Callable[[], tuple[Inheritance, socket.socket, Window]],
        spool: Spool,
        metrics_dir: Path | None,
        environment: Mapping[str, str],
        restart: Restart,
    ) -> None:
        self._begin, self._spool, self._metrics_dir = begin, spool, metrics_dir
        self._inherited: Inheritance | None = None
        self._theirs: socket.socket | None = None
        self._window: Window | None = None
        self._remains: list[tuple[int, str]] = []
        """Of those that have ended: process id, and what tells their partial files from others."""
        self._clear_at = 0.0
        service = Service(f"acceptor {number}", ACCEPTOR)
        self._state = ServiceState(service, environment, None, restart, descriptors=self._descriptors)

    def look_after(self) -> None:
        """Start it where that is due; where it has ended, clear away what it left."""
        process = self._state.process
        if self._state.look_after(self._prepare) and process is not None:
            self._leave_behind(process.pid)
        if self._theirs is not None:
            self._theirs.close()
            self._theirs = None
        if time.monotonic() >= self._clear_at:
            self._clear_away()

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it runs."""
        if self._state.process is not None:
            self._state.process.send_signal(number)

    def finish(self, deadline: float) -> None:
        """Wait until it has ended; kill it when it has not by then."""
        process = self._state.process
        if process is not None:
            finish(process, self._state.service.name, max(deadline - time.monotonic(), 0.0))
            self._leave_behind(process.pid)
        self._clear_away()

    def accepts(self) -> bool:
        """Say whether it accepts connections now."""
        return self._window is not None and self._window.accepts

    def trouble(self) -> str:
        """Say how it last ended, if it did."""
        return self._state.trouble()

    def _prepare(self, _name: str) -> dict[str, str]:
        self._inherited, self._theirs, self._window = self._begin()
        return self._inherited.to_environment()

    def _descriptors(self) -> tuple[int, ...]:
        return (*self._inherited.sockets, self._inherited.places) if self._inherited else ()

    def _leave_behind(self, pid: int) -> None:
        if self._inherited is not None:
            self._remains.append((pid, self._inherited.writer))
            self._clear_at = 0.0

    def _clear_away(self) -> None:
        """Clear away what those that have ended left; what cannot be is kept in mind."""
        self._remains = [one for one in self._remains if not self._cleared(*one)]

    def _cleared(self, pid: int, writer: str) -> bool:
        try:
            if self._metrics_dir is not None:
                multiprocess.mark_process_dead(pid, str(self._metrics_dir))  # type: ignore[no-untyped-call]
            swept = self._spool.sweep_partials(writer)
        except OSError as error:
            self._clear_at = time.monotonic() + CLEAR_AGAIN_SECONDS
            log.warning(
                "remains_not_cleared",
                name=self._state.service.name,
                error=str(error),
                retry_in_seconds=CLEAR_AGAIN_SECONDS,
                fix="check the disk and the mount of FIRSTREAD_DATA_DIR, and that it is writable for us",
            )
            return False
        if swept:
            log.warning("partial_files_swept", count=swept, fix="none: their senders had no answer and send again")
        return True
