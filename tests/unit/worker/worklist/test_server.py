"""Serving: where it says it is, how it ends, and what it says when the port is taken."""

import json
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

PROGRAM = """
import sys
from pathlib import Path
from worker import schema
from worker.database import Database
from worker.logs import configure_logs
from worker.worklist.app import create_app, serve
configure_logs("worklist", "json")
directory = Path(sys.argv[1])
database = Database(f"sqlite:///{directory / 'firstread.db'}")
schema.migrate(database)
app = create_app(database, previews_dir=directory, readiness=dict, version="1")
serve(app, sys.argv[2], int(sys.argv[3]), run_dir=directory / "run")
"""


def start(directory: Path, host: str, port: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(directory), host, str(port)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_it_says_where_it_is_and_ends_cleanly(tmp_path: Path, host: str, ending: signal.Signals) -> None:
    if host == "::1":
        try:
            socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        except OSError:
            pytest.skip("no IPv6 on this machine")
    process = start(tmp_path, host, 0)
    try:
        assert process.stdout
        word, url = process.stdout.readline().split()
        assert word == "worklist"
        alive = httpx.get(f"{url}healthz")
        assert alive.json() == {"status": "ok"}
        assert "server" not in alive.headers
        assert httpx.get(url, params={"search": "Ursula"}).status_code == 200
        run_file = tmp_path / "run" / "worklist.json"
        assert json.loads(run_file.read_text()) == {"pid": process.pid, "url": url}
        assert stat.S_IMODE(run_file.stat().st_mode) == 0o600
        assert stat.S_IMODE(run_file.parent.stat().st_mode) == 0o700
        process.send_signal(ending)
        rest, log = process.communicate(timeout=10)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    assert rest == ""
    assert not run_file.exists()
    assert [json.loads(line)["event"] for line in log.splitlines()] == ["worklist_serving", "worklist_stopped"]
    assert "ursula" not in log.lower(), "a search is patient data: no access log"


@pytest.mark.parametrize("host", ["127.0.0.1", "host.invalid"])
def test_an_address_that_cannot_be_bound(tmp_path: Path, host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = start(tmp_path, host, taken.getsockname()[1])
        out, error = process.communicate(timeout=20)
    assert process.returncode == 1
    assert out == ""
    assert "FIRSTREAD_WEB_PORT" in error
    assert host in error
    assert "Traceback" not in error
