"""`firstread up`: it says where it is, takes a scan, drains on SIGTERM and leaves nothing running."""

import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from worker.demo.phantoms import generate


@pytest.fixture
def up(firstread: list[str], tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    environment = {
        **os.environ,
        "FIRSTREAD_DATA_DIR": str(tmp_path / "data"),
        "FIRSTREAD_DICOM_PORT": "0",
        "FIRSTREAD_WEB_PORT": "0",
    }
    with (tmp_path / "stderr").open("w") as log:
        process = subprocess.Popen(
            [*firstread, "up", "--json"], stdout=subprocess.PIPE, stderr=log, text=True, env=environment
        )
    assert process.stdout is not None
    alarm = threading.Timer(90, process.kill)
    alarm.start()
    said = ""
    while not said.rstrip().endswith("}"):
        line = process.stdout.readline()
        assert line, (tmp_path / "stderr").read_text()
        said += line
    yield process, json.loads(said)
    alarm.cancel()
    process.kill()
    process.communicate()


def test_it_says_where_it_is_and_drains_on_sigterm(
    up: tuple[subprocess.Popen[str], dict[str, Any]], firstread: list[str], tmp_path: Path
) -> None:
    process, addresses = up
    assert addresses["data_dir"] == str(tmp_path / "data")
    assert addresses["worklist"].startswith("http://127.0.0.1:")
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 6
    film = next(generate(tmp_path / "phantom", film_pixels=64, ct_pixels=64))
    sent = subprocess.run([*firstread, "send", film.path, "--to", addresses["listener"]], check=False, timeout=60)
    assert sent.returncode == 0
    second = subprocess.run(
        [*firstread, "up"], capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, "FIRSTREAD_DATA_DIR": addresses["data_dir"], "COLUMNS": "200"},
    )  # fmt: skip
    assert second.returncode == 1
    assert f"process {process.pid}" in second.stderr
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    _, alive = psutil.wait_procs(children, timeout=5)
    assert alive == []
    drained = [line for line in (tmp_path / "stderr").read_text().splitlines() if "service_drained" in line]
    names = [json.loads(line)["name"] for line in drained]
    assert names == ["listener", "intake", "inference", "delivery", "worklist", "redis"]
