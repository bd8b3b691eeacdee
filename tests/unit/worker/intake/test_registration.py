"""Registration of a batch: what is in it twice or against each other comes to what one by one would."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from sqlmodel import col, select

from tests.support.fakes import make_pipeline
from tests.support.objects import film, spool_object
from worker.database import AuditEvent, Instance, Series, Study, WorkItem
from worker.pipeline import Pipeline


@pytest.fixture
def pipeline(database_url: str, tmp_path: Path) -> Iterator[Pipeline]:
    made = make_pipeline(database_url, tmp_path)
    yield made
    made.database.dispose()


def small(level: int = 900, **attributes: Any) -> Dataset:
    return film(np.full((4, 4), level, np.uint16), **attributes)


def rows(pipeline: Pipeline, table: Any) -> list[Any]:
    with pipeline.database.read() as session:
        return list(session.exec(select(table).order_by(table.id)).all())


def registered(pipeline: Pipeline) -> list[tuple[str, str]]:
    with pipeline.database.read() as session:
        query = select(AuditEvent.action, AuditEvent.subject).where(col(AuditEvent.action).startswith("instance."))
        return [tuple(row) for row in session.exec(query.order_by(col(AuditEvent.id)))]


def test_the_same_object_twice_in_a_batch_is_registered_once(pipeline: Pipeline) -> None:
    twice, other = small(), small()
    names = [spool_object(pipeline.spool, ds) for ds in (twice, other, twice)]
    assert pipeline.register_arrivals() == 3
    assert [one.spool_name for one in rows(pipeline, Instance)] == names[:2]
    assert len(rows(pipeline, WorkItem)) == 2
    assert registered(pipeline) == [("instance.registered", str(ds.SOPInstanceUID)) for ds in (twice, other)]
    assert pipeline.spool.path(names[2]) is None
    assert list(pipeline.spool.arrivals()) == []


def test_one_uid_with_other_bytes_in_a_batch_is_a_conflict_of_the_later_one(pipeline: Pipeline) -> None:
    first = small()
    later = small(1200, SOPInstanceUID=first.SOPInstanceUID, StudyInstanceUID=first.StudyInstanceUID)
    for ds in (first, later, later):
        spool_object(pipeline.spool, ds)
    pipeline.register_arrivals()
    assert [(one.status, one.reason[:12]) for one in rows(pipeline, Instance)] == [
        ("pending", ""),
        ("failed", "UID conflict"),
    ]
    assert len(rows(pipeline, WorkItem)) == 1


def test_a_study_is_as_its_first_object_says_and_the_others_fill_in_what_it_left_out(pipeline: Pipeline) -> None:
    first = small(Modality="SR", PatientID="", PatientName="", AccessionNumber="")
    second = small(StudyInstanceUID=first.StudyInstanceUID, PatientID="AAA", PatientName="A^B")
    third = small(StudyInstanceUID=first.StudyInstanceUID, PatientID="BBB")
    fourth = small(StudyInstanceUID=first.StudyInstanceUID, SeriesInstanceUID=second.SeriesInstanceUID, PatientID="AAA")
    for ds in (first, second, third, fourth):
        spool_object(pipeline.spool, ds)
    pipeline.register_arrivals()
    (study,) = rows(pipeline, Study)
    assert (study.patient_id, study.patient_name, study.modality) == ("AAA", "A^B", "DX")
    found = rows(pipeline, Instance)
    assert [one.patient_id for one in found] == ["", "AAA", "BBB", "AAA"]
    assert [one.reason.partition(":")[0] for one in found][2] == "PatientID conflict"
    assert found[1].remark == "an earlier object of the study has no PatientID"
    assert found[1].series_id == found[3].series_id
    assert len(rows(pipeline, Series)) == 3
    assert study.last_received_at == max(one.received_at for one in found)


def test_a_batch_is_written_down_in_the_order_in_which_it_came(pipeline: Pipeline) -> None:
    lost = small()
    name = spool_object(pipeline.spool, lost)
    pipeline.register_arrivals()
    path = pipeline.spool.path(name)
    assert path
    path.unlink()
    before, after = small(), small()
    for ds in (before, lost, after, lost):
        spool_object(pipeline.spool, ds)
    pipeline.register_arrivals()
    assert registered(pipeline)[1:] == [
        ("instance.registered", str(before.SOPInstanceUID)),
        ("instance.restored", str(lost.SOPInstanceUID)),
        ("instance.registered", str(after.SOPInstanceUID)),
    ]
    assert len(rows(pipeline, Instance)) == 3
    assert list(pipeline.spool.arrivals()) == []
