"""Finished work is removed after a while; everything that read its rows says and does the same without them."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import sqlalchemy as sa
from sqlmodel import col, select

from tests.support.backups import work_off
from tests.support.fakes import MODEL, FakeClassifier, FakeReader, make_pipeline
from tests.support.objects import film, spool_object
from worker.audit.export import Selection, events
from worker.config import Peer
from worker.database import Delivery, Instance, Prediction, Report, Study, WorkItem, WorkKind, WorkState, utc_now
from worker.operations import quarantine_list, quarantine_retry, reprocess, resend
from worker.pipeline import Pipeline
from worker.reconcile import reconcile
from worker.reporting import pacs
from worker.retention import finished_work
from worker.retention.finished_work import FinishedWork
from worker.retention.removal import Retention
from worker.retention.timetable import Timetable

PACS = Peer.parse("PACS@192.0.2.1:104")
LATER = timedelta(days=40)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the PACS was sent."""
    taken: list[str] = []

    def deliver(path: Path, *_: Any, **__: Any) -> pacs.Delivered:
        taken.append(str(pydicom.dcmread(path).SOPInstanceUID))
        return pacs.Delivered(sop_class_uid="1.2", status=0, warning=None)

    monkeypatch.setattr(pacs, "deliver", deliver)
    return taken


@pytest.fixture
def pipeline(database_url: str, tmp_path: Path, sent: list[str]) -> Iterator[Pipeline]:
    made = make_pipeline(database_url, tmp_path, destinations=[PACS])
    yield made
    made.database.dispose()


def arrive(pipeline: Pipeline, **attributes: Any) -> pydicom.Dataset:
    ds = film(np.full((16, 16), 3000, np.uint16), **attributes)
    spool_object(pipeline.spool, ds)
    return ds


def rows(pipeline: Pipeline, table: Any) -> list[Any]:
    with pipeline.database.read() as session:
        return list(session.exec(select(table).order_by(table.id)).all())


def work(pipeline: Pipeline) -> list[tuple[str, str]]:
    return [(item.kind, item.state) for item in rows(pipeline, WorkItem)]


def unaccounted(pipeline: Pipeline) -> list[dict[str, str]]:
    return reconcile(pipeline.database, pipeline.spool, pipeline.reports.reports_dir, verify=True).unaccounted


def forget(pipeline: Pipeline, *, days: int = 30, later: timedelta = LATER) -> int:
    """Remove the rows of finished work; the newest row, which stays, is one of nothing."""
    with pipeline.database.write() as session:
        pipeline.work.owe(session, WorkKind.COMMIT, "the newest", 0, lane="nobody", not_before=utc_now() + LATER)
    removed = sum(FinishedWork(pipeline.database, days=days, clock=lambda: utc_now() + later).run())
    with pipeline.database.write() as session:
        session.execute(sa.delete(WorkItem).where(col(WorkItem.subject) == "the newest"))
    return removed


def test_what_is_done_goes_when_it_is_old_enough(pipeline: Pipeline) -> None:
    arrive(pipeline)
    work_off(pipeline)
    assert sorted(work(pipeline)) == [("deliver", "done"), ("infer", "done"), ("report", "done")]
    assert forget(pipeline, later=timedelta(days=29)) == 0
    assert forget(pipeline, days=0) == 0
    assert forget(pipeline) == 3
    assert work(pipeline) == []
    assert unaccounted(pipeline) == []


def test_what_is_owed_held_or_given_up_stays_whatever_its_age(pipeline: Pipeline) -> None:
    broken = film()
    broken.PixelData = b"\0\0"
    spool_object(pipeline.spool, broken)
    work_off(pipeline)
    arrive(pipeline)
    arrive(pipeline)
    pipeline.register_arrivals()
    pipeline.work.claim(WorkKind.INFER, lane=MODEL)
    forget(pipeline)
    states = {state for kind, state in work(pipeline) if kind == "infer"}
    assert states == {WorkState.OWED, WorkState.LEASED, WorkState.QUARANTINED}


def test_the_newest_row_stays_so_that_no_number_is_given_twice(pipeline: Pipeline) -> None:
    arrive(pipeline)
    work_off(pipeline)
    newest = rows(pipeline, WorkItem)[-1].id
    sum(FinishedWork(pipeline.database, days=30, clock=lambda: utc_now() + LATER).run())
    assert [item.id for item in rows(pipeline, WorkItem)] == [newest]


def test_many_rows_go_in_batches_and_what_must_stay_holds_nobody_up(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finished_work, "BATCH", 2)
    for _ in range(4):
        arrive(pipeline)
    pipeline.register_arrivals()
    pipeline.infer(MODEL, FakeClassifier(), FakeReader())  # type: ignore[arg-type]
    first = rows(pipeline, Instance)[:3]
    with pipeline.database.write() as session:  # done without a prediction: the row alone says what it was given to
        session.execute(sa.delete(Prediction).where(col(Prediction.instance_id).in_([one.id for one in first])))
    assert forget(pipeline) == 1
    assert [kind for kind, _ in work(pipeline)].count("infer") == 3


def test_what_was_owed_again_meanwhile_stays(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    ds = arrive(pipeline)
    work_off(pipeline)
    chore = FinishedWork(pipeline.database, days=30, clock=lambda: utc_now() + LATER)
    remove = chore._remove

    def late(*arguments: Any) -> int:
        reprocess(pipeline, str(ds.StudyInstanceUID))
        return remove(*arguments)

    monkeypatch.setattr(chore, "_remove", late)
    sum(chore.run())
    assert ("infer", WorkState.OWED) in work(pipeline)
    assert rows(pipeline, Instance)[0].status == "pending"
    work_off(pipeline)
    assert unaccounted(pipeline) == []


def test_nothing_is_done_twice_though_the_rows_of_what_was_done_are_gone(pipeline: Pipeline, sent: list[str]) -> None:
    ds = arrive(pipeline)
    work_off(pipeline)
    forget(pipeline)
    spool_object(pipeline.spool, ds)  # sent again
    work_off(pipeline)
    assert work(pipeline) == []
    assert (len(rows(pipeline, Prediction)), len(rows(pipeline, Report)), len(sent)) == (1, 1, 1)


def test_a_study_is_processed_and_sent_again_by_the_models_that_read_it(pipeline: Pipeline, sent: list[str]) -> None:
    ds = arrive(pipeline)
    work_off(pipeline)
    before = rows(pipeline, Study)[0].findings
    forget(pipeline)
    assert reprocess(pipeline, str(ds.StudyInstanceUID)) == 1
    assert rows(pipeline, Instance)[0].status == "pending"
    work_off(pipeline)
    assert rows(pipeline, Study)[0].findings == before
    assert len(rows(pipeline, Prediction)) == 1
    assert len(rows(pipeline, Report)) == 1, "it says the same: no new generation"
    forget(pipeline)
    resend(pipeline, str(ds.StudyInstanceUID), [PACS])
    work_off(pipeline)
    assert (len(rows(pipeline, Delivery)), len(sent)) == (1, 2)


def test_a_late_image_makes_the_next_generation(pipeline: Pipeline) -> None:
    ds = arrive(pipeline)
    work_off(pipeline)
    forget(pipeline)
    arrive(pipeline, StudyInstanceUID=ds.StudyInstanceUID)
    work_off(pipeline)
    assert [report.generation for report in rows(pipeline, Report)] == [1, 2]
    assert unaccounted(pipeline) == []


def test_the_record_of_a_study_holds_the_same_events(pipeline: Pipeline) -> None:
    ds = film()
    ds.PixelData = b"\0\0"
    spool_object(pipeline.spool, ds)
    arrive(pipeline, StudyInstanceUID=ds.StudyInstanceUID)
    work_off(pipeline)
    (given_up,) = quarantine_list(pipeline.database)
    quarantine_retry(pipeline, given_up.id)
    work_off(pipeline)

    def record() -> list[str]:
        with pipeline.database.read() as session:
            return [row.action for row in events(session, Selection(study_instance_uid=str(ds.StudyInstanceUID)))]

    before = record()
    assert "work.retried" in before
    assert forget(pipeline) >= 3
    assert record() == before


def test_the_timetable_removes_it_though_no_bytes_are_ever_removed(pipeline: Pipeline) -> None:
    arrive(pipeline)
    work_off(pipeline)
    bytes_stay = Retention(
        pipeline.database, pipeline.spool, pipeline.previews_dir, pipeline.record, days=0, floor_bytes=0
    )
    chore = FinishedWork(pipeline.database, days=30, clock=lambda: utc_now() + LATER)
    Timetable(bytes_stay, chore).turn()
    assert len(work(pipeline)) == 1
    assert list(pipeline.spool.filed())
