"""What may happen between two steps of the pipeline, on both databases: nothing is lost, overwritten or hidden."""

import socket
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pydicom
import pytest
import sqlalchemy as sa
from prometheus_client import REGISTRY
from pydicom.dataset import Dataset
from sqlalchemy.exc import IntegrityError
from sqlmodel import SQLModel

from tests.support.fakes import MODEL, FakeClassifier, FakeReader, make_pipeline, with_onnx
from tests.support.objects import spool_object
from tests.support.pipelines import bright, infer, rows, unaccounted
from worker import pipeline as module
from worker.config import Peer
from worker.database import Heartbeat, Instance, ModelVersion, Prediction, Report, Study, WorkItem, WorkState, utc_now
from worker.errors import PackageError, PeerUnreachable
from worker.operations import reprocess
from worker.pipeline import Pipeline
from worker.reporting import pacs, structured_report


@pytest.fixture
def pipeline(database_url: str, tmp_path: Path):
    made = make_pipeline(database_url, tmp_path)
    yield made
    made.database.dispose()


def while_building(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], None]) -> None:
    """Let something happen once, while the next report is being built."""
    build = structured_report.build

    def interrupted(result: Any) -> Dataset:
        monkeypatch.setattr(structured_report, "build", build)
        happens()
        return build(result)

    monkeypatch.setattr(structured_report, "build", interrupted)


def late_film(pipeline: Pipeline, first: Dataset) -> None:
    late = bright(100)
    late.StudyInstanceUID, late.SeriesInstanceUID = first.StudyInstanceUID, first.SeriesInstanceUID
    spool_object(pipeline.spool, late)
    infer(pipeline)


def test_a_film_that_comes_while_the_report_is_made_is_in_the_next_one(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = bright()
    spool_object(pipeline.spool, first)
    infer(pipeline)
    while_building(monkeypatch, lambda: late_film(pipeline, first))
    pipeline.report()
    (report,) = rows(pipeline, Report)
    said = pydicom.dcmread(pipeline.reports.reports_dir / report.path)
    series = said.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    assert sum(len(one.ReferencedSOPSequence) for one in series) == 2
    assert unaccounted(pipeline) == []


def test_a_worker_that_slept_cannot_touch_the_report_of_another(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A's lease ends while it builds; B makes and commits the report; a late film arrives; A wakes."""
    later = [timedelta()]
    pipeline = make_pipeline(database_url, tmp_path, clock=lambda: utc_now() + later[0])
    first = bright()
    spool_object(pipeline.spool, first)
    infer(pipeline)

    def meanwhile() -> None:
        later[0] += timedelta(seconds=60)
        pipeline.sweep()
        pipeline.report()
        assert len(rows(pipeline, Report)) == 1
        late_film(pipeline, first)

    while_building(monkeypatch, meanwhile)
    pipeline.report()
    assert [r.generation for r in rows(pipeline, Report)] == [1, 2]
    assert unaccounted(pipeline) == []
    assert not list(pipeline.reports.reports_dir.rglob("*.part"))
    pipeline.database.dispose()


def test_a_film_that_comes_while_nothing_new_is_said_gets_its_report(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look at what was said before and the end of the work are one: on PostgreSQL a late film waits for it."""
    first = bright()
    spool_object(pipeline.spool, first)
    infer(pipeline)
    pipeline.report()
    reprocess(pipeline, str(first.StudyInstanceUID))
    infer(pipeline)
    late = threading.Thread(target=late_film, args=(pipeline, first))
    gather = module.gather

    def slow(session: Any, study: Study) -> Any:
        monkeypatch.setattr(module, "gather", gather)
        found = gather(session, study)
        late.start()
        late.join(1.0)  # on both databases it now waits for our transaction
        return found

    monkeypatch.setattr(module, "gather", slow)
    pipeline.report()
    late.join()
    pipeline.report()
    assert [r.generation for r in rows(pipeline, Report)] == [1, 2]


def test_intake_and_inference_do_not_lock_each_other_out(pipeline: Pipeline) -> None:
    """Registration and commits over the same eight studies, at once: no deadlock, no lease lost."""
    studies = [bright() for _ in range(8)]
    errors: list[BaseException] = []

    def push(seed: int) -> None:
        for number in range(24):
            ds = bright(100 * (number % 40) + seed)
            parent = studies[(number * 5 + seed) % 8]
            ds.StudyInstanceUID, ds.SeriesInstanceUID = parent.StudyInstanceUID, parent.SeriesInstanceUID
            spool_object(pipeline.spool, ds)

    for seed in range(4):
        push(seed)
    registered = threading.Event()

    def work(step: Callable[[], Any]) -> None:
        try:
            while not registered.is_set():
                step()
            step()
        except BaseException as error:  # noqa: BLE001 - shown below
            errors.append(error)

    classifier = FakeClassifier()
    threads = [
        threading.Thread(target=work, args=(lambda: pipeline.infer(MODEL, classifier, FakeReader()),)),  # type: ignore[arg-type]
        threading.Thread(target=work, args=(pipeline.report,)),
        threading.Thread(target=work, args=(pipeline.sweep,)),
    ]
    for thread in threads:
        thread.start()
    try:
        while pipeline.register_arrivals():
            pass
    finally:
        registered.set()
    for thread in threads:
        thread.join()
    assert errors == []
    pipeline.infer(MODEL, classifier, FakeReader())  # type: ignore[arg-type]
    assert {i.status for i in rows(pipeline, Instance)} == {"classified"}
    assert {(i.attempts, i.lost_leases) for i in rows(pipeline, WorkItem) if i.kind == "infer"} == {(1, 0)}


def test_an_object_that_is_filed_away_while_it_is_to_be_read_is_read(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = spool_object(pipeline.spool, bright())
    monkeypatch.setattr(pipeline.spool, "file_away", lambda names: None)
    pipeline.register_arrivals()
    monkeypatch.undo()

    class Slow(FakeReader):
        def read(self, path: Path, frame_policy: str, window: Any = None) -> Any:
            pipeline.spool.file_away([name])
            return super().read(path, frame_policy, window)

    pipeline.infer(MODEL, FakeClassifier(), Slow())  # type: ignore[arg-type]
    assert [i.status for i in rows(pipeline, Instance)] == ["classified"]
    assert rows(pipeline, WorkItem)[0].attempts == 1


def test_a_model_that_fails_takes_no_finding_from_one_that_did_not(pipeline: Pipeline) -> None:
    ds = bright()
    spool_object(pipeline.spool, ds)
    infer(pipeline)
    newer = FakeClassifier(version="2.0.0")
    newer.poison = lambda image: True
    pipeline.work.max_attempts = 1
    reprocess(pipeline, str(ds.StudyInstanceUID), ["chest_xray_triage@2.0.0"])
    pipeline.infer("chest_xray_triage@2.0.0", newer, FakeReader())  # type: ignore[arg-type]
    (study,) = rows(pipeline, Study)
    assert (study.ai_status, study.priority, study.rank) == ("failed", "urgent", 1)
    assert [f["flagged"] for f in study.findings] == [True, False]
    pipeline.report()
    (report,) = rows(pipeline, Report)
    said = str(pydicom.dcmread(pipeline.reports.reports_dir / report.path))
    assert "Not all algorithms succeeded; with findings" in said


def test_weights_that_changed_under_a_version_cost_no_instance_an_attempt(pipeline: Pipeline) -> None:
    spool_object(pipeline.spool, bright())
    infer(pipeline)
    spool_object(pipeline.spool, bright())
    pipeline.register_arrivals()
    other = FakeClassifier()
    other.card = other.card.model_copy(update={"weights_sha256": "c" * 64})
    with pytest.raises(PackageError, match="new version"):
        pipeline.infer(MODEL, other, FakeReader())  # type: ignore[arg-type]
    item = rows(pipeline, WorkItem)[-1]
    assert (item.state, item.attempts) == (WorkState.OWED, 0)


def converted(sha256: str) -> FakeClassifier:
    classifier = FakeClassifier()
    classifier.card = with_onnx(classifier.card, sha256)
    return classifier


def test_an_onnx_file_makes_no_other_model_and_another_one_does(pipeline: Pipeline) -> None:
    """A package that has gained its file is the model that it was; from then on it is that file."""
    spool_object(pipeline.spool, bright())
    infer(pipeline)
    spool_object(pipeline.spool, bright())
    infer(pipeline, converted("d" * 64))
    (version,) = rows(pipeline, ModelVersion)
    assert (version.weights_sha256, version.card["onnx"]["sha256"]) == ("a" * 64, "d" * 64)
    assert len(rows(pipeline, Prediction)) == 2
    spool_object(pipeline.spool, bright())
    infer(pipeline)  # without the file: the same weights
    pipeline.register_arrivals()
    with pytest.raises(PackageError, match="ONNX file is not the one"):
        pipeline.infer(MODEL, converted("e" * 64), FakeReader())  # type: ignore[arg-type]
    assert len(rows(pipeline, ModelVersion)) == 1
    assert rows(pipeline, ModelVersion)[0].card["onnx"]["sha256"] == "d" * 64


def test_disk_trouble_costs_no_attempt_and_leaves_no_word_behind(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool_object(pipeline.spool, bright())
    infer(pipeline)
    write = structured_report.write

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(structured_report, "write", full)
    monkeypatch.setattr(pipeline.work, "backoff", lambda retries: 0.0)
    for _ in range(5):
        module.Pipeline._one(pipeline, module.WorkKind.REPORT, "", pipeline._report)
    assert rows(pipeline, WorkItem)[-1].attempts == 0
    monkeypatch.setattr(structured_report, "write", write)
    pipeline.report()
    (study,) = rows(pipeline, Study)
    assert (study.generation, study.reason) == (1, "")


def test_no_report_is_said_until_there_is_one(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    first = bright()
    spool_object(pipeline.spool, first)
    infer(pipeline)
    build = structured_report.build

    def broken(_: Any) -> None:
        raise RuntimeError("Doe^Jane cannot be encoded")

    monkeypatch.setattr(structured_report, "build", broken)
    monkeypatch.setattr(pipeline.work, "backoff", lambda retries: 0.0)
    pipeline.report()
    (study,) = rows(pipeline, Study)
    assert "no report could be made: it failed (RuntimeError at" in study.reason
    assert "Jane" not in study.reason
    monkeypatch.setattr(structured_report, "build", build)
    late_film(pipeline, first)
    pipeline.report()
    (study,) = rows(pipeline, Study)
    assert (study.generation, study.reason) == (1, "")


def test_a_slow_pacs_starves_nobody(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow, quick, away = (Peer.parse(f"{name}@192.0.2.1:104") for name in ("AAA", "BBB", "CCC"))
    pipeline = make_pipeline(database_url, tmp_path, destinations=[slow, quick, away])
    sent: list[str] = []

    def deliver(path: Path, peer: Peer, **_: Any) -> pacs.Delivered:
        sent.append(peer.ae_title)
        if peer == away:
            raise PeerUnreachable("connection refused")
        return pacs.Delivered(sop_class_uid="1.2", status=0, warning=None)

    monkeypatch.setattr(pacs, "deliver", deliver)
    for _ in range(3):
        spool_object(pipeline.spool, bright())
    infer(pipeline)
    pipeline.report()
    pipeline.deliver()
    assert sent == ["AAA", "BBB", "CCC", "AAA", "BBB", "AAA", "BBB"]
    pipeline.database.dispose()


def test_the_gauges_fall_when_the_work_is_done(pipeline: Pipeline) -> None:
    def gauge(name: str) -> float | None:
        return REGISTRY.get_sample_value(name, {"kind": "infer", "model": MODEL})

    spool_object(pipeline.spool, bright())
    pipeline.register_arrivals()
    pipeline.sweep()
    assert gauge("firstread_work_pending") == 1
    infer(pipeline)
    pipeline.sweep()
    assert gauge("firstread_work_pending") == 0
    assert gauge("firstread_work_oldest_seconds") == 0


@pytest.mark.parametrize("what", [ModelVersion, Heartbeat])
def test_what_two_workers_write_for_the_first_time_at_once_is_there_once(
    database_url: str, tmp_path: Path, what: type[SQLModel]
) -> None:
    """The second begins while the first has written and not committed."""
    first, second = (make_pipeline(database_url, tmp_path / name) for name in ("first", "second"))
    failed: list[IntegrityError] = []

    def work() -> None:
        try:
            infer(second)
        except IntegrityError as error:
            failed.append(error)

    other = threading.Thread(target=work)
    with first.database.write() as session:
        if what is ModelVersion:
            first.results.model_version(session, FakeClassifier().card)
        else:
            session.add(Heartbeat(service=f"inference {MODEL} {socket.gethostname()}", at=utc_now()))
        session.flush()
        other.start()
        waits_for_the_first(first, other)
    other.join()
    assert failed == []
    with first.database.read() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(what)) == 1
    for one in (first, second):
        one.database.dispose()


def waits_for_the_first(pipeline: Pipeline, other: threading.Thread) -> None:
    """Until PostgreSQL says that somebody waits for a lock; SQLite lets the second begin after the first."""
    while not pipeline.database.is_sqlite and other.is_alive():
        with pipeline.database.read() as session:
            if session.scalar(sa.text("SELECT count(*) FROM pg_locks WHERE NOT granted")):
                return
