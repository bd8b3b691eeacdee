"""The child that reads headers: what becomes of an object that ends it, and that its neighbours never notice."""

import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from sqlmodel import select

from tests.support.fakes import make_pipeline
from tests.support.objects import film, save, spool_object
from tests.support.stand_in_child import write_stand_in
from worker.database import Instance
from worker.errors import ChildLost
from worker.intake.header_text import text
from worker.intake.headers import HeaderReader

KEYWORDS = ("StudyInstanceUID", "Modality")
PATIENT = 20.0


@pytest.fixture
def reader() -> Iterator[HeaderReader]:
    with HeaderReader(seconds=PATIENT) as reader:
        yield reader


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return save(film(), tmp_path / "a.dcm")


def child_of(reader: HeaderReader) -> psutil.Process:
    child = reader.child._child  # its own: others of this process may have one too
    assert child is not None
    return psutil.Process(child.pid)


def test_the_child_can_do_nothing_but_read(reader: HeaderReader, path: Path) -> None:
    missing = {name: words for name, (there, words) in reader.child.layers().items() if not there}
    if missing:
        pytest.skip(f"this machine has not every layer: {missing}")
    assert reader.child.probe() == []
    assert text(reader.read(path, KEYWORDS).header, "Modality") == "DX"


def test_character_sets_are_at_hand_when_the_child_is_confined(reader: HeaderReader, tmp_path: Path) -> None:
    for terms in (["", "ISO 2022 IR 87"], ["ISO 2022 IR 58"], "ISO_IR 192", "GB18030", ["", "ISO 2022 IR 149"]):
        path = save(film(SpecificCharacterSet=terms, StudyDescription="Chest"), tmp_path / "a.dcm")
        stored = reader.read(path, ["StudyDescription"])
        assert (stored.defect, stored.header) == ("", {"StudyDescription": ["Chest"]})


def test_a_child_that_died_while_idle_costs_nothing(reader: HeaderReader, path: Path) -> None:
    reader.read(path, KEYWORDS)
    child = child_of(reader)
    child.kill()
    assert reader.read(path, KEYWORDS).defect == ""
    assert child_of(reader) != child


def test_a_header_without_end_in_time_is_a_visible_failure_that_keeps_its_identity(path: Path) -> None:
    with HeaderReader(seconds=0.3) as reader:
        whole = reader.read(path, KEYWORDS)
        child_of(reader).suspend()
        stored = reader.read(path, KEYWORDS)
        assert stored.defect == "reading its header took longer than 0.3 seconds"
        assert stored.header == {}
        assert (stored.sop_instance_uid, stored.sha256) == (whole.sop_instance_uid, whole.sha256)
        assert reader.read(path, KEYWORDS) == whole


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], HeaderReader]:
    def make(body: str) -> HeaderReader:
        monkeypatch.setattr(sys, "executable", write_stand_in(tmp_path, body))
        return HeaderReader(seconds=2)

    return make


def found(header: str, has_pixels: str = "True") -> str:
    return f"say(job=0); say(job=job(), header={header}, has_pixels={has_pixels}, defect=''); time.sleep(60)"


@pytest.mark.parametrize("body", [
    found("{'PatientBirthDate': ['19600101']}"),
    found("{'Modality': ['C\\nT']}"),
    found("{'Modality': ['x' * 1025]}"),
    found("{'Modality': ['x'] * 65}"),
    found("{'Modality': 'CT'}"),
    found("{'Modality': [7]}"),
    found("['Modality']"),
    found("{}", has_pixels="'yes'"),
    "say(job=0); job(); channel.send(b'[' * 100000); time.sleep(60)",
    "say(job=0); say(job=job()); time.sleep(60)",
])  # fmt: skip
def test_a_child_that_answers_nonsense_is_not_believed(
    stand_in: Callable[[str], HeaderReader], path: Path, body: str
) -> None:
    with stand_in(body) as reader:
        stored = reader.read(path, KEYWORDS)
    assert stored.defect.startswith("the process that reads headers answered nonsense")
    assert (stored.header, stored.has_pixels) == ({}, False)
    assert len(stored.sha256) == 64


def test_a_child_that_cannot_start_is_not_the_objects_fault(
    stand_in: Callable[[str], HeaderReader], path: Path
) -> None:
    with stand_in("sys.exit('no memory')") as reader, pytest.raises(ChildLost, match="no memory"):
        reader.read(path, KEYWORDS)


POISONED = """#!{python}
# The child itself, but for an object that says POISON: reading that ends it.
import ctypes, os, sys
sys.argv = ["header_child", *sys.argv[4:]]
from worker.guarded.serving import child_parser, serve
from worker.intake import header_child
def handle(job, file):
    if b"POISON" in os.pread(file, 5000, 0):
        ctypes.string_at(0)
    return header_child.handle(job, file)
serve(child_parser("").parse_args(), handle)
"""


def test_an_object_that_ends_the_child_is_one_failure_and_its_neighbours_are_registered(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "python"
    script.write_text(POISONED.format(python=sys.executable))
    script.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(script))
    pipeline = make_pipeline(database_url, tmp_path)
    assert pipeline.arrivals
    with HeaderReader(seconds=PATIENT) as pipeline.arrivals.headers:
        objects = [film(StudyDescription="POISON" if number in {0, 2} else "Chest") for number in range(5)]
        for one in objects:
            spool_object(pipeline.spool, one)
        assert pipeline.register_arrivals() == 5
    with pipeline.database.read() as session:
        instances = {one.sop_instance_uid: one for one in session.exec(select(Instance)).all()}
    pipeline.database.dispose()
    statuses = [instances[str(one.SOPInstanceUID)].status for one in objects]
    assert statuses == ["failed", "pending", "failed", "pending", "pending"]
    reason = instances[str(objects[0].SOPInstanceUID)].reason
    assert (
        reason == f"the process that reads headers was ended by {signal.SIGSEGV.name} while it read this header: "
        "it is damaged"
    )


def test_no_child_at_all_leaves_the_arrivals_where_they_are(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = make_pipeline(database_url, tmp_path)
    for _ in range(3):
        spool_object(pipeline.spool, film())
    assert pipeline.arrivals
    with HeaderReader() as own, monkeypatch.context() as broken:
        pipeline.arrivals.headers = own
        own.close()
        broken.setattr(sys, "executable", "/nowhere/python")
        assert pipeline.register_arrivals() == 0
        broken.undo()
        assert pipeline.register_arrivals() == 0  # not tried again at once
        pipeline.arrivals._no_child_until = 0.0
        assert pipeline.register_arrivals() == 3
    pipeline.database.dispose()
