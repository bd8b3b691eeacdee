"""A CT study on its way: hundreds of slices, one finding, one report; and two models that share a worker."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.uid import CTImageStorage, generate_uid
from sqlmodel import select

from tests.support.fakes import CT_MODEL, MODEL, FakeClassifier, FakeCtClassifier, FakeReader, make_pipeline
from tests.support.objects import film, spool_object
from tests.support.sr_gate import groups, name
from worker.database import Heartbeat, Prediction, Report
from worker.pipeline import Pipeline
from worker.studies import study_detail

INSTALLED = {"chest_xray_triage": ["1.0.0"], "chest_ct_covid": ["1.0.0"]}
AXIAL, CORONAL = [1, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0, -1]


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """Hundreds of slices go one way alone; `test_pipeline.py` shows that both databases do the same."""
    return f"sqlite:///{tmp_path / 'firstread.db'}"


@pytest.fixture
def pipeline(database_url: str, tmp_path: Path) -> Iterator[Pipeline]:
    made = make_pipeline(database_url, tmp_path, installed=INSTALLED)
    yield made
    made.database.dispose()


class Scan:
    """A chest CT in the spool: a slice is as bright as its probability shall be."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.study = str(generate_uid(prefix=None))

    def series(self, levels: list[float], **attributes: Any) -> list[str]:
        """Send a series; returns its SOP Instance UIDs."""
        series = generate_uid(prefix=None)
        uids = []
        for number, level in enumerate(levels, start=1):
            image = np.full((16, 16), round(level * 4095), np.uint16)
            image[0, 0] = 4095
            ds = film(
                image, SOPClassUID=CTImageStorage, Modality="CT", StudyInstanceUID=self.study, SeriesInstanceUID=series,
                StudyDescription="CT CHEST", ViewPosition=None, PresentationIntentType=None, InstanceNumber=number,
                **({"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"], "ImageOrientationPatient": AXIAL} | attributes),
            )  # fmt: skip
            spool_object(self.pipeline.spool, ds)
            uids.append(str(ds.SOPInstanceUID))
        return uids

    def read(self) -> dict[str, Any]:
        """Let the pipeline read and report it."""
        while self.pipeline.register_arrivals():
            pass
        self.pipeline.infer(CT_MODEL, FakeCtClassifier(), FakeReader())  # type: ignore[arg-type]
        self.pipeline.report()
        with self.pipeline.database.read() as session:
            return study_detail(session, self.study)


def small_batches() -> FakeCtClassifier:
    classifier = FakeCtClassifier()
    classifier.max_batch = 4
    return classifier


def rows(pipeline: Pipeline, table: Any) -> list[Any]:
    with pipeline.database.read() as session:
        return list(session.exec(select(table)).all())


def test_three_hundred_slices_become_one_finding_in_one_report(pipeline: Pipeline) -> None:
    scan = Scan(pipeline)
    ill = [0.62] * 14 + [0.7] + [0.62] * 15
    uids = scan.series([0.1] * 150 + ill + [0.1] * 120)
    scan.series([0.9], ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], ImageOrientationPatient=CORONAL)
    scan.series([0.9] * 3, ImageType=["DERIVED", "SECONDARY", "REFORMATTED"], ImageOrientationPatient=CORONAL)
    study = scan.read()
    assert (study["ai_status"], study["priority"]) == ("complete", "urgent")
    assert (study["instances"]["classified"], study["instances"]["not_eligible"]) == (300, 4)
    [finding] = study["findings"]
    assert (finding["label"], finding["flagged"], finding["sop_instance_uid"]) == ("covid", True, uids[164])
    assert finding["probability"] == pytest.approx(0.62, abs=0.01)
    words = "the mean of the highest 30 of 300 instances of the series"
    assert finding["rollup"] == words

    [report] = rows(pipeline, Report)
    path = pipeline.reports.reports_dir / report.path
    assert path.stat().st_size < 300_000
    document = pydicom.dcmread(path)
    [referenced] = document.CurrentRequestedProcedureEvidenceSequence
    [series] = referenced.ReferencedSeriesSequence
    assert [item.ReferencedSOPInstanceUID for item in series.ReferencedSOPSequence] == uids
    covid, summary = groups(document)
    images = [item for item in covid.ContentSequence if item.ValueType == "IMAGE"]
    assert [item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for item in images] == [uids[164]]
    assert len([item for item in summary.ContentSequence if item.ValueType == "IMAGE"]) == 300
    [certainty] = [item for item in covid.ContentSequence if name(item) == "111012"]
    measured = float(certainty.MeasuredValueSequence[0].NumericValue)
    assert measured == pytest.approx(100 * finding["probability"], abs=0.01)
    assert f"roll-up={words}" in [item.TextValue for item in covid.ContentSequence if item.ValueType == "TEXT"]
    assert f"roll-up={words}" in [item.TextValue for item in covid.ContentSequence if item.ValueType == "TEXT"]


def test_one_odd_slice_is_kept_as_it_is_and_flags_nothing(pipeline: Pipeline) -> None:
    scan = Scan(pipeline)
    scan.series([0.1] * 9 + [0.99])
    study = scan.read()
    assert (study["ai_status"], study["priority"]) == ("complete", "none")
    assert [finding["flagged"] for finding in study["findings"]] == [False]
    predictions = rows(pipeline, Prediction)
    assert [prediction.flagged for prediction in predictions].count(["covid"]) == 1
    assert study["instances_detail"][0]["sop_instance_uid"] == study["findings"][0]["sop_instance_uid"]


def test_the_window_is_recorded_with_the_prediction(pipeline: Pipeline) -> None:
    scan = Scan(pipeline)
    scan.series([0.5])
    scan.read()
    spool_object(pipeline.spool, film())
    pipeline.register_arrivals()
    pipeline.infer(MODEL, FakeClassifier(), FakeReader())  # type: ignore[arg-type]
    assert [prediction.recipe for prediction in rows(pipeline, Prediction)] == [
        "chest_xray_triage, shown at centre -600, width 1500 HU",
        "chest_xray_triage",
    ]


def test_slices_still_unread_keep_a_flag_from_being_taken_back(pipeline: Pipeline) -> None:
    scan = Scan(pipeline)
    scan.series([0.9] * 4 + [0.1] * 36)
    pipeline.register_arrivals()
    seen = []
    for _ in range(10):
        pipeline.infer(CT_MODEL, small_batches(), FakeReader(), turn_seconds=0)  # type: ignore[arg-type]
        with pipeline.database.read() as session:
            study = study_detail(session, scan.study)
        seen.append((study["instances"]["pending"], study["findings"][0]["probability"]))
    assert [pending for pending, _ in seen] == [36, 32, 28, 24, 20, 16, 12, 8, 4, 0]
    assert [probability for _, probability in seen] == pytest.approx([0.9] * 10, abs=0.01)


def test_a_turn_ends_between_two_batches_and_leaves_a_hint(pipeline: Pipeline) -> None:
    Scan(pipeline).series([0.5] * 10)
    pipeline.register_arrivals()
    ct: Any = (CT_MODEL, small_batches(), FakeReader())
    hints: list[set[str]] = []
    pipeline.wakeups.send = lambda queues: hints.append(set(queues)) or True
    assert pipeline.infer(*ct, turn_seconds=0) == 4
    assert hints == [{f"inference.{CT_MODEL}"}]
    assert pipeline.infer(*ct, turn_seconds=60) == 6
    assert len(hints) == 1


def test_a_turn_that_can_leave_no_hint_goes_on(pipeline: Pipeline) -> None:
    Scan(pipeline).series([0.5] * 10)
    pipeline.register_arrivals()
    pipeline.wakeups.send = lambda queues: False
    assert pipeline.infer(CT_MODEL, small_batches(), FakeReader(), turn_seconds=0) == 10  # type: ignore[arg-type]


def test_a_worker_says_of_each_model_that_it_takes_work(pipeline: Pipeline) -> None:
    pipeline.infer(MODEL, FakeClassifier(), FakeReader())  # type: ignore[arg-type]
    pipeline.infer(CT_MODEL, FakeCtClassifier(), FakeReader())  # type: ignore[arg-type]
    services = [beat.service for beat in rows(pipeline, Heartbeat)]
    assert sorted(service.split()[1] for service in services) == [CT_MODEL, MODEL]
