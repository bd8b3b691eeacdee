"""Odd objects on both databases: each is accounted for, is failed alone where it has to be, and stops nobody."""

from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from tests.support.fakes import make_pipeline
from tests.support.objects import film, spool_object
from tests.support.pipelines import bright, infer, rows, unaccounted
from worker.database import Instance, Study
from worker.pipeline import Pipeline


@pytest.fixture
def pipeline(database_url: str, tmp_path: Path):
    made = make_pipeline(database_url, tmp_path)
    yield made
    made.database.dispose()


@pytest.mark.parametrize("keyword", ["BodyPartExamined", "Modality", "StudyDescription", "ViewPosition"])
def test_a_sequence_where_text_belongs_stops_nobody(pipeline: Pipeline, keyword: str) -> None:
    hostile = bright()
    inner = Dataset()
    inner.PatientComments = "x"
    del hostile[keyword]
    hostile.add_new(keyword, "SQ", Sequence([inner]))
    hostile.file_meta = pydicom.dataset.FileMetaDataset()
    spool_object(pipeline.spool, hostile, sop_class="1.2.840.10008.5.1.4.1.1.1.1")
    spool_object(pipeline.spool, bright())
    infer(pipeline)
    assert len(rows(pipeline, Instance)) == 2
    assert rows(pipeline, Instance)[1].status == "classified"


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_control_characters_reach_neither_reason_nor_database(pipeline: Pipeline) -> None:
    spool_object(pipeline.spool, bright(Modality="OT", BodyPartExamined="KN\0EE\x1b[31m"))
    spool_object(pipeline.spool, bright())
    infer(pipeline)
    odd, good = rows(pipeline, Instance)
    assert (odd.status, good.status) == ("not_eligible", "classified")
    assert "BodyPartExamined no defined term" in odd.reason
    assert odd.reason.isprintable()


def test_an_object_that_breaks_registration_is_failed_alone(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pipeline.arrivals
    names = [spool_object(pipeline.spool, bright()) for _ in range(3)]
    judge = pipeline.arrivals.registration._judge

    def broken(stored: Any, study: Any, **how: Any) -> Any:
        if stored.has_pixels and pipeline.spool.path(names[1]) and stored.sha256 == culprit:
            raise RuntimeError("a bug of ours")
        return judge(stored, study, **how)

    import hashlib

    path = pipeline.spool.path(names[1])
    assert path
    culprit = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(pipeline.arrivals.registration, "_judge", broken)
    infer(pipeline)
    assert sorted(i.status for i in rows(pipeline, Instance)) == ["classified", "classified", "failed"]
    (failed,) = [i for i in rows(pipeline, Instance) if i.status == "failed"]
    assert "cannot be registered (RuntimeError)" in failed.reason
    assert unaccounted(pipeline) == []


def test_a_stranger_in_the_spool_stops_nobody_and_is_unaccounted_for(pipeline: Pipeline) -> None:
    stranger = pipeline.spool.incoming_dir / "0copied-back.dcm"
    stranger.write_bytes(b"?")
    (pipeline.spool.incoming_dir / "20260101T000000.000000000-0123456789abcdef.dcm").mkdir()
    spool_object(pipeline.spool, bright())
    infer(pipeline)
    assert [i.status for i in rows(pipeline, Instance)] == ["classified"]
    assert [entry["path"] for entry in unaccounted(pipeline)] == [str(stranger)]


def test_an_object_of_another_patient_is_never_merged_however_the_study_began(pipeline: Pipeline) -> None:
    first = film(Modality="SR", PatientID="", PatientName="", PixelData=None)
    spool_object(pipeline.spool, first)
    for patient in ("AAA", "BBB"):
        ds = bright(PatientID=patient)
        ds.StudyInstanceUID = first.StudyInstanceUID
        spool_object(pipeline.spool, ds)
    cut = bright(PatientID="CCC")
    cut.StudyInstanceUID = first.StudyInstanceUID
    name = spool_object(pipeline.spool, cut)
    path = pipeline.spool.path(name)
    assert path
    path.write_bytes(path.read_bytes()[:900])
    infer(pipeline)
    statuses = [(i.patient_id, i.status, i.reportable) for i in rows(pipeline, Instance)]
    assert statuses == [
        ("", "not_eligible", False),
        ("AAA", "classified", True),
        ("BBB", "failed", False),
        ("CCC", "failed", False),
    ]
    (study,) = rows(pipeline, Study)
    assert (study.patient_id, study.modality) == ("AAA", "DX")
