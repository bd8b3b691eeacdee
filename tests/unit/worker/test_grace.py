"""A database that stood still costs no worker that lived its lease, on both databases."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlmodel import select

from tests.support.fakes import make_pipeline
from worker.database import WorkItem, WorkKind, WorkState
from worker.intake.grace import Grace
from worker.pipeline import Pipeline

START = datetime(2026, 11, 21, 7, 30, tzinfo=UTC)
LEASE = 30.0


class Time:
    """Both clocks, which a database that stands still lets pass."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds

    def utc(self) -> datetime:
        return START + timedelta(seconds=self.seconds)


@pytest.fixture
def passing() -> Time:
    return Time()


@pytest.fixture
def pipeline(database_url: str, tmp_path: Path, passing: Time):
    made = make_pipeline(database_url, tmp_path)
    made.work.clock = passing.utc
    made.work.lease = timedelta(seconds=LEASE)
    made.grace = Grace(LEASE, passing.monotonic)
    with made.database.write() as session:
        made.work.owe(session, WorkKind.DELIVER, "delivery 1", 1, not_before=START)
    yield made
    made.database.dispose()


def state(pipeline: Pipeline) -> tuple[str, int]:
    with pipeline.database.read() as session:
        item = session.exec(select(WorkItem)).one()
    return item.state, item.lost_leases


@pytest.mark.parametrize("step", ["mind_the_clock", "take_back", "lost_for_good"])
def test_a_sweep_that_had_to_wait_takes_nothing_until_workers_could_renew(
    pipeline: Pipeline, passing: Time, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    pipeline.work.max_attempts = 1 if step == "lost_for_good" else 3
    pipeline.work.claim(WorkKind.DELIVER)
    original = getattr(pipeline.work, step)

    def stand_still(*arguments: object) -> object:
        done = original(*arguments)
        passing.seconds += LEASE + 10
        return done

    with monkeypatch.context() as patched:
        patched.setattr(pipeline.work, step, stand_still)
        pipeline.sweep()
    pipeline.sweep()
    assert state(pipeline) == (WorkState.LEASED, 0)
    passing.seconds += LEASE
    if step != "lost_for_good":  # giving up needs the delivery's row: that a worker vanished is seen all the same
        pipeline.sweep()
        assert state(pipeline) == (WorkState.OWED, 1)


def test_a_database_that_is_always_slow_does_not_keep_what_vanished_workers_held(passing: Time) -> None:
    grace = Grace(LEASE, passing.monotonic)
    held: list[bool] = []
    for _ in range(30):
        with grace.watch():
            passing.seconds += LEASE / 2
        held.append(grace.holds())
        passing.seconds += LEASE / 2
        held.append(grace.holds())
    assert 0 < sum(held) < len(held) / 2
