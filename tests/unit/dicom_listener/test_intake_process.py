"""The child beside the listener: started again when it dies, asked to stop, killed when it does not."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from structlog.testing import capture_logs

from dicom_listener.intake_process import INTAKE, IntakeProcess
from worker.supervision.service import Restart

SOON = Restart(first=0.01, longest=0.02)


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def python(code: str, *arguments: object) -> list[str]:
    return [sys.executable, "-c", code, *map(str, arguments)]


def exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_child_that_dies_is_started_again_until_we_stop(tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    code = "import sys; open(sys.argv[1], 'a').write('x'); sys.exit(3)"
    intake = IntakeProcess(python(code, starts), restart=SOON)
    intake.start()
    wait_for(lambda: starts.exists() and len(starts.read_text()) >= 3)
    intake.ask_to_stop()
    intake.wait()
    assert intake.process is None or intake.process.returncode is not None
    assert not any(thread.name == "intake" for thread in threading.enumerate()), "nobody is left to start another"


def test_it_is_asked_to_stop(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    code = (
        "import pathlib, signal, sys\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
        "pathlib.Path(sys.argv[1]).touch()\n"
        "signal.pause()"
    )
    intake = IntakeProcess(python(code, ready))
    intake.start()
    wait_for(ready.exists)
    intake.ask_to_stop()
    intake.wait()
    assert intake.process is not None
    assert intake.process.returncode == 0


def test_one_that_does_not_stop_is_killed(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    code = (
        "import pathlib, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "pathlib.Path(sys.argv[1]).touch()\n"
        "time.sleep(600)"
    )
    intake = IntakeProcess(python(code, ready), stop_seconds=0.2)
    intake.start()
    wait_for(ready.exists)
    intake.ask_to_stop()
    intake.wait()
    assert intake.process is not None
    assert intake.process.returncode == -signal.SIGKILL


def test_a_command_that_cannot_be_run_is_tried_again_and_does_no_harm() -> None:
    with capture_logs() as lines:
        intake = IntakeProcess(["/nonexistent/program"], restart=SOON)
        intake.start()
        wait_for(lambda: [line["event"] for line in lines].count("service_ended") >= 2)
        intake.ask_to_stop()
        intake.wait()
    ended = next(line for line in lines if line["event"] == "service_ended")
    assert (ended["name"], ended["log"]) == ("intake", "standard error")


def test_the_child_has_the_environment_it_is_given_and_our_stdout_stays_ours(tmp_path: Path) -> None:
    found = tmp_path / "found"
    code = (
        "import os, sys, time\n"
        "text = os.environ['WHERE'] + ' ' + str(os.path.sameopenfile(1, 2))\n"
        "open(sys.argv[1] + '.new', 'w').write(text)\n"
        "os.replace(sys.argv[1] + '.new', sys.argv[1])\n"
        "time.sleep(600)"
    )
    intake = IntakeProcess(python(code, found), {**os.environ, "WHERE": "here"})
    intake.start()
    wait_for(found.exists)
    assert found.read_text() == "here True"
    assert intake.process is not None
    pid = intake.process.pid
    intake.ask_to_stop()
    intake.wait()
    assert not exists(pid)


def test_the_default_is_the_intake_command_in_this_interpreter() -> None:
    assert (sys.executable, "-m", "worker.cli", "intake") == INTAKE
