"""Metrics served: at a port of their own, or not at all; never a reason to end."""

import socket
import urllib.request

import pytest
from structlog.testing import capture_logs

from worker import metrics


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def test_they_are_served_where_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    started = []
    start = metrics.start_http_server
    monkeypatch.setattr(metrics, "start_http_server", lambda *a, **k: started.append(start(*a, **k)))
    port = free_port()
    with capture_logs() as lines:
        metrics.serve(port)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as response:
        assert b"firstread_store_seconds" in response.read()
    ((server, thread),) = started
    server.shutdown()
    server.server_close()
    thread.join()
    assert lines == []


def test_port_0_means_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "start_http_server", lambda *_, **__: pytest.fail("nothing was to be served"))
    metrics.serve(0)


def test_a_port_that_is_taken_is_said_and_the_service_goes_on() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, capture_logs() as lines:
        port = taken.getsockname()[1]
        metrics.serve(port)
    (line,) = lines
    assert (line["event"], line["log_level"], line["port"]) == ("metrics_not_served", "warning", port)
    assert "in use" in line["error"]
    assert "FIRSTREAD_METRICS_PORT" in line["fix"]
