"""Child processes: private logs that do not grow for ever, ends that are understood, waits that are bounded."""

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from worker.supervision import processes
from worker.supervision.processes import describe_exit, finish, has_ended, on_stop_signals, rotate, spawn

IGNORES_SIGTERM = (
    "import signal, subprocess, sys, time;"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
    "print(child.pid, flush=True); time.sleep(600)"
)


def wait_for_text(path: Path) -> str:
    deadline = time.monotonic() + 10
    while not (text := path.read_text()).endswith("\n"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return text


def gone(pid: int) -> bool:
    deadline = time.monotonic() + 5
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_output_goes_to_a_private_log_and_the_child_leads_its_own_session(tmp_path: Path) -> None:
    path = tmp_path / "child.log"
    process = spawn(["/bin/sh", "-c", "echo out; echo err >&2; ps -o sid= -p $$"], path, os.environ)
    process.wait(10)
    assert has_ended(process)
    assert path.read_text().split() == ["out", "err", str(process.pid)]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_child_that_will_not_stop_is_killed_with_its_own_children(tmp_path: Path) -> None:
    path = tmp_path / "child.log"
    process = spawn([sys.executable, "-c", IGNORES_SIGTERM], path, os.environ)
    grandchild = int(wait_for_text(path))
    started = time.monotonic()
    finish(process, "stubborn", 0.3)
    assert 0.3 <= time.monotonic() - started < 5
    assert process.returncode == -signal.SIGKILL
    assert gone(grandchild)


def test_a_hurry_cuts_the_wait_short(tmp_path: Path) -> None:
    path = tmp_path / "child.log"
    process = spawn([sys.executable, "-c", IGNORES_SIGTERM], path, os.environ)
    wait_for_text(path)
    started = time.monotonic()
    finish(process, "stubborn", 600, hurry=lambda: True)
    assert time.monotonic() - started < 5


def test_what_a_dead_child_left_running_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "child.log"
    process = spawn([sys.executable, "-c", IGNORES_SIGTERM], path, os.environ)
    grandchild = int(wait_for_text(path))
    process.kill()
    deadline = time.monotonic() + 5
    while not has_ended(process):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert gone(grandchild)


def test_a_child_whose_parent_is_gone_does_not_start(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", processes.SHIM, "1", "/bin/echo", "started"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "is gone" in done.stderr
    assert "started" not in done.stdout


def test_a_large_log_is_put_aside_and_the_oldest_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "LOG_BYTES", 3)
    path = tmp_path / "child.log"
    for text in ("one", "two", "three", "four", "five"):
        rotate(path)
        path.write_text(text)
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {
        "child.log": "five", "child.log.1": "four", "child.log.2": "three", "child.log.3": "two",
    }  # fmt: skip


def test_a_small_log_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "child.log"
    path.write_text("before")
    rotate(path)
    assert path.read_text() == "before"


def test_signals_that_the_caller_ignores_stay_ignored() -> None:
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    told: list[int] = []
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
        on_stop_signals(lambda number, _frame: told.append(number))
        for number in numbers:
            signal.raise_signal(number)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert told == [signal.SIGTERM, signal.SIGINT]


@pytest.mark.parametrize(
    ("code", "said"), [(0, "exit code 0"), (3, "exit code 3"), (-9, "killed by SIGKILL"), (-90, "killed by signal 90")]
)
def test_ends_are_named(code: int, said: str) -> None:
    assert describe_exit(code) == said
