"""Wake-ups over a real Redis: hints, few of them, and a broker that is away stands in nobody's way."""

import json
import os
import subprocess
import sys
import time

import pytest
import redis
from celery import Celery

from tests.conftest import RedisServer
from worker.database import WorkKind
from worker.wakeups import BATCH, MOST, Wakeups, hints, queue_of


@pytest.fixture
def app(redis_server: RedisServer) -> Celery:
    made = Celery("test", broker=redis_server.url)
    made.conf.broker_transport_options = {"socket_connect_timeout": 1, "socket_timeout": 1}
    return made


def waiting(server: RedisServer, queue: str) -> list[bytes]:
    with redis.Redis(unix_socket_path=str(server.socket)) as client:
        return client.lrange(queue, 0, -1)


def test_queues() -> None:
    assert queue_of("infer", "chest@1.0.0") == "inference.chest@1.0.0"
    assert queue_of("report", "") == queue_of("deliver", "PACS@h:1") == "delivery"


def test_a_hint_names_the_task_and_the_model(app: Celery, redis_server: RedisServer) -> None:
    assert Wakeups(app).send({"inference.chest@1.0.0", "delivery"})
    (message,) = waiting(redis_server, "inference.chest@1.0.0")
    assert json.loads(message)["headers"]["task"] == "firstread.inference"
    assert json.loads(message)["headers"]["argsrepr"] == "['chest@1.0.0']"
    (message,) = waiting(redis_server, "delivery")
    assert json.loads(message)["headers"]["task"] == "firstread.delivery"


def test_hints_do_not_pile_up_while_no_worker_takes_them(app: Celery, redis_server: RedisServer) -> None:
    wakeups = Wakeups(app)
    for _ in range(10):
        wakeups.send({"delivery"})
    assert len(waiting(redis_server, "delivery")) == 1


def test_a_backlog_wakes_as_many_workers_as_there_are_batches_at_once(app: Celery, redis_server: RedisServer) -> None:
    wakeups = Wakeups(app)
    wakeups.send({"inference.chest@1": 5, "inference.other@1": 10_000})
    assert len(waiting(redis_server, "inference.chest@1")) == 5
    assert len(waiting(redis_server, "inference.other@1")) == MOST
    with redis.Redis(unix_socket_path=str(redis_server.socket)) as client:
        client.lpop("inference.chest@1", 2)
    wakeups.send({"inference.chest@1": 4, "inference.other@1": 10_000})
    assert len(waiting(redis_server, "inference.chest@1")) == 4
    assert len(waiting(redis_server, "inference.other@1")) == MOST


def test_a_hint_is_worth_a_batch_of_images_and_a_destination() -> None:
    due = [
        (WorkKind.INFER, "chest@1", 1),
        (WorkKind.INFER, "other@1", 2 * BATCH + 1),
        (WorkKind.DELIVER, "PACS@h:1", 500),
        (WorkKind.DELIVER, "ARCHIVE@h:1", 1),
        (WorkKind.REPORT, "", 9),
    ]
    assert hints(due) == {"inference.chest@1": 1, "inference.other@1": 3, "delivery": 3}


def test_no_broker_configured_is_no_error() -> None:
    assert not Wakeups(None).send({"delivery"})


def test_a_broker_that_is_away_is_said_once_and_not_waited_for(
    app: Celery, redis_server: RedisServer, capfd: pytest.CaptureFixture[str]
) -> None:
    redis_server.stop()
    wakeups = Wakeups(app)
    started = time.monotonic()
    for _ in range(50):
        assert not wakeups.send({"delivery"})
    assert time.monotonic() - started < 10
    redis_server.start()
    wakeups._try_again = 0.0
    assert wakeups.send({"delivery"})
    said = "".join(capfd.readouterr())
    assert said.count("broker_away") == 1
    assert said.count("broker_back") == 1


def test_the_connection_of_the_last_hint_is_used_again_and_survives_a_restart_of_the_broker(
    app: Celery, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    opened: list[object] = []
    connect = app.connection
    monkeypatch.setattr(app, "connection", lambda **how: opened.append(how) or connect(**how))
    wakeups = Wakeups(app)
    for _ in range(5):
        assert wakeups.send({"delivery"})
    assert len(opened) == 1
    redis_server.stop()
    redis_server.start()
    assert wakeups.send({"delivery"})
    assert len(waiting(redis_server, "delivery")) == 1
    assert "broker_away" not in "".join(capfd.readouterr())


def test_a_frozen_broker_is_given_up_after_seconds(app: Celery, redis_server: RedisServer) -> None:
    wakeups = Wakeups(app)
    assert wakeups.send({"delivery"})
    redis_server.freeze()
    started = time.monotonic()
    assert not wakeups.send({"delivery"})
    assert time.monotonic() - started < 8
    redis_server.thaw()
    wakeups._try_again = 0.0
    assert wakeups.send({"delivery"})


FROZEN = """
import time
from worker.celery_app import app
from worker.wakeups import Wakeups
wakeups = Wakeups(app)
started = time.monotonic()
taken = wakeups.send({"delivery"})
print(taken, time.monotonic() - started < 8)
"""


def test_the_settings_of_our_own_application_give_a_frozen_broker_up(redis_server: RedisServer) -> None:
    environment = {**os.environ, "FIRSTREAD_BROKER_URL": redis_server.url}
    redis_server.freeze()
    try:
        done = subprocess.run(
            [sys.executable, "-c", FROZEN], env=environment, capture_output=True, text=True, timeout=60, check=True
        )
    finally:
        redis_server.thaw()
    assert done.stdout.splitlines()[-1] == "False True"


def test_nothing_to_hint_at_does_not_trouble_the_broker(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    """Intake looks at its spool twenty times a second; an empty look must not open a connection each time."""

    def connect(**_: object) -> None:
        raise AssertionError("it connected")

    monkeypatch.setattr(app, "connection", connect)
    assert Wakeups(app).send(set())
