"""Reasons and remarks quote codes, numbers and UIDs of an object; what may be a name in the wrong place they do not."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.uid import ExplicitVRLittleEndian
from sqlmodel import select

from tests.support.bombs import element
from tests.support.fakes import make_pipeline
from tests.support.objects import prefix, spool_bytes
from worker.database import Instance, Study
from worker.intake.described import quotable_uid
from worker.intake.headers import HeaderReader
from worker.intake.routing import describe

NAMES = ["DOE^JANE", "DOE JANE", "DOE", "Doe", "DOE_JANE", "DOE1950", "王"]
PIXELS = element(0x7FE00010, "OW", b"\0\0")


@pytest.fixture(scope="module")
def reader() -> Iterator[HeaderReader]:
    with HeaderReader() as reader:
        yield reader


@pytest.mark.parametrize("name", NAMES)
def test_a_name_where_a_code_belongs(name: str) -> None:
    assert describe({"Modality": [name], "BodyPartExamined": [name]}) == (
        "Modality no defined term, BodyPartExamined no defined term"
    )
    assert describe({"Modality": ["CT"], "BodyPartExamined": ["HEART"]}) == "Modality CT, BodyPartExamined HEART"


@pytest.mark.parametrize("name", NAMES)
def test_a_name_where_a_uid_belongs(name: str) -> None:
    assert quotable_uid(name) == "its value"
    assert quotable_uid("1.2.3.") == "'1.2.3.'"


@pytest.mark.parametrize("tag", [0x00080016, 0x00080018, 0x0020000D, 0x00080060, 0x00180015, 0x00080005])
@pytest.mark.parametrize("pixels", [b"", PIXELS])
def test_what_is_written_down_of_a_name(tmp_path: Path, reader: HeaderReader, tag: int, pixels: bytes) -> None:
    pipeline = make_pipeline(f"sqlite:///{tmp_path / 'firstread.db'}", tmp_path)
    assert pipeline.arrivals
    pipeline.arrivals.headers = reader
    vr = "UI" if tag in {0x00080016, 0x00080018, 0x0020000D} else "CS"
    spool_bytes(pipeline.spool, prefix(ExplicitVRLittleEndian) + element(tag, vr, b"DOE JANE") + pixels)
    assert pipeline.register_arrivals() == 1
    with pipeline.database.read() as session:
        (instance,), (study,) = session.exec(select(Instance)).all(), session.exec(select(Study)).all()
    pipeline.database.dispose()
    said = (instance.reason, instance.remark, study.reason, study.remark, study.study_instance_uid)
    assert instance.reason or instance.remark
    assert not [words for words in said if "DOE" in words or "JANE" in words]
