"""How many processes serve the ports, what each has from the listener, and that no trouble of one ends the others."""

import errno
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from dicom_listener import acceptors
from dicom_listener.acceptor import ASSOCIATIONS, Inheritance
from dicom_listener.acceptors import Acceptors, processes
from dicom_listener.sockets import bind
from worker.errors import StartError
from worker.intake.spool import Spool
from worker.supervision.service import Restart

SOON = Restart(first=0.01, longest=0.05)
ACCEPTS = (
    "import json, os, signal, socket\n"
    "given = json.loads(os.environ['DICOM_ACCEPTOR'])\n"
    "signal.signal(signal.SIGTERM, lambda *_: os._exit(0))\n"
    "places = socket.socket(fileno=given['places'])\n"
    "places.sendall(b'{\"ready\": true}\\n')\n"
    "while True: signal.pause()\n"
)


@pytest.mark.parametrize(
    ("wanted", "cores", "count"), [(0, 1, 1), (0, 2, 1), (0, 3, 1), (0, 4, 2), (0, 64, 4), (1, 64, 1), (8, 2, 8)]
)
def test_as_many_as_wanted_else_one_for_two_cores(
    monkeypatch: pytest.MonkeyPatch, wanted: int, cores: int, count: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(cores)), raising=False)
    assert processes(wanted) == count


def test_what_is_inherited_is_taken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    given = Inheritance(run=7, sockets=(5, 6), places=9)
    for name, value in given.to_environment().items():
        monkeypatch.setenv(name, value)
    assert Inheritance.taken() == given
    assert not any("ACCEPTOR" in name for name in os.environ)


def test_no_two_share_partial_files_or_numbers() -> None:
    first, second = Inheritance(1, (), 0), Inheritance(11, (), 0)
    assert not f".{second.writer}.part".endswith(f".{first.writer}.part")
    assert (second.run - first.run) * ASSOCIATIONS > ASSOCIATIONS


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


class Served:
    """Two acceptors in a directory of the test's own; what they run is what was given last (`run`)."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(acceptors, "TICK_SECONDS", 0.01)
        self.code = tmp_path / "acceptor.py"
        monkeypatch.setattr(acceptors, "ACCEPTOR", (sys.executable, "-I", str(self.code)))
        self.run(ACCEPTS)
        self.spool = Spool(tmp_path / "spool")
        self.metrics_dir = tmp_path / "metrics"
        self.sockets = bind("127.0.0.1", 0)
        self.made = Acceptors(
            2, self.sockets, self.spool, max_associations=10, metrics_dir=self.metrics_dir, restart=SOON
        )

    def run(self, code: str) -> None:
        """Have those that are started from now on run this."""
        fresh = self.code.with_suffix(".new")
        fresh.write_text(code)
        fresh.replace(self.code)

    def pids(self) -> list[int]:
        return [one._state.process.pid for one in self.made._acceptors if one._state.process is not None]

    def end(self) -> None:
        if self.made._thread.is_alive():
            self.made.drain(0.0)
        for one in self.sockets:
            one.close()


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    made = Served(tmp_path, monkeypatch)
    yield made
    made.end()


def kill_the_first(served: Served) -> None:
    """Kill one of two; it comes back, and the other never ends."""
    first, second = served.pids()
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: len(served.pids()) == 2 and served.pids()[0] != first)
    assert served.pids()[1] == second
    assert served.made.alive()
    os.kill(second, 0)


def fails_at_first(real: Callable[..., Any], error: int) -> tuple[Callable[..., Any], list[tuple[Any, ...]]]:
    """Return what fails twice before it does what it should, and what its calls were given."""
    calls: list[tuple[Any, ...]] = []

    def stand_in(*given: Any) -> Any:
        calls.append(given)
        if len(calls) <= 2:
            raise OSError(error, os.strerror(error))
        return real(*given)

    return stand_in, calls


def test_partial_files_that_cannot_be_swept_end_nobody_and_are_swept_later(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acceptors, "CLEAR_AGAIN_SECONDS", 0.05)
    served.made.start()
    left = served.spool.incoming_dir / "half.acceptor0.part"
    left.touch()
    sweep, calls = fails_at_first(served.spool.sweep_partials, errno.EROFS)
    monkeypatch.setattr(served.spool, "sweep_partials", sweep)
    with capture_logs() as lines:
        kill_the_first(served)
        wait_for(lambda: not left.exists())
        wait_for(lambda: any(line["event"] == "partial_files_swept" for line in lines))
    assert calls == [("acceptor0",)] * 3
    told = [line for line in lines if line["event"] == "remains_not_cleared"]
    assert len(told) == 2
    assert "Read-only" in told[0]["error"]


def test_what_cannot_be_swept_keeps_nothing_else_lying(served: Served) -> None:
    served.made.start()
    in_the_way = served.spool.incoming_dir / "half.acceptor0.part"
    in_the_way.mkdir()  # what `unlink` refuses
    kill_the_first(served)
    later = served.spool.incoming_dir / "half.acceptor2.part"
    later.touch()
    kill_the_first(served)
    wait_for(lambda: not later.exists())
    assert in_the_way.exists()


def test_metrics_of_the_dead_that_cannot_be_removed_end_nobody(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceptors, "CLEAR_AGAIN_SECONDS", 0.05)
    mark, calls = fails_at_first(lambda *_: None, errno.ENOENT)
    monkeypatch.setattr(acceptors.multiprocess, "mark_process_dead", mark)
    served.made.start()
    killed = served.pids()[0]
    kill_the_first(served)
    wait_for(lambda: len(calls) == 3)
    assert set(calls) == {(killed, str(served.metrics_dir))}


def test_no_descriptors_for_the_next_one_end_nobody(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    served.made.start()
    channel, calls = fails_at_first(acceptors.channel, errno.EMFILE)
    monkeypatch.setattr(acceptors, "channel", channel)
    kill_the_first(served)
    assert len(calls) == 3


def test_where_none_gets_ready_the_start_fails_and_says_why(served: Served) -> None:
    served.run("raise SystemExit(2)")
    with pytest.raises(
        StartError, match=r"acceptor 1: exit code 2, see standard error; acceptor 2: exit code 2"
    ) as said:
        served.made.start()
    assert "start the listener again" in str(said.value)
    assert not served.made._thread.is_alive(), "nobody is left to start another"


def test_where_none_gets_ready_in_time_the_start_fails(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceptors, "START_SECONDS", 0.5)
    served.run("import signal; signal.pause()")
    with pytest.raises(StartError, match=r"in 0\.5 s"):
        served.made.start()
    assert not served.made._thread.is_alive()


def test_one_that_gets_ready_is_enough(served: Served) -> None:
    served.run(
        "import os, json\nif json.loads(os.environ['DICOM_ACCEPTOR'])['run'] == 0: raise SystemExit(1)\n" + ACCEPTS
    )
    served.made.start()
    assert served.made.alive()


def test_a_crash_of_all_at_once_is_made_good(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceptors, "START_SECONDS", 10.0)
    served.made.start()
    before = served.pids()
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: len(served.pids()) == 2 and not set(served.pids()) & set(before))
    wait_for(lambda: all(one.accepts() for one in served.made._acceptors))
    assert served.made.alive()


def test_when_none_gets_ready_any_more_it_is_over_for_good(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceptors, "START_SECONDS", 2.0)
    served.made.start()
    first, second = served.pids()
    served.run("raise SystemExit(1)")
    os.kill(first, signal.SIGKILL)
    time.sleep(2.5)
    assert served.made.alive(), "one still accepts"
    with capture_logs() as lines:
        os.kill(second, signal.SIGKILL)
        wait_for(lambda: not served.made.alive())
        served.run(ACCEPTS)
        wait_for(lambda: any(one.accepts() for one in served.made._acceptors))
        assert not served.made.alive(), "whoever asks twice has one answer"
    assert [line["event"] for line in lines].count("nobody_accepts") == 1
