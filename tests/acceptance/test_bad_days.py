"""Bad days, with real processes: what is accepted is never lost and never done twice."""

import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.conftest import RedisServer, start_postgres
from tests.support.journeys import assert_each_once, delivered, films
from tests.support.peers import Storescp, Valve
from tests.support.stack import Stack

pytestmark = pytest.mark.peer("storescu", "storescp")


def test_accepted_with_nothing_but_the_listener_then_drained(
    tmp_path: Path, redis_server: RedisServer, pacs: Storescp
) -> None:
    """Broker, intake, workers and PACS all away while scans are pushed."""
    with Stack(tmp_path / "data", redis_server.url, pacs=pacs.peer) as stack:
        redis_server.stop()
        stack.start("listener")
        assert stack.storescu(*films(tmp_path / "films", 6)) == 0
        stack.start("intake")
        stack.wait(lambda: stack.sums()["pending"] == 6, 30, "registration without a broker")
        redis_server.start()
        stack.start("inference", "delivery")
        stack.wait(lambda: stack.settled(6), 90, "classification")
        stack.wait(lambda: stack.listed()[0]["reports"] != [], 30, "reports")
        assert not delivered(stack, 1)
        pacs.start()
        stack.wait(lambda: delivered(stack, 6), 90, "delivery after the PACS came up")
        assert_each_once(stack, pacs, 6)
        assert set(stack.alive().values()) == {True}


def test_kill_9_of_everything_on_the_way(tmp_path: Path, redis_server: RedisServer, pacs: Storescp) -> None:
    """Each service is killed at least once while 12 studies go through; a frozen broker comes on top."""
    pacs.start()
    with Stack(tmp_path / "data", redis_server.url, pacs=pacs.peer) as stack:
        stack.start()
        files = films(tmp_path / "films", 12)
        assert stack.storescu(*files[:4]) == 0
        stack.kill("inference")
        stack.start("inference")
        redis_server.freeze()
        before = time.monotonic()
        assert stack.storescu(*files[4:8]) == 0
        assert time.monotonic() - before < 10, "a frozen broker must not stand in the way of the sender"
        redis_server.thaw()
        stack.kill("intake")
        stack.kill("delivery")
        stack.kill("listener")
        stack.start("listener", "intake", "delivery")
        assert stack.storescu(*files[8:]) == 0
        stack.wait(lambda: stack.sums()["accepted"] == 12, 60, "registration")
        stack.kill("inference")
        stack.start("inference")
        stack.wait(lambda: stack.settled(12), 120, "classification")
        stack.wait(lambda: delivered(stack, 12), 90, "delivery")
        assert_each_once(stack, pacs, 12)


def test_broker_pacs_and_intake_go_away_while_one_association_pushes(
    tmp_path: Path, redis_server: RedisServer, pacs: Storescp
) -> None:
    """All three end in the middle of an object, scans come in while they are away, and they return in the middle."""
    pacs.start()
    with Stack(tmp_path / "data", redis_server.url, pacs=pacs.peer) as stack, Valve(stack.port) as valve:
        stack.start()
        files = films(tmp_path / "films", 20)
        third = sum(file.stat().st_size for file in files) // 3
        valve.open(third)
        with stack.pushing(*files, port=valve.port) as push:
            valve.wait_shut()
            stack.stop("intake")
            pacs.stop()
            redis_server.stop()
            before = stack.json("reconcile")["accepted"]
            valve.open(third)
            valve.wait_shut()
            assert 0 < before < stack.json("reconcile")["accepted"] < 20, "accepted while they were away"
            pacs.start()
            redis_server.start()
            stack.start("intake")
            assert push.poll() is None, "the association is the one of before"
            valve.open()
            assert push.wait(60) == 0, "storescu had success for all 20"
        stack.wait(lambda: stack.settled(20), 120, "classification")
        stack.wait(lambda: delivered(stack, 20), 90, "delivery")
        assert_each_once(stack, pacs, 20)
        assert set(stack.alive().values()) == {True}


def test_a_broker_that_lost_everything_is_no_loss(tmp_path: Path, redis_server: RedisServer, pacs: Storescp) -> None:
    pacs.start()
    with Stack(tmp_path / "data", redis_server.url, pacs=pacs.peer) as stack:
        stack.start("listener", "intake")
        assert stack.storescu(*films(tmp_path / "films", 3)) == 0
        stack.wait(lambda: stack.sums()["pending"] == 3, 30, "registration")
        redis_server.stop(signal.SIGKILL)
        for path in redis_server.directory.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        redis_server.start()
        stack.start("inference", "delivery")
        stack.wait(lambda: delivered(stack, 3), 120, "delivery")
        assert_each_once(stack, pacs, 3)


def test_the_database_goes_away_while_scans_come_in(
    tmp_path: Path, short_dir: Path, redis_server: RedisServer, pacs: Storescp
) -> None:
    """A PostgreSQL of the test's own is stopped at once (as a crash stops it) and started again."""
    server = start_postgres(short_dir / "pg")
    pacs.start()
    try:
        with Stack(tmp_path / "data", redis_server.url, pacs=pacs.peer, database_url=server.get_uri()) as stack:
            refused = stack.run("studies")
            assert refused.returncode == 1
            assert "firstread migrate" in refused.stderr
            assert stack.run("migrate").returncode == 0
            stack.start()
            files = films(tmp_path / "films", 6)
            assert stack.storescu(*files[:2]) == 0
            stack.wait(lambda: stack.settled(2), 90, "the first scans")
            os.kill(server.get_pid(), signal.SIGQUIT)
            stack.wait(lambda: stack.run("studies").returncode == 1, 20, "the database to be gone")
            assert stack.storescu(*files[2:]) == 0
            server.ensure_postgres_running()
            stack.wait(lambda: stack.settled(6), 120, "what was accepted meanwhile")
            stack.wait(lambda: delivered(stack, 6), 60, "delivery")
            assert_each_once(stack, pacs, 6)
            assert set(stack.alive().values()) == {True}
    finally:
        server.cleanup()
