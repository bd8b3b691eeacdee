"""A supervisor in a process of its own, killed with SIGKILL: everything it started dies with it."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

SUPERVISOR = """
import json, sys, time
from worker.config import Settings
from worker.logs import configure_logs
from worker.supervision.service import Service
from worker.supervision.supervisor import Supervisor

sleeps = ("/bin/sh", "-c", "trap '' TERM; while :; do sleep 0.1; done")
configure_logs("supervisor")
settings = Settings(data_dir=sys.argv[1], dicom_port=0, web_port=0)
supervisor = Supervisor(settings, services=[Service("one", sleeps), Service("two", sleeps)])
supervisor.start()
while len(supervisor.pids()) < 3:
    time.sleep(0.02)
print(json.dumps(supervisor.pids()), flush=True)
time.sleep(600)
"""


@pytest.fixture
def runtime(short_dir: Path) -> Path:
    path = short_dir / "run"
    path.mkdir()
    return path


@pytest.fixture
def supervisor(tmp_path: Path, runtime: Path) -> Iterator[Callable[[], tuple[subprocess.Popen[bytes], dict[str, int]]]]:
    """Start one on the same data directory; gives its process and what it runs."""
    started: list[subprocess.Popen[bytes]] = []

    def start() -> tuple[subprocess.Popen[bytes], dict[str, int]]:
        process = subprocess.Popen(
            [sys.executable, "-c", SUPERVISOR, tmp_path / "data"],
            stdout=subprocess.PIPE,
            env={**os.environ, "XDG_RUNTIME_DIR": str(runtime)},
        )
        started.append(process)
        assert process.stdout is not None
        return process, json.loads(process.stdout.readline())

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_kill_9_of_the_supervisor_takes_its_children_along(
    supervisor: Callable[[], tuple[subprocess.Popen[bytes], dict[str, int]]], runtime: Path
) -> None:
    process, pids = supervisor()
    assert sorted(pids) == ["one", "redis", "two"]
    children = [psutil.Process(pid) for pid in pids.values()]
    # The request to the kernel is made just before the exec: wait until each is what it shall be.
    deadline = time.monotonic() + 10
    while any("die_with_parent" in " ".join(child.cmdline()) for child in children):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    (left,) = runtime.iterdir()
    process.kill()
    process.wait(10)
    _, alive = psutil.wait_procs(children, timeout=10)
    assert alive == []
    _, again = supervisor()  # the data directory is free
    assert sorted(again) == ["one", "redis", "two"]
    (fresh,) = runtime.iterdir()
    assert fresh != left, "what the killed one left is swept"
