"""RabbitMQ as the broker: the same journey, and a broker that comes late."""

import os
import signal
import time
from pathlib import Path

import pytest
from celery import Celery

from tests.support.objects import film, save
from tests.support.peers import RabbitMq
from tests.support.stack import Stack
from worker.wakeups import Wakeups

pytestmark = pytest.mark.peer("storescu", "rabbitmq-server")


def test_scans_are_read_with_rabbitmq_which_may_restart(tmp_path: Path) -> None:
    films = [save(film(PatientID=f"P{n}"), tmp_path / f"{n}.dcm") for n in range(4)]
    with RabbitMq(tmp_path / "rabbit") as broker, Stack(tmp_path / "data", broker.url) as stack:
        stack.start()
        assert stack.storescu(*films[:2]) == 0
        stack.wait(lambda: stack.settled(2), 90, "the first two")
        stack.wait(lambda: all(study["reports"] for study in stack.listed()), 60, "their reports")  # nobody is at work
        broker.stop()
        assert stack.storescu(*films[2:]) == 0
        broker.start()
        stack.wait(lambda: stack.settled(4), 120, "the others, after the broker came back")
        assert [study["ai_status"] for study in stack.studies()] == ["complete"] * 4
        stack.wait(lambda: all(study["reports"] for study in stack.listed()), 60, "the reports")
        assert set(stack.alive().values()) == {True}


def test_a_rabbitmq_that_freezes_after_a_hint_is_given_up_after_seconds(tmp_path: Path) -> None:
    with RabbitMq(tmp_path / "rabbit") as broker:
        wakeups = Wakeups(Celery("test", broker=broker.url))
        deadline = time.monotonic() + 60
        while not wakeups.send({"delivery"}):  # its port answers before it does
            wakeups._try_again = 0.0
            assert time.monotonic() < deadline
        assert broker.process is not None
        os.killpg(broker.process.pid, signal.SIGSTOP)
        started = time.monotonic()
        assert not wakeups.send({"delivery"})
        assert time.monotonic() - started < 20
        os.killpg(broker.process.pid, signal.SIGCONT)
        wakeups._try_again = 0.0
        assert wakeups.send({"delivery"})
        wakeups.close()
