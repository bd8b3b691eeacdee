"""What peers ask us to answer for: registered after what was there before, checked by its bytes, reported once."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest
from sqlmodel import select

from tests.support.backups import accounted
from tests.support.fakes import make_pipeline
from tests.support.objects import film, spool_object
from worker import arrivals
from worker.commitment.message import Message, Reference
from worker.commitment.steps import CommitmentPolicy
from worker.config import Credentials, Peer
from worker.database import AuditEvent, CommitmentRequest, Instance, WorkItem, utc_now
from worker.errors import CommitmentRefused, PeerUnreachable
from worker.intake.spool import Spool
from worker.operations import quarantine_list, quarantine_retry
from worker.pipeline import Pipeline
from worker.reconcile import reconcile
from worker.reporting import commitment

PEER = Peer.parse("MODALITY@192.0.2.7:2762/tls")
CREDENTIALS = Credentials(ca=Path("ca.pem"))


@pytest.fixture
def pipeline(database_url: str, tmp_path: Path):
    policy = CommitmentPolicy(peers={"MODALITY": PEER})
    made = make_pipeline(database_url, tmp_path, commitment=policy, credentials=CREDENTIALS)
    yield made
    made.database.dispose()


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, dict[str, int]]]:
    """What the peer was told: Transaction UID, from which of our AE titles, and the reason for each instance."""
    results: list[tuple[str, str, dict[str, int]]] = []

    def report(message: Message, peer: Peer, calling_ae: str, *, credentials: Credentials | None) -> None:
        assert (peer, credentials) == (PEER, CREDENTIALS)
        reasons = {one.sop_instance_uid: one.failure_reason for one in message.references}
        results.append((message.transaction_uid, calling_ae, reasons))

    monkeypatch.setattr(commitment, "report", report)
    return results


def ask(spool: Spool, *references: tuple[str, str], transaction: str = "2.25.7", calling: str = "MODALITY") -> str:
    """A request as the listener leaves it in the spool."""
    found = tuple(Reference(*one) for one in references)
    with spool.receive_commitment() as incoming:
        incoming.write(Message("request", transaction, found, calling, "OUR_NAME").to_json())
        incoming.commit()
        return incoming.name


def named(ds: pydicom.Dataset) -> tuple[str, str]:
    return str(ds.SOPClassUID), str(ds.SOPInstanceUID)


def stored(pipeline: Pipeline, count: int = 1) -> list[pydicom.Dataset]:
    made = [film() for _ in range(count)]
    for ds in made:
        spool_object(pipeline.spool, ds)
    register(pipeline)
    return made


def register(pipeline: Pipeline) -> None:
    while pipeline.register_arrivals():
        pass


def due_now(pipeline: Pipeline) -> None:
    with pipeline.database.write() as session:
        for item in session.exec(select(WorkItem).where(WorkItem.state == "owed")):
            item.not_before = utc_now()


def rows(pipeline: Pipeline, table: Any) -> list[Any]:
    with pipeline.database.read() as session:
        return list(session.exec(select(table).order_by(table.id)).all())


def path_of(pipeline: Pipeline, ds: pydicom.Dataset) -> Path:
    (instance,) = [one for one in rows(pipeline, Instance) if one.sop_instance_uid == ds.SOPInstanceUID]
    path = pipeline.spool.path(instance.spool_name)
    assert path is not None
    return path


def test_what_is_stored_is_answered_for_and_what_is_not_says_why(pipeline: Pipeline, told: list[Any]) -> None:
    good, changed, gone, other_class = stored(pipeline, 4)
    changed_path = path_of(pipeline, changed)
    changed_path.write_bytes(changed_path.read_bytes()[:-1] + b"\xff")
    path_of(pipeline, gone).unlink()
    ask(
        pipeline.spool,
        named(good), named(changed), named(gone), ("1.2.840.10008.5.1.4.1.1.2", named(other_class)[1]),
        ("1.2.840.10008.5.1.4.1.1.2", "1.2.3"),
    )  # fmt: skip
    register(pipeline)
    assert pipeline.deliver() == 1
    uids = [str(ds.SOPInstanceUID) for ds in (good, changed, gone, other_class)]
    wanted = dict(zip(uids, (0, 0x0110, 0x0110, 0x0119), strict=True)) | {"1.2.3": 0x0112}
    assert told == [("2.25.7", "OUR_NAME", wanted)]
    (request,) = rows(pipeline, CommitmentRequest)
    assert (request.status, request.attempts, request.last_error) == ("reported", 1, None)
    assert [e.action for e in rows(pipeline, AuditEvent)][-2:] == ["commitment.requested", "commitment.reported"]
    assert pipeline.deliver() == 0
    assert pipeline.spool.commitments() == []


def test_an_object_accepted_before_the_request_is_registered_before_it(
    pipeline: Pipeline, told: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Intake cannot read one of them at first; what came after the request does not matter."""
    ds = film()
    spool_object(pipeline.spool, ds)
    ask(pipeline.spool, named(ds))
    messages = pipeline.commitments.arrivals
    assert messages.register() == 0, "an object from before is not registered yet"
    late = spool_object(pipeline.spool, film())
    assert pipeline.arrivals is not None
    pipeline.arrivals._listed.extend(pipeline.spool.arrivals()[:1])
    pipeline.arrivals.register()
    assert [path.stem for path in pipeline.spool.arrivals()] == [late]
    assert messages.register() == 1
    pipeline.deliver()
    assert told[0][2] == {str(ds.SOPInstanceUID): 0}


def test_it_waits_for_objects_from_before_however_long_the_database_was_away(
    pipeline: Pipeline, told: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """More of them than one turn of intake registers."""
    made = [film() for _ in range(3)]
    for ds in made:
        spool_object(pipeline.spool, ds)
    ask(pipeline.spool, *map(named, made))
    pipeline.commitments.arrivals.register()
    clock = time.monotonic
    monkeypatch.setattr("time.monotonic", lambda: clock() + 86_400)
    monkeypatch.setattr("worker.arrivals.BATCH_OBJECTS", 1)
    for waiting in (2, 1):
        pipeline.register_arrivals()
        assert (pipeline.deliver(), len(pipeline.spool.arrivals())) == (0, waiting)
    register(pipeline)
    pipeline.deliver()
    assert told[0][2] == {str(ds.SOPInstanceUID): 0 for ds in made}


def test_it_does_not_wait_for_ever_for_an_object_that_intake_cannot_register(
    pipeline: Pipeline, told: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ds = film()
    spool_object(pipeline.spool, ds)
    ask(pipeline.spool, named(ds))
    assert pipeline.arrivals is not None
    monkeypatch.setattr(pipeline.arrivals.headers, "read", failing(OSError("the disk is ill")))
    monkeypatch.setattr("worker.arrivals.UNREADABLE_SECONDS", 0.0)
    for _ in range(arrivals.TRIES_BEFORE_LEFT - 1):
        assert pipeline.register_arrivals() == 0
    assert pipeline.register_arrivals() == 1
    pipeline.deliver()
    assert told[0][2] == {str(ds.SOPInstanceUID): 0x0112}


def test_of_objects_with_one_uid_all_must_be_there(pipeline: Pipeline, told: list[Any]) -> None:
    (ds,) = stored(pipeline)
    first = path_of(pipeline, ds)
    ds.PatientName = "Altered^Afterwards"
    spool_object(pipeline.spool, ds)
    ask(pipeline.spool, named(ds))
    register(pipeline)
    pipeline.deliver()
    first.unlink()
    ask(pipeline.spool, named(ds), transaction="2.25.8")
    register(pipeline)
    pipeline.deliver()
    assert [list(reasons.values()) for _, _, reasons in told] == [[0], [0x0110]]


def test_the_same_request_again_is_answered_again_and_another_under_its_uid_fails(
    pipeline: Pipeline, told: list[Any]
) -> None:
    one, two = stored(pipeline, 2)
    ask(pipeline.spool, named(one), named(two))
    ask(pipeline.spool, named(two), named(one))
    register(pipeline)
    pipeline.deliver()
    both = {str(ds.SOPInstanceUID): 0 for ds in (one, two)}
    assert told == [("2.25.7", "OUR_NAME", both)], "asked twice before it was answered: one result"
    path_of(pipeline, two).unlink()
    ask(pipeline.spool, named(one), named(two))
    register(pipeline)
    pipeline.deliver()
    assert told[1][2] == both | {str(two.SOPInstanceUID): 0x0110}, "the bytes are read again"
    ask(pipeline.spool, named(one))
    register(pipeline)
    pipeline.deliver()
    assert told[2][2] == {str(one.SOPInstanceUID): 0x0131}
    assert [(one.duplicate, one.status) for one in rows(pipeline, CommitmentRequest)] == [
        (False, "reported"), (True, "reported"),
    ]  # fmt: skip


def test_a_crash_after_registration_registers_nothing_twice(
    pipeline: Pipeline, told: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (ds,) = stored(pipeline)
    ask(pipeline.spool, named(ds))
    (path,) = pipeline.spool.commitments()
    kept = path.read_bytes()
    register(pipeline)
    pipeline.deliver()
    path.write_bytes(kept)
    register(pipeline)
    pipeline.deliver()
    assert (len(told), len(rows(pipeline, CommitmentRequest)), path.exists()) == (1, 1, False)


def test_a_peer_that_is_away_is_told_for_ever_the_same(
    pipeline: Pipeline, told: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (ds,) = stored(pipeline)
    ask(pipeline.spool, named(ds))
    register(pipeline)
    report = commitment.report
    monkeypatch.setattr(commitment, "report", failing(PeerUnreachable("nobody listens")))
    for _ in range(5):
        assert pipeline.deliver() == 1
        due_now(pipeline)
    (request,) = rows(pipeline, CommitmentRequest)
    assert (request.status, request.attempts, request.last_error) == ("pending", 5, "nobody listens")
    path_of(pipeline, ds).unlink()
    monkeypatch.setattr(commitment, "report", report)
    pipeline.deliver()
    assert told[0][2] == {str(ds.SOPInstanceUID): 0}, "the result that was found, not another at each attempt"


def test_a_refusal_is_bounded_shown_and_tried_again_on_request(
    pipeline: Pipeline, told: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (ds,) = stored(pipeline)
    ask(pipeline.spool, named(ds))
    register(pipeline)
    report = commitment.report
    monkeypatch.setattr(commitment, "report", failing(CommitmentRefused("0x0110")))
    for _ in range(5):
        pipeline.deliver()
        due_now(pipeline)
    (given_up,) = quarantine_list(pipeline.database)
    assert (given_up.kind, given_up.lane, given_up.last_error, given_up.attempts) == ("commit", "MODALITY", "0x0110", 3)
    assert [(one.status, one.attempts) for one in rows(pipeline, CommitmentRequest)] == [("failed", 3)]
    monkeypatch.setattr(commitment, "report", report)
    quarantine_retry(pipeline, given_up.id)
    pipeline.deliver()
    assert len(told) == 1
    assert [one.status for one in rows(pipeline, CommitmentRequest)] == ["reported"]


def test_without_an_address_the_request_is_kept_and_says_what_to_do(pipeline: Pipeline, told: list[Any]) -> None:
    (ds,) = stored(pipeline)
    ask(pipeline.spool, named(ds), calling="STRANGER")
    register(pipeline)
    pipeline.deliver()
    (request,) = rows(pipeline, CommitmentRequest)
    assert (request.status, request.failures) == ("pending", None)
    assert {item.lane for item in rows(pipeline, WorkItem) if item.kind == "commit"} == {"other"}
    assert "FIRSTREAD_COMMITMENT_PEERS" in request.last_error
    assert told == []
    pipeline.commitments.reporting.peers = {"STRANGER": PEER}
    due_now(pipeline)
    pipeline.deliver()
    assert len(told) == 1


def test_a_sweep_leaves_the_wait_for_an_address_as_it_is(pipeline: Pipeline, told: list[Any]) -> None:
    """Only a clock that was stepped back puts work further ahead than anybody here does."""
    (ds,) = stored(pipeline)
    ask(pipeline.spool, named(ds), calling="STRANGER")
    register(pipeline)
    pipeline.deliver()
    before = [item.not_before for item in rows(pipeline, WorkItem)]
    pipeline.sweep()
    assert [item.not_before for item in rows(pipeline, WorkItem)] == before
    pipeline.deliver()
    assert [one.attempts for one in rows(pipeline, CommitmentRequest)] == [1]


def test_what_has_rotted_here_is_made_good_by_a_resend(
    pipeline: Pipeline, told: list[Any], database_url: str, tmp_path: Path
) -> None:
    (ds,) = stored(pipeline)
    path = path_of(pipeline, ds)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"\xff")
    ask(pipeline.spool, named(ds))
    register(pipeline)
    pipeline.deliver()
    for transaction in ("2.25.8", "2.25.9"):  # the second resend finds whole bytes and changes nothing
        spool_object(pipeline.spool, ds)
        ask(pipeline.spool, named(ds), transaction=transaction)
        register(pipeline)
        pipeline.deliver()
    assert [list(reasons.values()) for _, _, reasons in told] == [[0x0110], [0], [0]]
    assert path_of(pipeline, ds).read_bytes() == whole
    assert not path.exists(), "the rotten bytes are not left behind"
    assert [one.action for one in rows(pipeline, AuditEvent)].count("instance.restored") == 1
    assert accounted(database_url, tmp_path)["unaccounted"] == []


def test_a_worker_that_vanishes_every_time_ends_in_quarantine(
    database_url: str, tmp_path: Path, told: list[Any]
) -> None:
    pipeline = make_pipeline(database_url, tmp_path, lease_seconds=0.0, max_attempts=1)
    (ds,) = stored(pipeline)
    ask(pipeline.spool, named(ds))
    register(pipeline)
    pipeline.work.claim("commit", lane="other")  # type: ignore[arg-type]
    pipeline.sweep()
    assert [one.kind for one in quarantine_list(pipeline.database)] == ["commit"]
    assert [one.status for one in rows(pipeline, CommitmentRequest)] == ["failed"]
    pipeline.database.dispose()


def test_a_check_is_left_to_another_when_the_process_is_asked_to_end(pipeline: Pipeline, told: list[Any]) -> None:
    (ds,) = stored(pipeline)
    ask(pipeline.spool, named(ds))
    register(pipeline)
    reporting = pipeline.commitments.reporting
    reporting.stopping = lambda: True
    (claim,) = pipeline.work.claim("commit", lane="MODALITY")  # type: ignore[arg-type]
    reporting.report(claim)
    reporting.stopping = lambda: False
    assert told == []
    pipeline.deliver()
    assert len(told) == 1


@pytest.mark.parametrize("damaged", [b"{", b'{"kind": "request", "transaction_uid": "1", "references": [[1, {}]]}'])
def test_a_damaged_message_is_left_and_holds_up_no_other(pipeline: Pipeline, told: list[Any], damaged: bytes) -> None:
    (ds,) = stored(pipeline)
    name = ask(pipeline.spool, named(ds))
    path = pipeline.spool.commitments_dir / f"{name}.json"
    path.write_bytes(damaged)
    ask(pipeline.spool, named(ds), transaction="2.25.8")
    register(pipeline)
    pipeline.deliver()
    assert (len(told), path.exists()) == (1, True)
    assert reconcile(pipeline.database, pipeline.spool, pipeline.reports.reports_dir).unaccounted == []


def failing(error: Exception) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail
