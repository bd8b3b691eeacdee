"""When retention runs: by itself, once a day and while space is short, and again after an error."""

import pytest
from sqlmodel import select

from tests.support.backups import work_off
from tests.support.retention import arrive, instances, retention
from worker.database import Instance, utc_now
from worker.pipeline import Pipeline
from worker.retention.timetable import Timetable


def test_it_runs_by_itself_once_a_day_and_when_space_is_short(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr("worker.retention.timetable.time.monotonic", lambda: now[0])
    rule = retention(pipeline)
    timetable = Timetable(rule)
    arrive(pipeline)
    work_off(pipeline)
    timetable.turn()
    assert list(pipeline.spool.filed()) == []
    arrive(pipeline)
    work_off(pipeline)
    timetable.turn()
    assert len(list(pipeline.spool.filed())) == 1
    now[0] += 86_400
    timetable.turn()
    assert list(pipeline.spool.filed()) == []
    arrive(pipeline)
    work_off(pipeline)
    rule.floor_bytes = 1 << 60
    timetable.turn()
    assert list(pipeline.spool.filed()) == []


def away() -> bool:
    raise OSError("the disk is gone")


def test_a_run_that_an_error_ended_is_begun_again_at_the_next_turn(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = retention(pipeline)
    timetable = Timetable(rule)
    with monkeypatch.context() as patch:
        patch.setattr(rule, "is_short", away)
        with pytest.raises(OSError, match="gone"):
            timetable.turn()
    arrive(pipeline)
    work_off(pipeline)
    timetable.turn()
    assert list(pipeline.spool.filed()) == []


def test_what_was_begun_is_finished_though_retention_is_off_by_now(pipeline: Pipeline) -> None:
    arrive(pipeline)
    work_off(pipeline)
    with pipeline.database.write() as session:
        (instance,) = session.exec(select(Instance)).all()
        instance.removal_began_at = utc_now()
        session.add(instance)
    Timetable(retention(pipeline, days=0)).turn()
    assert list(pipeline.spool.filed()) == []
    assert instances(pipeline)[0].bytes_removed_at is not None
