"""The demonstration: everything on this machine, scans through a real association, what comes out, and a verdict."""

import contextlib
import os
import shlex
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TypeVar

import sqlalchemy as sa
from rich.console import Console
from sqlmodel import col, select

from worker import bootstrap, front_door, schema
from worker.config import Peer, Settings
from worker.database import Database, Instance, Study, WorkItem, WorkKind, WorkState
from worker.demo.own_settings import own_environment, own_settings
from worker.demo.phantoms import Phantom, generate
from worker.demo.stand_in_pacs import StandInPacs
from worker.demo.verdict import Document, Verdict, judge, judge_sending
from worker.demo.view import View
from worker.errors import StartError
from worker.files import make_private
from worker.intake.spool import Spool
from worker.logs import configure_logs
from worker.reconcile import reconcile
from worker.reporting.pacs import SendOutcome, send_files
from worker.studies import StudyFilter, list_studies
from worker.supervision.processes import on_stop_signals
from worker.supervision.supervisor import Supervisor

T = TypeVar("T")
CALLING_AE = "FIRSTREAD_DEMO"
LOOK_SECONDS = 0.25


@dataclass(frozen=True)
class Demonstration:
    """What to do.

    Attributes
    ----------
    scans
        Files to push; None: the phantoms.
    stay
        Stay up after the last result, until interrupted.
    seconds
        When to give up, from the start.
    data_dir
        Where everything is kept: a new or empty directory; None: a new one among the temporary files.
    console
        Where to speak.
    """

    scans: list[Path] | None
    stay: bool
    seconds: float
    data_dir: Path | None
    console: Console


def run(plan: Demonstration) -> int:
    """Run the demonstration to its end.

    Returns
    -------
    int
        Exit status: 0, or 1 where something is pending, unaccounted for, undelivered or not what was expected.

    Raises
    ------
    StartError
        The services cannot be started.
    """
    data_dir = _fresh_directory(plan.data_dir)
    make_private(data_dir / "logs")
    with contextlib.ExitStack() as stack:
        stack.enter_context(_own_log(data_dir / "logs" / "demo.log"))
        pacs = stack.enter_context(StandInPacs(data_dir / "pacs"))
        pool = stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="push"))
        settings = own_settings(data_dir, pacs.peer)
        services = bootstrap.planned_services(settings)
        supervisor = stack.enter_context(Supervisor(settings, services=services, environment=own_environment(settings)))
        stack.enter_context(_interruptible(supervisor))
        database = Database(settings.database_url)
        stack.callback(database.dispose)
        stage = _Stage(plan, settings, supervisor, database, pacs)
        stack.callback(stage.stop_pushing)
        return stage.play(pool)


@dataclass
class _Sent:
    """What has been pushed so far; filled by the pushing thread."""

    outcomes: list[SendOutcome] = field(default_factory=list)
    expected: dict[str, frozenset[str]] = field(default_factory=dict)

    def stored(self) -> int:
        return sum(outcome.error is None for outcome in self.outcomes)


class _Stage:
    """One demonstration under way."""

    def __init__(
        self, plan: Demonstration, settings: Settings, supervisor: Supervisor, database: Database, pacs: StandInPacs
    ) -> None:
        self._plan = plan
        self._settings = settings
        self._supervisor = supervisor
        self._database = database
        self._pacs = pacs
        self._sent = _Sent()
        self._stop_pushing = threading.Event()
        self._begun = time.monotonic()
        self._deadline = self._begun + plan.seconds
        self._spool = Spool(settings.spool_dir)

    def stop_pushing(self) -> None:
        """Let the pushing thread end after the object it is at."""
        self._stop_pushing.set()

    def play(self, pool: ThreadPoolExecutor) -> int:
        """Start, push, watch, judge."""
        console = self._plan.console
        console.print(f"firstread demo: starting; data and logs in {self._settings.data_dir}", soft_wrap=True)
        if self._plan.scans is None:
            console.print("The phantoms are drawn, of nobody: what the model says of them has no meaning.")
        schema.ensure(self._database)
        verdict: Verdict | None = None
        push = pool.submit(self._push)
        try:
            with View(console) as view:
                self._say_where(push)
                while verdict is None or self._plan.stay:
                    documents = self._documents()
                    view.show(documents, self._caption(push))
                    if verdict is None and (self._settled(push) or time.monotonic() > self._deadline):
                        verdict = self._judge(push, documents)
                        self._tell(verdict)
                    if not self._supervisor.alive():
                        raise StartError(f"the supervisor gave up: {self._supervisor.failure}")
                    time.sleep(LOOK_SECONDS)
        except KeyboardInterrupt:
            console.print("stopping")
        return 0 if verdict is not None and not verdict.problems else 1

    def _push(self) -> None:
        """Send everything; phantoms each over an association of its own as soon as it is drawn, as modalities do."""
        if self._plan.scans is not None:
            peer = self._listener()
            for outcome in self._until_stopped(send_files(self._plan.scans, peer, CALLING_AE)):
                self._sent.outcomes.append(outcome)
            return
        installed = bootstrap.model_names(self._settings)
        for phantom in self._until_stopped(generate(self._settings.data_dir / "phantoms", models=installed)):
            self._send_phantom(phantom, self._listener())

    def _send_phantom(self, phantom: Phantom, peer: Peer) -> None:
        self._sent.expected[phantom.study_instance_uid] = phantom.expected
        self._sent.outcomes += send_files([phantom.path], peer, CALLING_AE)

    def _until_stopped(self, items: Iterable[T]) -> Iterator[T]:
        for item in items:
            yield item
            if self._stop_pushing.is_set():
                return

    def _listener(self) -> Peer:
        return self._supervisor.wait_listener(max(1.0, self._deadline - time.monotonic()))

    def _say_where(self, push: Future[None]) -> None:
        ready = self._supervisor.wait_ready(max(1.0, self._deadline - time.monotonic()))
        if push.done():
            push.result()
        for name, value in (
            ("worklist", ready.worklist_url),
            *([("log in", self._way_in(ready.worklist_url))] if self._plan.stay else []),
            ("listener", str(ready.listener)),
            ("stand-in PACS", f"{self._pacs.peer}, keeps what it gets in {self._pacs.directory}"),
            ("SR files", str(self._settings.reports_dir)),
            ("logs", str(self._supervisor.logs_dir)),
        ):
            self._plan.console.print(f"  {name:<14} {value}", markup=False, highlight=False, soft_wrap=True)

    def _way_in(self, worklist_url: str) -> str:
        """Return a link that logs in once; asked for only where we stay up, on a terminal, which nobody keeps."""
        link = front_door.login_link(self._settings, self._database, actor="demo", worklist_url=worklist_url)
        return f"{link} (once, within 15 minutes)"

    def _documents(self) -> list[Document]:
        with self._database.read() as session:
            return list(list_studies(session, StudyFilter(limit=None)))

    def _caption(self, push: Future[None]) -> str:
        state = "sent" if push.done() else "sending"
        return f"{state}: {self._sent.stored()} objects stored by the listener, {time.monotonic() - self._begun:.0f} s"

    def _settled(self, push: Future[None]) -> bool:
        """Say whether all is sent, registered, and nothing is owed any more: no result, no report, no delivery."""
        if not push.done() or self._spool.arrivals():
            return False
        with self._database.read() as session:
            owed = col(WorkItem.state).in_((WorkState.OWED, WorkState.LEASED))
            return not session.exec(select(sa.func.count()).select_from(WorkItem).where(owed)).one()

    def _routed(self) -> set[str]:
        with self._database.read() as session:
            query = (
                select(Study.study_instance_uid)
                .join(Instance, col(Instance.study_id) == col(Study.id))
                .join(WorkItem, col(WorkItem.subject_id) == col(Instance.id))
                .where(WorkItem.kind == WorkKind.INFER)
            )
            return set(session.exec(query).all())

    def _judge(self, push: Future[None], documents: list[Document]) -> Verdict:
        settled = self._settled(push)
        if settled:
            push.result()  # what went wrong in the pushing thread is ours
            documents = self._documents()
        verdict = judge(documents, expected=dict(self._sent.expected), routed=self._routed())
        if not settled:
            verdict.problems.insert(0, f"not finished after {self._plan.seconds:g} s (--timeout waits longer)")
            verdict.problems += self._supervisor.troubles()
        sum_ = reconcile(self._database, self._spool, self._settings.reports_dir).as_json()
        counts = ", ".join(f"{sum_[key]} {key.replace('_', ' ')}" for key in COUNTED)
        verdict.remarks.insert(0, f"{sum_['accepted']} instances accepted = {counts}")
        verdict.problems += [f"unaccounted for: {entry}" for entry in sum_["unaccounted"]]
        sending = judge_sending(self._sent.outcomes, own_scans=self._plan.scans is not None)
        verdict.problems += sending.problems
        verdict.remarks += sending.remarks
        delivered = len(self._pacs.received())
        verdict.remarks.append(f"{delivered} reports at the stand-in PACS, {self._elapsed()} after the start")
        return verdict

    def _elapsed(self) -> str:
        return f"{time.monotonic() - self._begun:.1f} s"

    def _tell(self, verdict: Verdict) -> None:
        console = self._plan.console
        for remark in verdict.remarks:
            console.print(remark, markup=False, highlight=False, soft_wrap=True)
        for problem in verdict.problems:
            console.print(f"PROBLEM {problem}", style="bold red", markup=False, highlight=False, soft_wrap=True)
        console.print(verdict.conclusion(), style="bold red" if verdict.problems else "green", highlight=False)
        if self._plan.stay:
            console.print("Ctrl-C stops everything; until then send it scans of your own.")
            return
        for hint in (
            "It stops now; on a terminal and without --exit it stays up until Ctrl-C, with a link to log in.",
            f"To see these results in the worklist: {afterwards(self._settings)}",
        ):
            console.print(hint, markup=False, highlight=False, soft_wrap=True)


COUNTED = ("complete", "failed", "not_eligible", "pending")


def afterwards(settings: Settings) -> str:
    """Return the command that shows what the demonstration left, once it has ended."""
    return f"FIRSTREAD_DATA_DIR={shlex.quote(str(settings.data_dir))} firstread up"


def _fresh_directory(wanted: Path | None) -> Path:
    if wanted is None:
        return Path(tempfile.mkdtemp(prefix="firstread-demo-"))
    directory = make_private(wanted.expanduser().absolute())
    if any(directory.iterdir()):
        raise StartError(f"--data-dir {directory}: it is not empty; a demonstration starts clean")
    return directory


@contextlib.contextmanager
def _interruptible(supervisor: Supervisor) -> Iterator[None]:
    """End in order at the first signal; at the second stop waiting for what drains slowly."""
    told = False

    def tell(_number: int, _frame: FrameType | None) -> None:
        nonlocal told
        if told:
            supervisor.hurry()
            return
        told = True
        raise KeyboardInterrupt

    on_stop_signals(tell)
    yield


@contextlib.contextmanager
def _own_log(path: Path) -> Iterator[None]:
    """Write our own log, and what else goes to standard error, to a file: the terminal belongs to the table."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "a", buffering=1) as file:
        try:
            with contextlib.redirect_stderr(file):
                configure_logs("demo", "json")
                yield
        finally:
            configure_logs("demo")
