"""Done twice is had once: what a crash between two steps repeats comes out as the same, on both databases."""

from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pydicom
import pytest
import sqlalchemy as sa
from pydicom.dataset import Dataset
from sqlmodel import select

from tests.support.fakes import MODEL, FakeClassifier, FakeReader, make_pipeline
from tests.support.objects import film, spool_object
from worker.config import Peer
from worker.database import Database, Prediction, Report, WorkItem, WorkKind, utc_now
from worker.pipeline import Pipeline
from worker.reporting import pacs, structured_report

PACS = Peer.parse("PACS@192.0.2.1:104")


class Killed(BaseException):
    """The process ends here, as far as the code under test can tell: nothing of ours catches this."""


class Clock:
    """The time, which can be moved on."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> Any:
        return utc_now() + self.ahead


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pipeline(database_url: str, tmp_path: Path, clock: Clock):
    made = make_pipeline(database_url, tmp_path, destinations=[PACS], clock=clock)
    image = np.full((16, 16), 4000, np.uint16)
    spool_object(made.spool, film(image))
    made.register_arrivals()
    made.infer(MODEL, FakeClassifier(), FakeReader())  # type: ignore[arg-type]
    yield made
    made.database.dispose()


def another_worker_takes_over(pipeline: Pipeline, clock: Clock) -> None:
    clock.ahead += timedelta(minutes=5)
    with pipeline.database.write() as session:
        assert pipeline.work.take_back(session) == 1


def killed(*_: object, **__: object) -> NoReturn:
    raise Killed


def test_a_kill_after_the_pacs_accepted_sends_the_very_same_bytes_again(
    pipeline: Pipeline, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[bytes] = []

    def deliver(path: Path, peer: Peer, **_: Any) -> pacs.Delivered:
        sent.append(path.read_bytes())
        return pacs.Delivered(sop_class_uid="1.2", status=0, warning=None)

    monkeypatch.setattr(pacs, "deliver", deliver)
    pipeline.report()
    with monkeypatch.context() as patched:
        patched.setattr(pipeline.reports, "delivered", killed)
        with pytest.raises(Killed):
            pipeline.deliver()
    another_worker_takes_over(pipeline, clock)
    pipeline.deliver()
    assert len(sent) == 2
    assert sent[0] == sent[1]


def test_a_kill_before_the_report_was_committed_makes_the_same_report_again(
    pipeline: Pipeline, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[str] = []
    build, keep = structured_report.build, pipeline.reports.keep

    def noted(result: Any) -> Dataset:
        ds = build(result)
        built.append(str(ds.SOPInstanceUID))
        return ds

    def keep_and_die(*how: Any) -> NoReturn:
        keep(*how)
        raise Killed

    monkeypatch.setattr(structured_report, "build", noted)
    with monkeypatch.context() as patched:
        patched.setattr(pipeline.reports, "keep", keep_and_die)
        with pytest.raises(Killed):
            pipeline.report()
    another_worker_takes_over(pipeline, clock)
    pipeline.report()
    assert len(built) == 2
    assert built[0] == built[1], "had a PACS been told of the first, this would be a second report"
    with pipeline.database.read() as session:
        (report,) = session.exec(select(Report)).all()
    (file,) = pipeline.reports.reports_dir.rglob("*.dcm")
    assert pydicom.dcmread(file).SOPInstanceUID == report.sop_instance_uid == built[0]


def test_an_instance_has_one_prediction_of_a_model_whatever_a_worker_believes(pipeline: Pipeline) -> None:
    with pipeline.database.read() as session:
        prediction = session.exec(select(Prediction)).one()
    twin = Prediction(**prediction.model_dump(exclude={"id"}))
    with pytest.raises(sa.exc.IntegrityError), pipeline.database.write() as session:
        session.add(twin)


def test_the_same_is_owed_once(pipeline: Pipeline) -> None:
    with pipeline.database.read() as session:
        item = session.exec(select(WorkItem).where(WorkItem.kind == WorkKind.INFER)).one()
    with pytest.raises(sa.exc.IntegrityError), pipeline.database.write() as session:
        session.add(WorkItem(**item.model_dump(exclude={"id"})))


def test_what_sqlite_has_committed_is_on_the_disk(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'firstread.db'}")
    with database.read() as session:
        assert session.execute(sa.text("PRAGMA synchronous")).scalar() == 2, "FULL: WAL alone may lose the last commits"
        assert session.execute(sa.text("PRAGMA journal_mode")).scalar() == "wal"
    database.dispose()
