"""`firstread up`: it says where it is, takes a scan, lets in once, drains on SIGTERM and leaves nothing running.

A scan with marked names goes through it, and afterwards the marks are nowhere but where they belong.
"""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pydicom
import pytest

from worker.demo.phantoms import generate

MARKS = {
    "PatientName": "ZZNAME^MARKED",
    "PatientID": "ZZID-4711",
    "AccessionNumber": "ZZACC",
    "StudyDescription": "ZZDESCRIPTION",
    "ReferringPhysicianName": "ZZREFERRER",
}
"""Every one begins with ZZ, which nothing else of ours does."""


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
    alarm = threading.Timer(240, process.kill)
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
    marked = pydicom.dcmread(film.path)
    for keyword, value in MARKS.items():
        setattr(marked, keyword, value)
    marked.save_as(film.path)
    sent = subprocess.run([*firstread, "send", film.path, "--to", addresses["listener"]], check=False, timeout=60)
    assert sent.returncode == 0
    link = addresses["login_link"]
    look_around(addresses["worklist"], link, film.study_instance_uid)
    token = link.rpartition("/")[2]
    for child in [psutil.Process(process.pid), *children]:
        assert token not in " ".join(child.cmdline()), "the arguments of a process are everybody's to read"
        assert token not in "".join(child.environ().values())
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
    logs = {path: path.read_text() for path in [*(tmp_path / "data" / "logs").iterdir(), tmp_path / "stderr"]}
    assert any("login_failed" in text for text in logs.values())
    for path, text in logs.items():
        for word in ("ZZ", token):
            assert word not in text, f"{word} in {path}"
    with contextlib.closing(sqlite3.connect(tmp_path / "data" / "firstread.db")) as connection:
        events = connection.execute("SELECT action, actor, subject, detail FROM audit_event").fetchall()
        assert connection.execute("SELECT patient_name FROM study").fetchall() == [("ZZNAME^MARKED",)]
    assert {"login.link_made", "login.succeeded", "login.failed", "study.viewed", "studies.listed"} <= {
        event[0] for event in events
    }
    assert "ZZ" not in repr(events)
    assert token not in repr(events)


def look_around(worklist: str, link: str, study: str) -> None:
    """Log in with the link, look for the patient, log in wrongly with their name; nothing of it shows outside."""
    with httpx.Client(base_url=worklist, timeout=30) as client:
        deadline = time.monotonic() + 60
        while not (listed := client.get("/api/v1/studies").json()):
            assert time.monotonic() < deadline, "the scan was not registered"
            time.sleep(0.2)
        assert listed[0]["patient_name"] == "ZZNAME^MARKED", "before there is an account the API is open here"
        assert client.get("/").headers["location"] == "/login"
        form = client.get("/login").text.partition('name="form_token" value="')[2][:64]
        wrong = client.post("/login", data={"name": "ZZNAME", "password": "ZZPASSWORD", "form_token": form})
        assert wrong.status_code == 401
        assert client.get(link).headers["location"] == "/"
        assert client.get(link).status_code == 401, "once"
        assert "ZZNAME" in client.get("/?search=ZZNAME").text
        assert "ZZNAME" in client.get(f"/studies/{study}").text
        for path in ("/healthz", "/readyz", "/metrics"):
            shown = httpx.get(worklist.rstrip("/") + path).text
            assert shown
            assert "ZZ" not in shown, path
