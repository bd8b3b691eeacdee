"""Owed work on both databases: leases, fencing, backoff, quarantine, and many workers at once."""

import multiprocessing
import queue
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlmodel import select

from worker import schema
from worker.database import Database, WorkItem, WorkKind, WorkState
from worker.errors import LeaseLost
from worker.intake.work import Failure, Owed, Work

START = datetime(2026, 11, 21, 7, 30, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def tick(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def work(database_url: str, clock: Clock):
    database = Database(database_url)
    schema.migrate(database)
    yield Work(database, lease_seconds=30, max_attempts=3, clock=clock)
    database.dispose()


def owe(work: Work, count: int, lane: str = "m@1", first: int = 0) -> None:
    with work.database.write() as session:
        for number in range(first, first + count):
            work.owe(session, WorkKind.INFER, f"instance {number}", number, lane=lane, not_before=START)


def item(work: Work, subject: str = "instance 0") -> WorkItem:
    with work.database.read() as session:
        return session.exec(select(WorkItem).where(WorkItem.subject == subject)).one()


def test_claims_are_oldest_first_of_one_lane_and_counted(work: Work) -> None:
    owe(work, 5)
    owe(work, 2, lane="other@1", first=10)
    claims = work.claim(WorkKind.INFER, lane="m@1", limit=3)
    assert [claim.subject_id for claim in claims] == [0, 1, 2]
    assert {claim.attempts for claim in claims} == {1}
    assert [c.subject_id for c in work.claim(WorkKind.INFER, lane="m@1", limit=9)] == [3, 4]
    assert work.claim(WorkKind.INFER, lane="m@1", limit=9) == []
    assert item(work).state == WorkState.LEASED
    assert item(work).attempts == 1


def test_work_is_not_claimed_before_its_time(work: Work, clock: Clock) -> None:
    with work.database.write() as session:
        work.owe(session, WorkKind.REPORT, "study 1", 1, not_before=START + timedelta(seconds=10))
    assert work.claim(WorkKind.REPORT) == []
    clock.tick(10)
    assert len(work.claim(WorkKind.REPORT)) == 1


def test_finishing_needs_the_newest_token(work: Work, clock: Clock) -> None:
    owe(work, 1)
    (first,) = work.claim(WorkKind.INFER, lane="m@1")
    clock.tick(31)
    with work.database.write() as session:
        assert work.take_back(session) == 1
    (second,) = work.claim(WorkKind.INFER, lane="m@1")
    assert second.token > first.token
    with work.database.write() as session, pytest.raises(LeaseLost):
        work.finish(session, first)
    with work.database.write() as session:
        work.finish(session, second)
    assert item(work).state == WorkState.DONE
    with work.database.write() as session, pytest.raises(LeaseLost):
        work.put_off(session, second, "late")


def test_a_lease_that_has_not_ended_is_left_alone(work: Work, clock: Clock) -> None:
    owe(work, 1)
    work.claim(WorkKind.INFER, lane="m@1")
    clock.tick(29)
    with work.database.write() as session:
        work.take_back(session)
    assert item(work).state == WorkState.LEASED


def test_work_of_a_vanished_worker_is_claimed_singly_and_given_up_in_the_end(work: Work, clock: Clock) -> None:
    owe(work, 4)
    assert len(work.claim(WorkKind.INFER, lane="m@1", limit=4)) == 4
    clock.tick(31)
    with work.database.write() as session:
        assert work.take_back(session) == 4
        assert work.lost_for_good(session) == []
    seen: Counter[int] = Counter()
    for _ in range(20):
        claims = work.claim(WorkKind.INFER, lane="m@1", limit=4)
        if not claims:
            break
        assert len(claims) == 1, "suspects are never claimed together"
        seen[claims[0].subject_id] += 1
        if claims[0].subject_id == 2:  # the poison: its worker vanishes
            clock.tick(31)
            with work.database.write() as session:
                work.take_back(session)
        else:
            with work.database.write() as session:
                work.finish(session, claims[0])
    assert seen == {0: 1, 1: 1, 2: 2, 3: 1}
    with work.database.write() as session:
        (lost,) = work.lost_for_good(session)
        assert (lost.subject_id, lost.attempts) == (2, 3)
        assert "given up after 3 attempts" in work.give_up_lost(session, lost)
        assert work.give_up_lost(session, lost) == ""
    assert item(work, "instance 2").state == WorkState.QUARANTINED
    assert "vanished" in (item(work, "instance 2").last_error or "")


def test_a_suspect_is_claimed_without_its_neighbours(work: Work, clock: Clock) -> None:
    owe(work, 1)
    work.claim(WorkKind.INFER, lane="m@1")
    clock.tick(31)
    with work.database.write() as session:
        work.take_back(session)
    owe(work, 3, first=1)
    assert [claim.subject_id for claim in work.claim(WorkKind.INFER, lane="m@1", limit=4)] == [0]
    assert [claim.subject_id for claim in work.claim(WorkKind.INFER, lane="m@1", limit=4)] == [1, 2, 3]


def test_a_suspect_further_on_is_left_out_of_a_batch(work: Work, clock: Clock) -> None:
    owe(work, 3)
    claims = work.claim(WorkKind.INFER, lane="m@1", limit=2)
    with work.database.write() as session:
        work.put_off(session, claims[0], "", seconds=0.0)
    clock.tick(31)
    with work.database.write() as session:
        work.take_back(session)
    assert [claim.subject_id for claim in work.claim(WorkKind.INFER, lane="m@1", limit=4)] == [0, 2]
    assert [claim.subject_id for claim in work.claim(WorkKind.INFER, lane="m@1", limit=4)] == [1]


def test_of_a_batch_those_that_are_ours_are_ended_and_the_others_named(work: Work, clock: Clock) -> None:
    owe(work, 6)
    claims = work.claim(WorkKind.INFER, lane="m@1", limit=6)
    clock.tick(31)
    with work.database.write() as session:
        work.take_back(session)
    newer = [work.claim(WorkKind.INFER, lane="m@1")[0] for _ in range(3)]
    mixed = [*newer[:2], *claims[1:4]]
    with work.database.write() as session:
        assert work.finish_all(session, mixed) == {newer[0].id, newer[1].id}
    failures = [Failure(newer[2], "broken", final=True), Failure(claims[3], "late", final=False)]
    with work.database.write() as session:
        assert work.fail_all(session, failures) == {newer[2].id}
    states = [item(work, f"instance {number}").state for number in range(6)]
    assert states == ["done", "done", "quarantined", "owed", "owed", "owed"]
    assert item(work, "instance 3").last_error != "late"


def test_much_is_owed_at_once_as_each_by_itself(work: Work) -> None:
    owe(work, 4)
    done, given_up, held = work.claim(WorkKind.INFER, lane="m@1", limit=3)
    with work.database.write() as session:
        work.finish(session, done)
        work.quarantine(session, given_up, "no")
    later = START + timedelta(seconds=5)
    owed = [Owed(f"instance {number}", number, "m@1", later) for number in range(6)]
    with work.database.write() as session:
        work.owe_all(session, WorkKind.INFER, owed)
    found = [item(work, f"instance {number}") for number in range(6)]
    assert [one.state for one in found] == ["owed", "owed", "leased", "owed", "owed", "owed"]
    assert [one.not_before for one in found] == [later, later, START, later, later, later]
    assert [one.attempts for one in found] == [0, 0, 1, 0, 0, 0]
    assert [(one.last_error, one.finished_at) for one in found] == [(None, None)] * 6
    with work.database.write() as session:
        work.finish(session, held)


def test_putting_off_grows_and_may_cost_no_attempt(work: Work, clock: Clock) -> None:
    owe(work, 1)
    delays = []
    for _ in range(8):
        (claim,) = work.claim(WorkKind.INFER, lane="m@1")
        assert claim.attempts == 1
        with work.database.write() as session:
            until = work.put_off(session, claim, "PACS away", costs_attempt=False)
        delays.append((until - clock.now).total_seconds())
        clock.now = until
    assert delays == [1, 2, 4, 8, 16, 32, 60, 60]
    (claim,) = work.claim(WorkKind.INFER, lane="m@1")
    with work.database.write() as session:
        work.put_off(session, claim, "refused")
    assert item(work).attempts == 1
    assert item(work).last_error == "refused"


def test_owing_again_reopens_what_is_done_and_moves_what_waits(work: Work) -> None:
    owe(work, 1)
    later = START + timedelta(seconds=5)
    with work.database.write() as session:
        work.owe(session, WorkKind.INFER, "instance 0", 0, lane="m@1", not_before=later)
    assert item(work).not_before == later
    work.clock = lambda: later
    (claim,) = work.claim(WorkKind.INFER, lane="m@1")
    with work.database.write() as session:
        work.quarantine(session, claim, "no")
    assert (item(work).state, item(work).last_error) == (WorkState.QUARANTINED, "no")
    with work.database.write() as session:
        work.owe(session, WorkKind.INFER, "instance 0", 0, lane="m@1", not_before=later)
    assert (item(work).state, item(work).attempts, item(work).last_error) == (WorkState.OWED, 0, None)


def test_a_lease_is_renewed_while_the_work_goes_on(database_url: str) -> None:
    database = Database(database_url)
    schema.migrate(database)
    work = Work(database, lease_seconds=1.0, max_attempts=3)
    owe(work, 1)
    claims = work.claim(WorkKind.INFER, lane="m@1")
    before = item(work).lease_until
    with work.kept(claims):
        deadline = time.monotonic() + 10
        while item(work).lease_until == before:
            assert time.monotonic() < deadline, "the lease was never renewed"
            time.sleep(0.02)
    database.dispose()


def _claim_all(url: str, done: "multiprocessing.Queue[list[int]]") -> None:
    database = Database(url)
    work = Work(database, lease_seconds=60, max_attempts=3)
    mine: list[int] = []
    while claims := work.claim(WorkKind.INFER, lane="m@1", limit=7):
        with database.write() as session:
            for claim in claims:
                work.finish(session, claim)
        mine += [claim.subject_id for claim in claims]
    done.put(mine)
    database.dispose()


def test_eight_processes_share_the_work_without_overlap(database_url: str, tmp_path: Path) -> None:
    database = Database(database_url)
    schema.migrate(database)
    work = Work(database, lease_seconds=60, max_attempts=3)
    owe(work, 1000)
    database.dispose()
    context = multiprocessing.get_context("spawn")
    done: multiprocessing.Queue[list[int]] = context.Queue()
    processes = [context.Process(target=_claim_all, args=(database_url, done)) for _ in range(8)]
    for process in processes:
        process.start()
    claimed: list[int] = []
    finished = 0
    while finished < len(processes):
        try:
            claimed += done.get(timeout=1)
            finished += 1
        except queue.Empty:
            assert not any(process.exitcode for process in processes), "one of them was told no by the database"
    for process in processes:
        process.join()
    assert sorted(claimed) == list(range(1000))
    assert [process.exitcode for process in processes] == [0] * 8
