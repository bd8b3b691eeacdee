"""How the Celery workers are started: what classifies has one process and one thread, what waits for peers has many."""

import os
import sys
from types import SimpleNamespace

import pytest

import worker
from worker.commands import services


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The command lines that Celery is given, and what was warmed before; nothing is started."""
    lines: list[list[str]] = []
    runtime = SimpleNamespace(pipeline=None, warm_up=lambda models: lines.append(["warmed", *models]))
    celery_app = SimpleNamespace(
        app=SimpleNamespace(worker_main=lines.append), stopping=SimpleNamespace(is_set=lambda: True)
    )
    for name, stand_in in {"tasks": SimpleNamespace(runtime=runtime), "celery_app": celery_app}.items():
        monkeypatch.setattr(worker, name, stand_in, raising=False)
        monkeypatch.setitem(sys.modules, f"worker.{name}", stand_in)  # type: ignore[arg-type]
    monkeypatch.setenv("FIRSTREAD_BROKER_URL", "redis://127.0.0.1:1")
    monkeypatch.setattr(services, "_start", lambda _: services.load_settings())
    monkeypatch.setattr(services, "_models", lambda *_: (["chest@1"], ["chest@1"]))
    return lines


def test_what_classifies_is_one_process_that_was_warmed_before_it_takes_work(started: list[list[str]]) -> None:
    services.worker("inference", concurrency=4)
    warmed, line = started
    assert warmed == ["warmed", "chest@1"]
    assert line[line.index("--pool") + 1] == "solo"
    assert "--concurrency" not in line


def test_what_delivers_waits_for_peers_in_threads(started: list[list[str]]) -> None:
    services.worker("delivery", concurrency=3)
    (line,) = started
    assert line[line.index("--pool") + 1] == "threads"
    assert line[line.index("--concurrency") + 1] == "3"


def test_a_device_is_the_only_one_that_a_worker_sees(started: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    services.worker("inference", concurrency=1, device="1")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "1"
