"""Destinations are asked to answer for our reports: committed, sent again, given up, unanswered, not offered."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest
from sqlmodel import select

from tests.support.fakes import MODEL, FakeClassifier, FakeReader, make_pipeline
from tests.support.objects import film, spool_object
from worker.commitment.message import Message, Reference
from worker.commitment.steps import CommitmentPolicy
from worker.config import Credentials, Peer
from worker.database import AuditEvent, CommitmentAsked, WorkItem, utc_now
from worker.errors import CommitmentRefused, PeerUnreachable
from worker.operations import quarantine_list, quarantine_retry, resend
from worker.pipeline import Pipeline
from worker.reporting import commitment, pacs
from worker.reporting.association import NothingAccepted
from worker.studies import study_document

PACS = Peer.parse("PACS@192.0.2.1:2762/tls")
OTHER = Peer.parse("OTHER@192.0.2.2:104")
CREDENTIALS = Credentials(ca=Path("ca.pem"))


class Destination:
    """A PACS in this process: it takes reports, and requests to commit to them."""

    def __init__(self) -> None:
        self.reports: list[str] = []
        self.requests: list[Message] = []
        self.error: Exception | None = None

    def deliver(self, path: Path, peer: Peer, **_: Any) -> pacs.Delivered:
        self.reports.append(str(pydicom.dcmread(path).SOPInstanceUID))
        return pacs.Delivered(sop_class_uid="1.2.99", status=0, warning=None)

    def ask(self, message: Message, peer: Peer, calling_ae: str, *, credentials: Credentials | None, **_: Any) -> None:
        assert credentials == CREDENTIALS
        if self.error is not None:
            raise self.error
        self.requests.append(message)


@pytest.fixture
def destination(monkeypatch: pytest.MonkeyPatch) -> Destination:
    made = Destination()
    monkeypatch.setattr(pacs, "deliver", made.deliver)
    monkeypatch.setattr(commitment, "ask", made.ask)
    return made


@pytest.fixture
def pipeline(database_url: str, tmp_path: Path, destination: Destination):
    policy = CommitmentPolicy(ask_of=("PACS",), answer_seconds=3600)
    made = make_pipeline(database_url, tmp_path, destinations=[PACS], commitment=policy, credentials=CREDENTIALS)
    yield made
    made.database.dispose()


def delivered(pipeline: Pipeline) -> str:
    """A film goes through until its report is delivered; returns the Study Instance UID."""
    ds = film()
    spool_object(pipeline.spool, ds)
    pipeline.register_arrivals()
    pipeline.infer(MODEL, FakeClassifier(), FakeReader())  # type: ignore[arg-type]
    pipeline.report()
    pipeline.deliver()
    return str(ds.StudyInstanceUID)


def answer(pipeline: Pipeline, request: Message, reason: int = 0, **changes: Any) -> None:
    """A result as the listener leaves it in the spool; it is registered and acted on."""
    (reference,) = request.references
    said = Reference(reference.sop_class_uid, changes.get("instance", reference.sop_instance_uid), reason)
    transaction = changes.get("transaction", request.transaction_uid)
    with pipeline.spool.receive_commitment() as incoming:
        incoming.write(Message("result", transaction, (said,), "PACS", "FIRSTREAD").to_json())
        incoming.commit()
    pipeline.register_arrivals()
    pipeline.deliver()


def rows(pipeline: Pipeline, table: Any) -> list[Any]:
    with pipeline.database.read() as session:
        return list(session.exec(select(table).order_by(table.id)).all())


def due_now(pipeline: Pipeline) -> None:
    with pipeline.database.write() as session:
        for item in session.exec(select(WorkItem).where(WorkItem.state == "owed")):
            item.not_before = utc_now()


def statuses(pipeline: Pipeline) -> list[str]:
    return [one.status for one in rows(pipeline, CommitmentAsked)]


def shown(pipeline: Pipeline, study: str) -> dict[str, Any]:
    with pipeline.database.read() as session:
        (report,) = study_document(session, study)["reports"]
    (one,) = report["deliveries"]
    return dict(one)


def test_a_delivery_is_committed_when_the_destination_says_so(pipeline: Pipeline, destination: Destination) -> None:
    study = delivered(pipeline)
    (request,) = destination.requests
    assert [(one.sop_class_uid, one.sop_instance_uid) for one in request.references] == [
        ("1.2.99", destination.reports[0])
    ], "the class it was sent as"
    assert (shown(pipeline, study)["committed"], statuses(pipeline)) == (None, ["asked"])
    before = [item.not_before for item in rows(pipeline, WorkItem)]
    pipeline.sweep()
    assert [item.not_before for item in rows(pipeline, WorkItem)] == before, "it waits as long as it is told to"
    pipeline.deliver()
    assert len(destination.requests) == 1, "asked once"
    answer(pipeline, request, transaction="2.25.1")
    answer(pipeline, request, instance="1.2.3")
    assert shown(pipeline, study)["committed"] is None, "neither is an answer to it"
    answer(pipeline, request)
    answer(pipeline, request, reason=0x0112)  # too late to matter
    assert shown(pipeline, study)["committed"] is True
    assert statuses(pipeline) == ["committed"]
    assert [e.action for e in rows(pipeline, AuditEvent)][-2:] == ["report.delivered", "report.committed"]
    assert {item.state for item in rows(pipeline, WorkItem)} == {"done"}
    assert pipeline.spool.commitments() == []


def test_what_is_not_committed_is_sent_again_and_given_up_at_last(pipeline: Pipeline, destination: Destination) -> None:
    study = delivered(pipeline)
    for _ in range(3):
        answer(pipeline, destination.requests[-1], reason=0x0112)
    assert len(destination.reports) == len(destination.requests) == 3
    assert len(set(destination.reports)) == 1, "the same report each time"
    said = shown(pipeline, study)
    assert (said["status"], said["committed"]) == ("failed", False)
    assert "0x0112 (no such object instance); given up after 3 deliveries" in said["last_error"]
    assert statuses(pipeline) == ["sent_again", "sent_again", "failed"]
    (given_up,) = quarantine_list(pipeline.database)
    assert (given_up.kind, given_up.study_instance_uid) == ("ask_commitment", study)
    quarantine_retry(pipeline, given_up.id)
    pipeline.deliver()
    assert (shown(pipeline, study)["status"], shown(pipeline, study)["committed"]) == ("delivered", None)
    answer(pipeline, destination.requests[-1])
    assert shown(pipeline, study)["committed"] is True


def test_a_report_sent_again_by_a_person_is_asked_about_anew(pipeline: Pipeline, destination: Destination) -> None:
    study = delivered(pipeline)
    answer(pipeline, destination.requests[0])
    resend(pipeline, study, [PACS])
    assert shown(pipeline, study)["committed"] is None
    pipeline.deliver()
    assert statuses(pipeline) == ["superseded", "asked"]
    answer(pipeline, destination.requests[-1])
    assert shown(pipeline, study)["committed"] is True


def test_no_result_in_time_asks_again_a_few_times_and_a_late_one_still_counts(
    pipeline: Pipeline, destination: Destination
) -> None:
    study = delivered(pipeline)
    pipeline.commitments.asking.answer_seconds = -1.0
    for _ in range(4):
        due_now(pipeline)
        pipeline.deliver()
    assert len(destination.requests) == len({one.transaction_uid for one in destination.requests}) == 3
    assert statuses(pipeline) == ["unanswered"] * 3
    said = shown(pipeline, study)
    assert (said["status"], said["committed"]) == ("delivered", None), "it was delivered, whatever else"
    assert "gave no result" in said["last_error"]
    assert [one.kind for one in quarantine_list(pipeline.database)] == ["ask_commitment"]
    answer(pipeline, destination.requests[0])
    assert shown(pipeline, study)["committed"] is True
    assert quarantine_list(pipeline.database) == []


def test_a_destination_without_storage_commitment_is_no_failure(pipeline: Pipeline, destination: Destination) -> None:
    destination.error = NothingAccepted("accepts none of what we propose")
    study = delivered(pipeline)
    assert (shown(pipeline, study)["status"], shown(pipeline, study)["committed"]) == ("delivered", None)
    assert statuses(pipeline) == ["unsupported"]
    assert {item.state for item in rows(pipeline, WorkItem)} == {"done"}


def test_a_destination_that_is_away_is_asked_for_ever(pipeline: Pipeline, destination: Destination) -> None:
    destination.error = PeerUnreachable("nobody listens")
    study = delivered(pipeline)
    for _ in range(5):
        due_now(pipeline)
        pipeline.deliver()
    assert statuses(pipeline) == ["pending"], "one row, however often"
    assert quarantine_list(pipeline.database) == []
    destination.error = None
    due_now(pipeline)
    pipeline.deliver()
    answer(pipeline, destination.requests[-1])
    assert shown(pipeline, study)["committed"] is True


def test_a_refusal_is_bounded_and_the_report_counts_as_delivered(pipeline: Pipeline, destination: Destination) -> None:
    destination.error = CommitmentRefused("0x0122")
    study = delivered(pipeline)
    for _ in range(4):
        due_now(pipeline)
        pipeline.deliver()
    said = shown(pipeline, study)
    assert (said["status"], said["committed"], said["last_error"]) == ("delivered", None, "0x0122")
    assert [(one.kind, one.attempts) for one in quarantine_list(pipeline.database)] == [("ask_commitment", 3)]


def test_a_result_that_is_faster_than_we_are_counts(
    pipeline: Pipeline, destination: Destination, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is registered before the request is written down as taken."""

    def ask(message: Message, *_: Any, keep: Callable[[Message], None], **__: Any) -> None:
        keep(Message("result", message.transaction_uid, message.references, "PACS", "FIRSTREAD"))
        pipeline.register_arrivals()

    monkeypatch.setattr(commitment, "ask", ask)
    assert shown(pipeline, delivered(pipeline))["committed"] is True


def test_only_the_destinations_that_are_named_are_asked(
    database_url: str, tmp_path: Path, destination: Destination
) -> None:
    for number, (names, asked) in enumerate([((), 0), (("OTHER",), 1), (("all",), 2)]):
        policy = CommitmentPolicy(ask_of=names, answer_seconds=3600)
        folder = tmp_path / str(number)
        pipeline = make_pipeline(
            database_url, folder, destinations=[PACS, OTHER], commitment=policy, credentials=CREDENTIALS
        )
        destination.requests.clear()
        delivered(pipeline)
        assert len(destination.requests) == asked
        pipeline.database.dispose()


def test_a_worker_that_dies_after_its_request_asks_anew_and_nothing_is_asked_twice_in_effect(
    pipeline: Pipeline, destination: Destination, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It dies before it can write that the request was taken; the answer to that request comes all the same."""

    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as dying:
        dying.setattr(pipeline.commitments.asking, "_asked", die)
        with pytest.raises(Killed):
            delivered(pipeline)
    with pipeline.database.write() as session:
        for item in session.exec(select(WorkItem).where(WorkItem.state == "leased")):
            item.lease_until = utc_now() - pipeline.work.lease
    pipeline.sweep()
    pipeline.deliver()
    first, second = destination.requests
    assert first.transaction_uid != second.transaction_uid
    answer(pipeline, first, reason=0x0112)
    assert statuses(pipeline) == ["asked"], "the first is not known any more, the second still counts"
    answer(pipeline, second)
    assert (statuses(pipeline), len(destination.reports)) == (["committed"], 1)
