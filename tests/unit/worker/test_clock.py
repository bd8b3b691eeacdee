"""A clock that was stepped back: nothing waits for the moment that it showed before, on both databases."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.fakes import MODEL, FakeClassifier, FakeReader, make_pipeline
from tests.support.objects import film, spool_object
from worker import schema
from worker.database import Database, WorkKind, utc_now
from worker.intake.work import LONGEST_RETRY_SECONDS, Work

START = datetime(2026, 11, 21, 7, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)
LEASE = timedelta(seconds=30)
LONGEST = timedelta(seconds=LONGEST_RETRY_SECONDS)


class Clock:
    now = START

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def work(database_url: str, clock: Clock):
    database = Database(database_url)
    schema.migrate(database)
    made = Work(database, lease_seconds=LEASE.total_seconds(), max_attempts=3, clock=clock)
    with database.write() as session:
        made.owe(session, WorkKind.DELIVER, "delivery 1", 1, not_before=START)
    yield made
    database.dispose()


def mind(work: Work) -> int:
    with work.database.write() as session:
        return work.mind_the_clock(session, LONGEST)


def test_a_lease_ends_after_a_lease_and_not_an_hour_later(work: Work, clock: Clock) -> None:
    work.claim(WorkKind.DELIVER)
    assert mind(work) == 0
    clock.now -= HOUR
    assert mind(work) == 1
    assert mind(work) == 0
    with work.database.write() as session:
        assert work.take_back(session) == 0, "its worker has as long as any to say that it lives"
    clock.now += LEASE + timedelta(seconds=1)
    with work.database.write() as session:
        assert work.take_back(session) == 1


def test_what_changed_while_it_waited_for_the_lock_was_not_stepped_back(work: Work) -> None:
    (claim,) = work.claim(WorkKind.DELIVER)
    for step in ("a lease that was renewed", "work that was put off"):
        readings = iter([START - timedelta(seconds=0.2), START])
        with work.database.write() as session:
            work.clock = readings.__next__
            assert work.mind_the_clock(session, LONGEST) == 0, step
            work.clock = lambda: START
            if step == "a lease that was renewed":
                work.put_off(session, claim, "the PACS is away", seconds=LONGEST_RETRY_SECONDS)


def test_what_was_put_off_is_due(work: Work, clock: Clock) -> None:
    (claim,) = work.claim(WorkKind.DELIVER)
    with work.database.write() as session:
        work.put_off(session, claim, "the PACS is away", seconds=LONGEST_RETRY_SECONDS, costs_attempt=False)
    assert mind(work) == 0
    assert work.claim(WorkKind.DELIVER) == []
    clock.now -= HOUR
    assert mind(work) == 1
    assert len(work.claim(WorkKind.DELIVER)) == 1


def test_a_scan_that_was_accepted_before_the_step_is_read_and_reported_after_it(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = make_pipeline(database_url, tmp_path, quiet_seconds=0.5)
    ahead = time.time_ns() + 3600 * 10**9
    with monkeypatch.context() as patched:
        patched.setattr("worker.intake.spool.time.time_ns", lambda: ahead)
        spool_object(pipeline.spool, film())
    pipeline.register_arrivals()
    assert pipeline.infer(MODEL, FakeClassifier(), FakeReader()) == 1  # type: ignore[arg-type]
    with pipeline.database.read() as session:
        (owed,) = [one for one in pipeline.work.pending(session) if one.kind == WorkKind.REPORT]
    assert owed.count == 1
    deadline = time.monotonic() + 30
    while pipeline.report() == 0:
        assert time.monotonic() < deadline, "the report waits for an hour that has been already"
        time.sleep(0.05)
    pipeline.database.dispose()


def test_the_sweep_minds_the_clock(database_url: str, tmp_path: Path) -> None:
    pipeline = make_pipeline(database_url, tmp_path)
    with pipeline.database.write() as session:
        pipeline.work.owe(session, WorkKind.DELIVER, "delivery 1", 1, not_before=utc_now() + HOUR)
    pipeline.sweep()
    with pipeline.database.read() as session:
        assert [one.kind for one in pipeline.work.due(session)] == [WorkKind.DELIVER]
    pipeline.database.dispose()
