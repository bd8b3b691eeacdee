"""Storage commitment with a PACS that no one here wrote, both ways: Orthanc asks us, and we ask Orthanc."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import select

from tests.support.fakes import MODEL, FakeClassifier, FakeReader, make_pipeline
from tests.support.listener_process import ListenerProcess
from tests.support.objects import film, save
from tests.support.peers import Orthanc
from worker.commitment.message import Message
from worker.commitment.steps import CommitmentPolicy
from worker.config import Peer
from worker.database import CommitmentAsked, CommitmentRequest, Delivery, Instance, Report
from worker.pipeline import Pipeline
from worker.reporting import commitment

pytestmark = pytest.mark.peer("Orthanc")


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[ListenerProcess]:
    with ListenerProcess(tmp_path / "data") as running:
        yield running


@pytest.fixture
def orthanc(tmp_path: Path, listener: ListenerProcess) -> Iterator[Orthanc]:
    with Orthanc(tmp_path / "orthanc", firstread=("FIRSTREAD", listener.host, listener.port)) as running:
        yield running


@pytest.fixture
def pipeline(tmp_path: Path, listener: ListenerProcess, orthanc: Orthanc) -> Iterator[Pipeline]:
    """What intake and the workers are, in this process, on the data directory of the listener."""
    peer = Peer.parse(orthanc.peer)
    made = make_pipeline(
        f"sqlite:///{tmp_path}/data/firstread.db",
        tmp_path / "data",
        destinations=[peer],
        commitment=CommitmentPolicy(peers={"ORTHANC": peer}, ask_of=("ORTHANC",), answer_seconds=60),
    )
    yield made
    made.database.dispose()


def until(pipeline: Pipeline, done: Callable[[], Any], seconds: float = 60) -> Any:
    """Let the services do what is due until something holds."""
    deadline = time.monotonic() + seconds
    while not (found := done()):
        assert time.monotonic() < deadline
        pipeline.register_arrivals()
        pipeline.infer(MODEL, FakeClassifier(), FakeReader())  # type: ignore[arg-type]
        pipeline.report()
        pipeline.deliver()
        time.sleep(0.1)
    return found


def rows(pipeline: Pipeline, table: Any) -> list[Any]:
    with pipeline.database.read() as session:
        return list(session.exec(select(table).order_by(table.id)).all())


def test_orthanc_asks_us(tmp_path: Path, orthanc: Orthanc, pipeline: Pipeline) -> None:
    made = [film() for _ in range(3)]
    ids = [orthanc.post("instances", save(ds, tmp_path / "film.dcm").read_bytes())["ID"] for ds in made]
    orthanc.post("modalities/firstread/store", ids[:2])
    until(pipeline, lambda: len(rows(pipeline, Instance)) == 2)
    stored = pipeline.spool.path(rows(pipeline, Instance)[1].spool_name)
    assert stored is not None
    stored.write_bytes(stored.read_bytes()[:-1] + b"\xff")

    uids = [[str(ds.SOPClassUID), str(ds.SOPInstanceUID)] for ds in made]
    first = orthanc.post("modalities/firstread/storage-commitment", {"DicomInstances": [uids[0]]})
    both = orthanc.post("modalities/firstread/storage-commitment", {"DicomInstances": uids})

    def answers() -> list[dict[str, Any]] | None:
        found = [orthanc.get(one["Path"].lstrip("/")) for one in (first, both)]
        return None if any(one["Status"] == "Pending" for one in found) else found

    good, bad = until(pipeline, answers)
    assert (good["Status"], bad["Status"]) == ("Success", "Failure")
    assert [one["SOPInstanceUID"] for one in bad["Success"]] == [uids[0][1]]
    assert {one["SOPInstanceUID"]: one["FailureReason"] for one in bad["Failures"]} == {
        uids[1][1]: 0x0110,
        uids[2][1]: 0x0112,
    }
    requests = rows(pipeline, CommitmentRequest)
    assert {(one.calling_ae, one.status, one.attempts) for one in requests} == {("ORTHANC", "reported", 1)}
    assert pipeline.spool.commitments() == []


def test_we_ask_orthanc(tmp_path: Path, orthanc: Orthanc, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has lost a report and says so: the report is sent again, and then it commits to it."""
    really = commitment.ask
    lost: list[str] = []

    def ask_when_it_is_lost(request: Message, *arguments: Any, **more: Any) -> None:
        if not lost:
            lost.extend(orthanc.post("tools/lookup", request.references[0].sop_instance_uid.encode()))
            orthanc.delete(f"instances/{lost[0]['ID']}")
        really(request, *arguments, **more)

    monkeypatch.setattr(commitment, "ask", ask_when_it_is_lost)
    instance = orthanc.post("instances", save(film(), tmp_path / "film.dcm").read_bytes())["ID"]
    orthanc.post("modalities/firstread/store", [instance])
    (delivery,) = until(pipeline, lambda: [one for one in rows(pipeline, Delivery) if one.committed])
    assert (delivery.status, delivery.attempts) == ("delivered", 2)
    asked = rows(pipeline, CommitmentAsked)
    assert [(one.status, one.failure_reason) for one in asked] == [("sent_again", 0x0112), ("committed", None)]
    (report,) = rows(pipeline, Report)
    assert report.sop_instance_uid in orthanc.instances()
    assert pipeline.spool.commitments() == []
