"""A service of firstread with dormant faults in it: `python -P injected.py FOLDER ARGUMENTS-OF-FIRSTREAD…`.

Every named point on the path of a scan is wrapped. A point does nothing until the file FOLDER/armed names it: a line
`POINT TIMES HOW`. Then the process strikes there, as often as TIMES says, in whichever process comes by first:

    kill   SIGKILL to itself, as of the kernel's hand
    hold   stands still for ever, so that somebody else can kill whatever he likes at just this moment

The file FOLDER/clock says by how many seconds the clock of the process is off; the monotonic one never is.

Each strike is a line `POINT PID` in the file FOLDER/struck, written before it happens: a fault that did not strike has
proven nothing.
"""

import fcntl
import functools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any, Self

POINTS = {
    "listener": (
        "before file write", "after file write", "before file fsync", "after file fsync", "before rename",
        "after rename", "before directory fsync", "after directory fsync",
    ),
    "intake": (
        "before registration commit", "after registration commit", "after filing", "before publish", "after publish",
    ),
    "inference": (
        "before claim commit", "after claim commit", "mid-batch", "before result commit", "after result commit",
        "at the poison",
    ),
    "delivery": (
        "after report write", "before report commit", "after report commit", "after the PACS accepted",
        "before delivery commit", "after delivery commit",
    ),
}  # fmt: skip
"""The points, by the service that comes by."""

POISON = "POISON-PATIENT"
"""Patient ID of the object that the point `at the poison` is about."""

_inside = threading.local()
_folder = Path()


def reach(point: str) -> None:
    """Come by a point: strike if it is armed and has not struck often enough."""
    try:
        with (_folder / "armed").open("r+") as armed:
            fcntl.flock(armed, fcntl.LOCK_EX)
            wanted, times, how = armed.read().rsplit(" ", 2)
            if wanted != point:
                return
            struck = _folder / "struck"
            with struck.open("a+") as witness:
                witness.seek(0)
                if sum(line.startswith(f"{point} ") for line in witness) >= int(times):
                    return
                witness.write(f"{point} {os.getpid()}\n")
    except FileNotFoundError:
        return
    if how == "hold":
        threading.Event().wait()
    os.kill(os.getpid(), signal.SIGKILL)


def around(owner: Any, name: str, point: str, when: Callable[..., bool] = lambda *_: True) -> None:
    """Make `before POINT` and `after POINT` of a function."""
    original = getattr(owner, name)

    @functools.wraps(original)
    def wrapped(*arguments: Any, **named: Any) -> Any:
        if not when(*arguments):
            return original(*arguments, **named)
        reach(f"before {point}")
        result = original(*arguments, **named)
        reach(f"after {point}")
        return result

    setattr(owner, name, wrapped)


def commits_in(owner: Any, name: str, point: str, when: Callable[..., bool] = lambda *_: True) -> None:
    """Make `before POINT` and `after POINT` of the commits that a function makes."""
    original = getattr(owner, name)

    @functools.wraps(original)
    def wrapped(*arguments: Any, **named: Any) -> Any:
        before = getattr(_inside, "point", "")
        _inside.point = point if when(*arguments) else before
        try:
            return original(*arguments, **named)
        finally:
            _inside.point = before

    setattr(owner, name, wrapped)


def _listen_to_commits() -> None:
    from sqlalchemy import event
    from sqlmodel import Session

    def tell(when: str) -> Callable[[Session], None]:
        def told(_session: Session) -> None:
            if point := getattr(_inside, "point", ""):
                reach(f"{when} {point}")

        return told

    event.listen(Session, "before_commit", tell("before"))
    event.listen(Session, "after_commit", tell("after"))


def _is_partial(descriptor: int) -> bool:
    return Path(f"/proc/self/fd/{descriptor}").readlink().suffix == ".part"


def prepare_listener() -> None:
    from worker.intake import spool

    around(spool.Incoming, "write", "file write")
    around(os, "fsync", "file fsync", _is_partial)
    around(os, "rename", "rename", lambda path, *_: str(path).endswith(".part"))
    around(spool, "sync_directory", "directory fsync", lambda directory: directory.name == "incoming")


def prepare_intake() -> None:
    from worker.arrivals import Arrivals
    from worker.intake.spool import Spool
    from worker.wakeups import Wakeups

    _listen_to_commits()
    commits_in(Arrivals, "_commit", "registration commit")
    around(Spool, "file_away", "filing")
    around(Wakeups, "_hint", "publish")


def _has_due(work: Any, kind: str, *_: Any) -> bool:
    with work.database.read() as session:
        return any(due.kind == kind for due in work.due(session))


def prepare_workers() -> None:
    from worker.inference_commit import InferenceCommit
    from worker.intake.work import Work
    from worker.pipeline import Pipeline
    from worker.report_commit import ReportCommit
    from worker.reporting import pacs, structured_report

    _listen_to_commits()
    commits_in(Work, "claim", "claim commit", _has_due)
    _strike_among_the_pixels()
    commits_in(InferenceCommit, "commit", "result commit")
    around(structured_report, "write", "report write")
    commits_in(Pipeline, "_keep", "report commit")
    commits_in(ReportCommit, "delivered", "delivery commit")
    deliver = pacs.deliver

    def deliver_and_reach(*arguments: Any, **named: Any) -> Any:
        sent = deliver(*arguments, **named)
        reach("after the PACS accepted")
        return sent

    pacs.deliver = deliver_and_reach


def _strike_among_the_pixels() -> None:
    from worker.inference.pixels import PixelReader

    prepared = PixelReader.prepared

    def prepare_and_reach(self: PixelReader, path: Path, *what: Any, **how: Any) -> Any:
        if POISON.encode() in path.read_bytes():
            reach("at the poison")
        made = prepared(self, path, *what, **how)
        reach("mid-batch")
        return made

    PixelReader.prepared = prepare_and_reach  # type: ignore[method-assign]


class Clock:
    """How far the clock is off, looked at again twenty times a second."""

    def __init__(self) -> None:
        self._until, self._seconds = 0.0, 0

    def off(self) -> int:
        if time.monotonic() >= self._until:
            try:
                self._seconds = int((_folder / "clock").read_text())
            except FileNotFoundError:
                self._seconds = 0
            self._until = time.monotonic() + 0.05
        return self._seconds


def prepare_clock() -> None:
    """Let the clock be stepped: before anything else is imported, for many take the functions by name."""
    clock, seconds, nanoseconds = Clock(), time.time, time.time_ns
    time.time = lambda: seconds() + clock.off()
    time.time_ns = lambda: nanoseconds() + clock.off() * 1_000_000_000
    from worker.database import columns

    class SteppedDatetime(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return super().now(tz) + timedelta(seconds=clock.off())

    columns.datetime = SteppedDatetime  # type: ignore[misc]


if __name__ == "__main__":
    _folder, arguments = Path(sys.argv[1]), sys.argv[2:]
    prepare_clock()
    {"listener": prepare_listener, "intake": prepare_intake}.get(arguments[0], prepare_workers)()
    from worker.cli import main

    sys.argv[1:] = arguments
    main()
