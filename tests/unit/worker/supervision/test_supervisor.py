"""The supervisor with small services of the test's own: what dies comes back, what is drained goes in order."""

import io
import json
import os
import signal
import socket
import stat
import sys
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

import pytest
from structlog.testing import capture_logs

from tests.support import certificates
from tests.support.certificates import Authority
from worker.commands.up import _until_told
from worker.config import Settings
from worker.errors import StartError
from worker.supervision import processes
from worker.supervision.plan import default_services
from worker.supervision.processes import exists
from worker.supervision.service import Restart, Service
from worker.supervision.supervisor import Supervisor

SLEEPS = ("/bin/sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.05; done")
SOON = Restart(first=0.05, longest=0.2, healthy=60)


def settings(tmp_path: Path, **changes: object) -> Settings:
    values = {
        "data_dir": tmp_path / "data",
        "dicom_port": 0,
        "web_port": 0,
        "broker_url": "redis://127.0.0.1:1/0",
        **changes,
    }
    return Settings(**values)  # type: ignore[arg-type]


def until(condition: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


def test_what_dies_is_started_again_and_the_log_says_why(tmp_path: Path) -> None:
    with (
        capture_logs() as lines,
        Supervisor(settings(tmp_path), services=[Service("sleeper", SLEEPS)], restart=SOON) as supervisor,
    ):
        until(supervisor.pids)
        first = supervisor.pids()["sleeper"]
        os.kill(first, signal.SIGKILL)
        until(lambda: supervisor.pids().get("sleeper") not in (None, first))
    ended = [line for line in lines if line["event"] == "service_ended"]
    assert [(line["name"], line["how"]) for line in ended] == [("sleeper", "killed by SIGKILL")]


def test_the_wait_before_a_restart_doubles_up_to_its_limit(tmp_path: Path) -> None:
    with capture_logs() as lines:
        supervisor = Supervisor(settings(tmp_path), services=[Service("failing", python("exit(3)"))], restart=SOON)
        with supervisor:
            until(lambda: sum(line["event"] == "service_ended" for line in lines) >= 4)
        assert "failing: exit code 3" in supervisor._states[0].trouble()
    waits = [line["restart_in_seconds"] for line in lines if line["event"] == "service_ended"]
    assert waits[:4] == [0.05, 0.1, 0.2, 0.2]


def test_after_healthy_time_the_wait_is_short_again(tmp_path: Path) -> None:
    always_healthy = Restart(first=0.05, longest=10, healthy=0)
    with (
        capture_logs() as lines,
        Supervisor(settings(tmp_path), services=[Service("failing", python("exit(3)"))], restart=always_healthy),
    ):
        until(lambda: sum(line["event"] == "service_ended" for line in lines) >= 3)
    waits = [line["restart_in_seconds"] for line in lines if line["event"] == "service_ended"]
    assert set(waits) == {0.05}


def test_a_command_that_cannot_be_executed_is_tried_again(tmp_path: Path) -> None:
    with (
        capture_logs() as lines,
        Supervisor(
            settings(tmp_path), services=[Service("missing", (str(tmp_path / "missing"),))], restart=SOON
        ) as supervisor,
    ):
        until(lambda: sum(line["event"] == "service_ended" for line in lines) >= 2)
        assert supervisor.alive()


def test_services_are_drained_in_their_order_one_after_the_other(tmp_path: Path) -> None:
    record = tmp_path / "order"
    ready = tmp_path / "ready"
    ready.mkdir()

    def stops_slowly(name: str) -> Service:
        code = (
            "import pathlib, signal, sys, time\n"
            "def stop(*_):\n"
            "    time.sleep(0.2)\n"
            f"    open({str(record)!r}, 'a').write('{name} ')\n"
            "    sys.exit(0)\n"
            "signal.signal(signal.SIGTERM, stop)\n"
            f"pathlib.Path({str(ready / name)!r}).touch()\n"
            "while True: time.sleep(60)\n"
        )
        return Service(name, python(code))

    names = ["listener", "intake", "inference", "delivery", "worklist"]
    with Supervisor(settings(tmp_path), services=[stops_slowly(name) for name in names]):
        until(lambda: len(list(ready.iterdir())) == len(names))
    assert record.read_text().split() == names


def test_a_service_that_will_not_stop_is_killed_and_the_log_says_so(tmp_path: Path) -> None:
    stubborn = ("/bin/sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done")
    with capture_logs() as lines:
        supervisor = Supervisor(settings(tmp_path), services=[Service("stubborn", stubborn, drain_seconds=0.2)])
        with supervisor:
            log_file = supervisor.logs_dir / "stubborn.log"
            until(lambda: log_file.exists() and log_file.read_text())
    killed = [line for line in lines if line["event"] == "service_killed"]
    assert [line["name"] for line in killed] == ["stubborn"]
    assert killed[0]["log_level"] == "warning"


def test_a_second_one_on_the_same_data_directory_is_refused_with_the_process_id(tmp_path: Path) -> None:
    refused = pytest.raises(StartError, match=rf"already runs on .*data \(process {os.getpid()}\)")
    with Supervisor(settings(tmp_path), services=[]), refused:
        Supervisor(settings(tmp_path), services=[]).start()
    with Supervisor(settings(tmp_path), services=[]):
        pass  # the first one gave it back


def test_a_busy_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for name in ("dicom_port", "web_port"):
            with pytest.raises(StartError, match=f"FIRSTREAD_{name.upper()}={port}: .*127.0.0.1:{port}"):
                Supervisor(settings(tmp_path, **{name: port}), services=[]).start()


def test_children_get_the_data_directory_the_broker_shared_metrics_and_sensible_threads(tmp_path: Path) -> None:
    shows = python("import json, os; print(json.dumps(dict(os.environ)))")
    supervisor = Supervisor(
        settings(tmp_path, broker_url=""),
        services=[Service("one", shows), Service("all", shows, threads=None)],
        environment={"PATH": os.environ["PATH"], "TF_CPP_MIN_LOG_LEVEL": "0", "FIRSTREAD_METRICS_PORT": "9100"},
    )
    stale = tmp_path / "data" / "run" / "metrics" / "counter_1.db"
    stale.parent.mkdir(parents=True)
    stale.touch()
    with supervisor:
        assert supervisor._redis is not None
        url = supervisor._redis.url
        logs = [supervisor.logs_dir / f"{name}.log" for name in ("one", "all")]
        until(lambda: all(path.exists() and path.read_text().endswith("\n") for path in logs))
        until(lambda: "redis" in supervisor.pids())
        assert not stale.exists()
        assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in logs)
    one, every = (json.loads(path.read_text().splitlines()[0]) for path in logs)
    assert one["FIRSTREAD_DATA_DIR"] == str(tmp_path / "data")
    assert one["FIRSTREAD_BROKER_URL"] == url
    assert one["PROMETHEUS_MULTIPROC_DIR"] == str(stale.parent)
    assert one["TF_CPP_MIN_LOG_LEVEL"] == "0"
    assert (one["FIRSTREAD_METRICS_PORT"], every["FIRSTREAD_METRICS_PORT"]) == ("0", "0"), "they cannot all have it"
    assert (one["OMP_NUM_THREADS"], every["OMP_NUM_THREADS"]) == ("1", str(os.cpu_count()))
    assert not Path(url.removeprefix("redis+socket://")).exists()


def test_gauges_of_the_dead_are_forgotten_their_counts_are_not(tmp_path: Path) -> None:
    code = (
        "from prometheus_client import Counter, Gauge\n"
        "Gauge('firstread_g', 'g', multiprocess_mode='livemostrecent').set(1)\n"
        "Counter('firstread_c', 'c').inc()\n"
    )
    supervisor = Supervisor(settings(tmp_path), services=[Service("measured", python(code))], restart=Restart(60))
    metrics = tmp_path / "data" / "run" / "metrics"
    with capture_logs() as lines, supervisor:
        until(lambda: any(line["event"] == "service_ended" for line in lines))
        until(lambda: not list(metrics.glob("gauge_live*")))
        assert len(list(metrics.glob("counter_*.db"))) == 1


def test_logs_are_echoed_line_by_line_with_the_name_of_the_service(tmp_path: Path) -> None:
    echo = io.StringIO()
    speaks = ("/bin/sh", "-c", "echo first; echo second; exec sleep 600")
    with Supervisor(settings(tmp_path), services=[Service("speaker", speaks)], echo=echo):
        until(lambda: "second\n" in echo.getvalue())
    assert echo.getvalue().splitlines() == ["  speaker | first", "  speaker | second"]


@pytest.mark.parametrize(("port", "warned"), [(0, False), (9100, True)])
def test_a_metrics_port_that_nobody_will_serve_is_said(port: int, warned: bool, tmp_path: Path) -> None:
    with capture_logs() as lines, Supervisor(settings(tmp_path, metrics_port=port), services=[]):
        pass
    assert ("metrics_port_not_used" in [line["event"] for line in lines]) is warned


def test_the_logs_of_a_service_that_never_ends_stay_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "LOG_BYTES", 1000)
    echo = io.StringIO()
    speaks = ("/bin/sh", "-c", "n=0; while :; do n=$((n+1)); echo line $n; [ $((n % 50)) = 0 ] && sleep 0.05; done")
    with (
        capture_logs() as lines,
        Supervisor(settings(tmp_path), services=[Service("speaker", speaks)], echo=echo) as supervisor,
    ):
        until(lambda: echo.getvalue().count("\n") > 4000, seconds=30)
        kept = sorted(supervisor.logs_dir.iterdir())
        sizes = [path.stat().st_size for path in kept]
    assert [path.name for path in kept] == ["speaker.log", "speaker.log.1", "speaker.log.2", "speaker.log.3"]
    assert max(sizes[1:]) <= 2000
    assert [line["event"] for line in lines].count("service_started") == 1, "it goes on, undisturbed"


def test_a_log_that_cannot_be_put_aside_stops_nothing_and_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "LOG_BYTES", 10)
    blocked = tmp_path / "data" / "logs" / "speaker.log.new"
    blocked.mkdir(parents=True)
    echo = io.StringIO()
    speaks = ("/bin/sh", "-c", "while :; do echo again; sleep 0.05; done")
    with (
        capture_logs() as lines,
        Supervisor(settings(tmp_path), services=[Service("speaker", speaks)], echo=echo) as supervisor,
    ):
        until(lambda: echo.getvalue().count("again") > 20)
        assert supervisor.alive()
    warned = [line for line in lines if line["event"] == "log_not_put_aside"]
    assert [(line["name"], line["log_level"]) for line in warned] == [("speaker", "warning")]


class Closed(io.StringIO):
    """A terminal that is gone."""

    def write(self, _text: str) -> int:
        raise BrokenPipeError


def test_when_nobody_can_read_the_logs_any_more_everything_is_still_drained(tmp_path: Path) -> None:
    speaks = ("/bin/sh", "-c", "trap 'exit 0' TERM; while :; do echo again; sleep 0.05; done")
    services = [Service("one", speaks), Service("two", speaks)]
    supervisor = Supervisor(settings(tmp_path), services=services, echo=Closed())
    with capture_logs() as lines:
        supervisor.start()
        until(lambda: not supervisor.alive())
    assert isinstance(supervisor.failure, BrokenPipeError)
    assert supervisor.pids() == {}
    assert "supervisor_failed" in [line["event"] for line in lines]
    started = [line["pid"] for line in lines if line["event"] == "service_started"]
    assert started
    assert not any(exists(pid) for pid in started)
    with Supervisor(settings(tmp_path), services=[]):
        pass  # the data directory is free again


class Readyz(BaseHTTPRequestHandler):
    status = 503

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(b"no worker")

    def log_message(self, *_: object) -> None:
        """Quiet."""


def test_ready_means_both_addresses_and_a_worklist_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "data" / "run"
    with ThreadingHTTPServer(("127.0.0.1", 0), Readyz) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/"
        listener = {"pid": 1, "ae_title": "FIRSTREAD", "host": "127.0.0.1", "port": 11112}
        with Supervisor(settings(tmp_path), services=[]) as supervisor:
            with pytest.raises(StartError, match="listener has not said"):
                supervisor.wait_ready(0)
            (run / "listener.json").write_text(json.dumps(listener))
            with pytest.raises(StartError, match="worklist has not said"):
                supervisor.wait_ready(0)
            (run / "worklist.json").write_text(json.dumps({"pid": 1, "url": url}))
            with pytest.raises(StartError, match="503: no worker"):
                supervisor.wait_ready(0)
            monkeypatch.setattr(Readyz, "status", 200)
            found = supervisor.wait_ready(5)
            assert (str(found.listener), found.worklist_url) == ("FIRSTREAD@127.0.0.1:11112", url)
            assert supervisor._said.known_port("listener") == {"FIRSTREAD_DICOM_PORT": "11112"}
            assert supervisor._said.known_port("worklist") == {"FIRSTREAD_WEB_PORT": str(server.server_port)}
        server.shutdown()


def test_not_ready_in_time_names_the_service_that_keeps_dying(tmp_path: Path) -> None:
    with (
        capture_logs() as lines,
        Supervisor(settings(tmp_path), services=[Service("listener", python("exit(2)"))], restart=SOON) as supervisor,
    ):
        until(lambda: any(line["event"] == "service_ended" for line in lines))
        with pytest.raises(StartError, match=r"listener: exit code 2, see .*listener\.log"):
            supervisor.wait_ready(0)


def test_the_listener_reads_its_certificates_again_and_goes_on(tmp_path: Path) -> None:
    files = Authority(tmp_path / "ca").issue("firstread")
    log = tmp_path / "data" / "logs" / "listener.log"
    configured = settings(tmp_path, **certificates.settings(files))
    environment = {
        **os.environ,
        "FIRSTREAD_DICOM_PORT": "0",
        "FIRSTREAD_DICOM_PLAIN_PORT": "0",
        **{f"FIRSTREAD_{name.upper()}": str(value) for name, value in certificates.settings(files).items()},
    }
    services = default_services()[:1]
    with Supervisor(configured, services=services, environment=environment, restart=SOON) as supervisor:
        listener = supervisor.wait_listener()
        assert listener.tls
        pids = supervisor.pids()
        plain = supervisor._said.plain_port()
        assert supervisor._said.known_port("listener") == {
            "FIRSTREAD_DICOM_PORT": str(listener.port),
            "FIRSTREAD_DICOM_PLAIN_PORT": str(plain),
        }
        supervisor.reload()
        until(lambda: log.read_text().count('"certificate_in_force"') == 2)
        assert supervisor.pids() == pids


def test_up_takes_a_hangup_for_a_reload_while_its_terminal_is_there(tmp_path: Path) -> None:
    supervisor, stop = Supervisor(settings(tmp_path)), Event()
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = {number: signal.signal(number, signal.SIG_DFL) for number in numbers}
    try:
        _until_told(supervisor, stop)
        signal.raise_signal(signal.SIGHUP)
        assert supervisor._reload.is_set()
        assert not stop.is_set()
        with capture_logs():
            signal.raise_signal(signal.SIGTERM)
        assert stop.is_set()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
