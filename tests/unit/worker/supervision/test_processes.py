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


def test_what_a_child_makes_is_nobody_elses(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        process = spawn(["/bin/sh", "-c", f"cd {tmp_path}; touch file; mkdir directory"], tmp_path / "l", os.environ)
        assert process.wait(10) == 0
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "directory").stat().st_mode) == 0o700


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
    assert not rotate(path)
    path.write_text("before")
    assert not rotate(path)
    assert path.read_text() == "before"


def test_a_log_is_put_aside_under_the_process_that_writes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "LOG_BYTES", 5)
    path = tmp_path / "child.log"
    code = "import sys\nfor line in sys.stdin: print(line, end='', flush=True)"
    with path.open("ab") as log_file, subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=log_file
    ) as writer:  # fmt: skip
        assert writer.stdin is not None
        for text in (b"before\n", b"after\n"):
            writer.stdin.write(text)
            writer.stdin.flush()
            assert wait_for_text(path).encode() == text
            assert rotate(path)
            assert path.read_bytes() == b""
    aside = {p.name: p for p in tmp_path.iterdir() if p != path}
    assert {name: p.read_text() for name, p in aside.items()} == {"child.log.1": "after\n", "child.log.2": "before\n"}
    assert {stat.S_IMODE(p.stat().st_mode) for p in aside.values()} == {0o600}


def test_of_a_log_that_ran_away_the_end_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "LOG_BYTES", 3)
    path = tmp_path / "child.log"
    path.write_text("0123456789")
    rotate(path)
    assert (tmp_path / "child.log.1").read_text() == "456789"


def test_a_log_that_cannot_be_put_aside_is_kept_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "LOG_BYTES", 3)
    path = tmp_path / "child.log"
    older = tmp_path / "child.log.1"
    path.write_text("text")
    older.write_text("older")
    (tmp_path / "child.log.new").mkdir()
    for _ in range(3):
        with pytest.raises(IsADirectoryError):
            rotate(path)
    assert (path.read_text(), older.read_text()) == ("text", "older")


def test_signals_that_the_caller_ignores_stay_ignored() -> None:
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    told: list[int] = []
    try:
        for number in (signal.SIGTERM, signal.SIGINT):  # a shell's background job is started with SIGINT ignored
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
        on_stop_signals(lambda number, _frame: told.append(number))
        for number in numbers:
            signal.raise_signal(number)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert told == [signal.SIGTERM, signal.SIGINT]


WAITS_FOR_HANGUPS = """
import os, signal, sys
from worker.supervision.processes import Terminal
os.open(sys.argv[1], os.O_RDWR)  # a session without a terminal has the first that it opens
terminal = Terminal()
signal.signal(signal.SIGHUP, lambda *_: print("lost" if terminal.lost() else "there", flush=True))
print("ready", flush=True)
while True:
    signal.pause()
"""


def test_a_terminal_that_has_gone_is_told_from_a_signal_sent_by_hand() -> None:
    ours, theirs = os.openpty()
    command = [sys.executable, "-c", WAITS_FOR_HANGUPS, os.ttyname(theirs)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout
        try:
            assert process.stdout.readline() == "ready\n"
            process.send_signal(signal.SIGHUP)
            assert process.stdout.readline() == "there\n"
            os.close(theirs)
            os.close(ours)
            assert process.stdout.readline() == "lost\n"
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("code", "said"), [(0, "exit code 0"), (3, "exit code 3"), (-9, "killed by SIGKILL"), (-90, "killed by signal 90")]
)
def test_ends_are_named(code: int, said: str) -> None:
    assert describe_exit(code) == said
