"""The journey of a scan on both databases, with a real spool and fakes for Keras and the PACS."""

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from tests.support.fakes import MODEL, FakeClassifier, FakeReader, make_pipeline
from tests.support.objects import film, spool_bytes, spool_object
from tests.support.pipelines import bright, rows
from worker.config import Peer
from worker.database import AuditEvent, Delivery, Instance, Prediction, Report, Study, WorkItem, WorkState
from worker.errors import PeerUnreachable, ReportRefused
from worker.operations import quarantine_list, quarantine_retry, reprocess, resend
from worker.pipeline import Pipeline
from worker.reconcile import reconcile
from worker.studies import study_document

PACS = Peer.parse("PACS@192.0.2.1:104")


@pytest.fixture
def pipeline(database_url: str, tmp_path: Path):
    made = make_pipeline(database_url, tmp_path, destinations=[PACS])
    yield made
    made.database.dispose()


@pytest.fixture
def classifier() -> FakeClassifier:
    return FakeClassifier()


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A PACS that takes everything; the UIDs it holds."""
    from worker.reporting import pacs

    held: list[str] = []

    def deliver(path: Path, peer: Peer, **_: Any) -> pacs.Delivered:
        held.append(str(pydicom.dcmread(path).SOPInstanceUID))
        return pacs.Delivered(sop_class_uid="1.2", status=0, warning=None)

    monkeypatch.setattr(pacs, "deliver", deliver)
    return held


def through(pipeline: Pipeline, classifier: FakeClassifier) -> pydicom.Dataset:
    ds = bright()
    spool_object(pipeline.spool, ds)
    run(pipeline, classifier)
    return ds


def run(pipeline: Pipeline, classifier: FakeClassifier) -> None:
    while pipeline.register_arrivals():
        pass
    pipeline.infer(MODEL, classifier, FakeReader())  # type: ignore[arg-type]
    pipeline.report()
    pipeline.deliver()


def document(pipeline: Pipeline, ds: pydicom.Dataset) -> dict[str, Any]:
    with pipeline.database.read() as session:
        return study_document(session, str(ds.StudyInstanceUID))


def test_a_scan_becomes_a_delivered_report(pipeline: Pipeline, classifier: FakeClassifier, sent: list[str]) -> None:
    ds = through(pipeline, classifier)
    study = document(pipeline, ds)
    assert (study["ai_status"], study["priority"]) == ("complete", "urgent")
    assert study["instances"] == {"received": 1, "classified": 1, "failed": 0, "not_eligible": 0, "pending": 0}
    assert {(f["label"], f["flagged"]) for f in study["findings"]} == {("pneumonia", True), ("covid", False)}
    (report,) = study["reports"]
    assert report["generation"] == 1
    assert report["deliveries"] == [
        {"destination": str(PACS), "status": "delivered", "attempts": 1, "last_error": None, "committed": None}
    ]
    assert sent == [report["sop_instance_uid"]]
    assert [e.action for e in rows(pipeline, AuditEvent)] == [
        "instance.registered", "prediction.made", "report.stored", "report.delivered",
    ]  # fmt: skip
    assert {item.state for item in rows(pipeline, WorkItem)} == {WorkState.DONE}
    assert reconcile(pipeline.database, pipeline.spool, pipeline.reports.reports_dir, verify=True).as_json() == {
        "accepted": 1, "complete": 1, "failed": 0, "not_eligible": 0, "pending": 0, "removed_by_retention": 0,
        "unaccounted": [],
    }  # fmt: skip
    assert (pipeline.previews_dir / "1.png").is_file()


def test_an_identical_resend_changes_nothing(pipeline: Pipeline, classifier: FakeClassifier, sent: list[str]) -> None:
    ds = through(pipeline, classifier)
    spool_object(pipeline.spool, ds, calling="OTHER")
    run(pipeline, classifier)
    assert len(rows(pipeline, Instance)) == len(rows(pipeline, Report)) == len(sent) == 1
    assert pipeline.spool.arrivals() == []
    assert reconcile(pipeline.database, pipeline.spool, pipeline.reports.reports_dir).as_json()["accepted"] == 1


def test_the_same_uid_with_other_bytes_is_kept_failed_and_reported(
    pipeline: Pipeline, classifier: FakeClassifier, sent: list[str]
) -> None:
    ds = through(pipeline, classifier)
    ds.PatientName = "Altered^Afterwards"
    spool_object(pipeline.spool, ds)
    run(pipeline, classifier)
    first, second = rows(pipeline, Instance)
    assert (first.status, second.status) == ("classified", "failed")
    assert second.reason.startswith("UID conflict")
    study = document(pipeline, ds)
    assert (study["ai_status"], study["instances"]["received"]) == ("failed", 2)
    assert "UID conflict" in study["reason"]
    assert study["patient_name"] == "Doe^Jane"
    assert [r["generation"] for r in study["reports"]] == [1, 2]
    assert len(set(sent)) == 2


def test_another_patient_id_in_a_study_is_failed_and_not_merged(
    pipeline: Pipeline, classifier: FakeClassifier, sent: list[str]
) -> None:
    ds, other = bright(), bright(PatientID="P2")
    other.StudyInstanceUID = ds.StudyInstanceUID
    spool_object(pipeline.spool, ds)
    spool_object(pipeline.spool, other)
    run(pipeline, classifier)
    study = document(pipeline, ds)
    assert study["ai_status"] == "failed"
    assert "PatientID conflict" in study["reason"]
    assert [p.instance_id for p in rows(pipeline, Prediction)] == [1]
    assert len(sent) == 1


def test_a_late_instance_makes_the_next_generation(
    pipeline: Pipeline, classifier: FakeClassifier, sent: list[str]
) -> None:
    first = bright(100)
    spool_object(pipeline.spool, first)
    run(pipeline, classifier)
    assert document(pipeline, first)["priority"] == "none"
    late = bright()
    late.StudyInstanceUID, late.SeriesInstanceUID = first.StudyInstanceUID, first.SeriesInstanceUID
    spool_object(pipeline.spool, late)
    run(pipeline, classifier)
    study = document(pipeline, first)
    assert study["priority"] == "urgent"
    assert [r["generation"] for r in study["reports"]] == [1, 2]
    second = pydicom.dcmread(pipeline.reports.reports_dir / rows(pipeline, Report)[1].path)
    predecessor = second.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert predecessor.ReferencedSOPInstanceUID == sent[0]


def test_what_is_not_for_the_ai_opens_no_generation(
    pipeline: Pipeline, classifier: FakeClassifier, sent: list[str]
) -> None:
    ds = through(pipeline, classifier)
    own = pydicom.dcmread(pipeline.reports.reports_dir / rows(pipeline, Report)[0].path)
    spool_object(pipeline.spool, own, calling="PACS")
    lateral = bright(ViewPosition="LL")
    lateral.StudyInstanceUID = ds.StudyInstanceUID
    spool_object(pipeline.spool, lateral)
    run(pipeline, classifier)
    study = document(pipeline, ds)
    assert study["ai_status"] == "complete"
    assert study["instances"]["not_eligible"] == 2
    assert len(study["reports"]) == len(sent) == 1


def test_one_bad_image_costs_its_neighbours_nothing(
    pipeline: Pipeline, classifier: FakeClassifier, sent: list[str]
) -> None:
    films = [bright(100 * n) for n in range(1, 32)]
    cut = bright()
    cut.PixelData = cut.PixelData[:100]
    for ds in [*films[:7], cut, *films[7:]]:
        spool_object(pipeline.spool, ds)
    run(pipeline, classifier)
    assert sorted(i.status for i in rows(pipeline, Instance)) == ["classified"] * 31 + ["failed"]
    failed = document(pipeline, cut)
    assert (failed["ai_status"], failed["reason"]) == ("failed", "the pixels are cut short")
    assert failed["findings"] == []
    assert failed["reports"][0]["deliveries"][0]["status"] == "delivered"
    assert classifier.batches == [31]


def test_an_image_that_breaks_the_model_is_isolated_and_given_up(
    pipeline: Pipeline, classifier: FakeClassifier, sent: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    films = [bright(200 * n) for n in range(1, 9)]
    for ds in films:
        spool_object(pipeline.spool, ds)
    culprit = FakeClassifier().prepare(FakeReaderOf(films[3]))
    classifier.poison = lambda image: bool(np.allclose(image, culprit))
    monkeypatch.setattr(pipeline.work, "backoff", lambda retries: 0.0)
    run(pipeline, classifier)
    statuses = [i.status for i in rows(pipeline, Instance)]
    assert statuses == ["classified"] * 3 + ["failed"] + ["classified"] * 4
    item = rows(pipeline, WorkItem)[3]
    assert (item.state, item.attempts) == (WorkState.QUARANTINED, 3)
    assert "the poison was in it" in rows(pipeline, Instance)[3].reason


def FakeReaderOf(ds: pydicom.Dataset) -> np.ndarray:  # noqa: N802 - reads like the class it stands for
    image = ds.pixel_array.astype(np.float32)
    return image / image.max() * 255


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"Modality": "MR", "BodyPartExamined": "KNEE"}, "no rule sends it to a model (Modality MR"),
        ({"PixelData": None}, "not an image"),
        ({"Modality": "CT"}, "no model installed for it (chest_ct_covid)"),
        ({"PresentationIntentType": "FOR PROCESSING"}, "raw detector data"),
    ],
)
def test_what_is_not_eligible_says_why(
    pipeline: Pipeline, classifier: FakeClassifier, sent: list[str], change: dict[str, Any], reason: str
) -> None:
    ds = bright(**change)
    spool_object(pipeline.spool, ds)
    run(pipeline, classifier)
    study = document(pipeline, ds)
    assert study["ai_status"] == "not_eligible"
    assert reason in study["reason"]
    assert (study["findings"], study["reports"], sent) == ([], [], [])


def test_bytes_that_are_no_dicom_become_a_visible_failure(
    pipeline: Pipeline, classifier: FakeClassifier, sent: list[str]
) -> None:
    spool_bytes(pipeline.spool, b"<html>not a scan</html>")
    run(pipeline, classifier)
    (study,) = rows(pipeline, Study)
    assert study.ai_status == "failed"
    assert study.study_instance_uid.startswith("2.25.")
    assert "not written by the listener" in study.reason
    assert "stand-in" in study.reason
    assert reconcile(pipeline.database, pipeline.spool, pipeline.reports.reports_dir).as_json()["failed"] == 1


def test_a_crash_between_commit_and_move_is_healed(pipeline: Pipeline, classifier: FakeClassifier) -> None:
    name = spool_object(pipeline.spool, bright())
    pipeline.register_arrivals()
    filed = pipeline.spool.filed_path(name)
    filed.rename(pipeline.spool.incoming_dir / filed.name)
    assert pipeline.spool.path(name) is not None
    assert reconcile(pipeline.database, pipeline.spool, pipeline.reports.reports_dir).as_json()["pending"] == 1
    pipeline.register_arrivals()
    assert filed.is_file()
    assert len(rows(pipeline, Instance)) == 1


def test_a_pacs_that_is_away_costs_no_attempt(
    pipeline: Pipeline, classifier: FakeClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    from worker.reporting import pacs

    def away(*_: Any, **__: Any) -> None:
        raise PeerUnreachable("connection refused")

    monkeypatch.setattr(pacs, "deliver", away)
    monkeypatch.setattr(pipeline.work, "backoff", lambda retries: 0.0)
    through(pipeline, classifier)
    for _ in range(5):
        pipeline.deliver()
    (delivery,) = rows(pipeline, Delivery)
    assert (delivery.status, delivery.attempts, delivery.last_error) == ("pending", 6, "connection refused")


def test_a_pacs_that_refuses_is_given_up_and_can_be_sent_again(
    pipeline: Pipeline, classifier: FakeClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    from worker.reporting import pacs

    def refuse(*_: Any, **__: Any) -> None:
        raise ReportRefused("0xA900: data set does not match SOP Class")

    working = pacs.deliver
    monkeypatch.setattr(pacs, "deliver", refuse)
    monkeypatch.setattr(pipeline.work, "backoff", lambda retries: 0.0)
    ds = through(pipeline, classifier)
    assert document(pipeline, ds)["reports"][0]["deliveries"][0]["status"] == "failed"
    (quarantined,) = quarantine_list(pipeline.database)
    assert (quarantined.kind, quarantined.attempts) == ("deliver", 3)
    assert quarantined.study_instance_uid == ds.StudyInstanceUID

    assert working is not refuse
    monkeypatch.setattr(pacs, "deliver", lambda *_, **__: pacs.Delivered(sop_class_uid="1", status=0, warning=None))
    quarantine_retry(pipeline, quarantined.id)
    pipeline.deliver()
    assert document(pipeline, ds)["reports"][0]["deliveries"][0]["status"] == "delivered"
    assert resend(pipeline, str(ds.StudyInstanceUID), [PACS]) == [str(PACS)]
    assert pipeline.deliver() == 1


def test_reprocessing_with_the_same_outcome_makes_no_new_report(
    pipeline: Pipeline, classifier: FakeClassifier, sent: list[str]
) -> None:
    ds = through(pipeline, classifier)
    assert reprocess(pipeline, str(ds.StudyInstanceUID)) == 1
    assert document(pipeline, ds)["ai_status"] == "pending"
    run(pipeline, classifier)
    assert document(pipeline, ds)["ai_status"] == "complete"
    assert len(rows(pipeline, Report)) == 1
    assert [e.action for e in rows(pipeline, AuditEvent)][-2:] == ["study.reprocessed", "prediction.remade"]


def test_reprocessing_with_a_newer_model_supersedes(
    pipeline: Pipeline, classifier: FakeClassifier, sent: list[str]
) -> None:
    ds = through(pipeline, classifier)
    newer = FakeClassifier(version="2.0.0")
    reprocess(pipeline, str(ds.StudyInstanceUID), ["chest_xray_triage@2.0.0"])
    pipeline.infer("chest_xray_triage@2.0.0", newer, FakeReader())  # type: ignore[arg-type]
    pipeline.report()
    study = document(pipeline, ds)
    assert {f["model_version"] for f in study["findings"]} == {"2.0.0"}
    assert [r["generation"] for r in study["reports"]] == [1, 2]
    assert len(rows(pipeline, Prediction)) == 2


def test_a_report_waits_until_the_study_is_quiet(database_url: str, tmp_path: Path, classifier: FakeClassifier) -> None:
    pipeline = make_pipeline(database_url, tmp_path, quiet_seconds=3600)
    ds = through(pipeline, classifier)
    assert document(pipeline, ds)["ai_status"] == "complete"
    assert rows(pipeline, Report) == []
    first = next(i for i in rows(pipeline, WorkItem) if i.kind == "report").not_before
    again = bright(ViewPosition="AP")
    again.StudyInstanceUID = ds.StudyInstanceUID
    spool_object(pipeline.spool, again)
    pipeline.register_arrivals()
    assert next(i for i in rows(pipeline, WorkItem) if i.kind == "report").not_before > first
    pipeline.database.dispose()


def test_no_log_line_names_a_patient(
    pipeline: Pipeline, classifier: FakeClassifier, sent: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    spool_object(pipeline.spool, bright(PatientName="Secret^Name", PatientID="SECRET1", AccessionNumber="SECRET2"))
    cut = bright(PatientName="Secret^Name", PatientID="SECRET1", AccessionNumber="SECRET2")
    cut.PixelData = b"\0\0"
    spool_object(pipeline.spool, cut)
    run(pipeline, classifier)
    out, err = capfd.readouterr()
    assert "registered" in out + err
    assert "secret" not in (out + err).lower()


def test_a_study_that_began_without_an_identity_gets_it_from_its_first_film(
    pipeline: Pipeline, classifier: FakeClassifier, sent: list[str]
) -> None:
    ds = bright()
    first = film(Modality="SR", PatientID="", PatientName="", AccessionNumber="", PixelData=None)
    first.StudyInstanceUID = ds.StudyInstanceUID
    spool_object(pipeline.spool, first)
    spool_object(pipeline.spool, ds)
    run(pipeline, classifier)
    study = document(pipeline, ds)
    assert (study["patient_id"], study["patient_name"], study["modality"]) == ("P1", "Doe^Jane", "DX")
    assert "no PatientID" in study["reason"]


def test_an_arrival_that_the_disk_will_not_give_stops_nobody_else(
    pipeline: Pipeline, classifier: FakeClassifier, sent: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from worker import arrivals as module

    bad = spool_object(pipeline.spool, bright())
    spool_object(pipeline.spool, bright())
    read = module.HeaderReader.read

    def broken(self: Any, path: Path, *how: Any, **more: Any) -> Any:
        if path.stem == bad:
            raise OSError(5, "Input/output error")
        return read(self, path, *how, **more)

    monkeypatch.setattr(module.HeaderReader, "read", broken)
    run(pipeline, classifier)
    assert [i.status for i in rows(pipeline, Instance)] == ["classified"]
    monkeypatch.setattr(module.HeaderReader, "read", read)
    assert reconcile(pipeline.database, pipeline.spool, pipeline.reports.reports_dir).as_json()["pending"] == 1
    monkeypatch.setattr(module.time, "monotonic", lambda: 1e9)
    run(pipeline, classifier)
    assert len(rows(pipeline, Instance)) == 2
