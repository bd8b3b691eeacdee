"""Workers that die where it hurts most: in the middle of a batch, of what they read, with a message in hand."""

from pathlib import Path

import pytest
import redis

from tests.conftest import RedisServer
from tests.support.faulty_worker import MARK
from tests.support.journeys import assert_each_once, assert_reports_held, delivered, films
from tests.support.peers import Storescp
from tests.support.stack import Stack

pytestmark = pytest.mark.peer("storescu", "storescp")

LEASE_SECONDS = 3


def test_kill_9_in_the_middle_of_a_batch(tmp_path: Path, redis_server: RedisServer, counting_pacs: Storescp) -> None:
    """The worker holds six studies and has read three of them when it dies; nothing of it counts, nothing is lost."""
    reached = tmp_path / "reached"
    with Stack(tmp_path / "data", redis_server.url, pacs=counting_pacs.peer, lease_seconds=LEASE_SECONDS) as stack:
        stack.start("listener", "intake", "delivery")
        assert stack.storescu(*films(tmp_path / "films", 6, marked=(3, MARK))) == 0
        stack.wait(lambda: stack.sums()["pending"] == 6, 30, "registration")
        stack.start_faulty("inference", "hold", reached)
        stack.wait(reached.exists, 60, "the worker to be in the middle of its batch")
        assert stack.work("infer") == [("leased", 1)] * 6
        stack.kill("inference")
        assert stack.work("infer") == [("leased", 1)] * 6, "it died with the whole batch in hand"
        assert [study["reports"] for study in stack.studies()] == [[]] * 6
        stack.start("inference")
        stack.wait(lambda: stack.settled(6), 90, "classification by another worker")
        stack.wait(lambda: delivered(stack, 6), 60, "delivery")
        assert stack.work("infer") == [("done", 2)] * 6, "each once in vain and once for good"
        assert_each_once(stack, counting_pacs, 6)


@pytest.mark.timeout(900)  # the worker is started four times, each time with its models
def test_an_input_that_kills_its_worker_is_given_up_and_its_neighbours_are_not(
    tmp_path: Path, redis_server: RedisServer, counting_pacs: Storescp
) -> None:
    """The worker is started again each time it dies, as a supervisor does."""
    attempts, witness = 3, tmp_path / "deaths"
    with Stack(
        tmp_path / "data",
        redis_server.url,
        pacs=counting_pacs.peer,
        lease_seconds=LEASE_SECONDS,
        max_attempts=attempts,
    ) as stack:
        stack.start("listener", "intake", "delivery")
        assert stack.storescu(*films(tmp_path / "films", 5, marked=(2, MARK))) == 0
        stack.wait(lambda: stack.sums()["pending"] == 5, 30, "registration")
        for number in range(1, attempts + 1):
            stack.start_faulty("inference", "poison", witness)
            stack.wait(lambda: stack.has_died("inference"), 180, f"death {number}")
        stack.start_faulty("inference", "poison", witness)
        stack.wait(
            lambda: stack.has_died("inference") or stack.settled(5),
            180,
            "the poison to be given up and its neighbours to be classified",
        )
        assert len(witness.read_text().split()) == attempts, "so often did the worker die, and no more"
        (given_up,) = stack.json("quarantine", "list")
        assert (given_up["kind"], given_up["attempts"]) == ("infer", attempts)
        assert "vanished" in given_up["last_error"]
        studies = {study["patient_id"]: study for study in stack.studies()}
        poisoned = studies.pop(MARK)
        assert poisoned["ai_status"] == "failed"
        assert given_up["study_instance_uid"] == poisoned["study_instance_uid"]
        assert "vanished" in poisoned["reason"]
        assert [study["ai_status"] for study in studies.values()] == ["complete"] * 4
        assert stack.alive()["inference"], "the last one that was started lives"
        stack.wait(lambda: delivered(stack, 5), 60, "the reports, with that of the failure")
        assert_reports_held(stack, counting_pacs, 5)


def test_a_message_that_dies_with_its_worker_is_not_missed(
    tmp_path: Path, redis_server: RedisServer, counting_pacs: Storescp
) -> None:
    """The only hint there is vanishes between Redis and the worker: the rows are found by the next sweep."""
    with (
        Stack(tmp_path / "data", redis_server.url, pacs=counting_pacs.peer) as stack,
        redis.Redis(unix_socket_path=str(redis_server.socket), decode_responses=True) as broker,
    ):
        stack.start("listener", "intake")
        assert stack.storescu(*films(tmp_path / "films", 3)) == 0
        stack.wait(lambda: stack.sums()["pending"] == 3, 30, "registration")
        stack.wait(lambda: broker.keys("inference.*") != [], 10, "a hint")
        stack.stop("intake")
        (queue,) = broker.keys("inference.*")
        broker.ltrim(queue, 0, 0)
        stack.start_faulty("inference", "lose-message", tmp_path / "inference-struck")
        stack.wait(lambda: stack.has_died("inference"), 60, "the worker to die with the message in hand")
        assert (tmp_path / "inference-struck").exists()
        assert not broker.exists(queue, "unacked"), "the message is nowhere any more"
        assert stack.work("infer") == [("owed", 0)] * 3
        stack.start_faulty("delivery", "lose-message", tmp_path / "delivery-struck")
        stack.start("inference", "intake")
        stack.wait(lambda: stack.has_died("delivery"), 90, "the delivery worker to die with a message in hand")
        assert (tmp_path / "delivery-struck").exists()
        stack.start("delivery")
        stack.wait(lambda: delivered(stack, 3), 90, "delivery")
        assert_each_once(stack, counting_pacs, 3)
