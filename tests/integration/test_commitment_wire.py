"""Storage commitment on the wire: our listener and our associations against pynetdicom peers, good and bad ones."""

import logging
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, build_role
from pynetdicom import association as association_module
from pynetdicom.sop_class import CTImageStorage, StorageCommitmentPushModel, Verification

from tests.support.commitment import (
    CT,
    EXPLICIT,
    IMPLICIT,
    SOP_CLASS,
    SOP_INSTANCE,
    commitment_peer,
    encoded,
    information,
    item,
)
from tests.support.listener_process import ListenerProcess
from tests.support.scp import start_scp
from worker.commitment.message import MAX_BYTES, MAX_REFERENCES, Message, Reference
from worker.config import Peer
from worker.errors import CommitmentRefused, PeerUnreachable
from worker.reporting import commitment
from worker.reporting.association import NothingAccepted

QUICK = {"connect_seconds": 5.0, "dimse_seconds": 5.0}
RESULT = Message("result", "2.25.7", (Reference(CT, "1.2.3"), Reference(CT, "1.2.4", 0x0112)))
REQUEST = Message("request", "2.25.8", (Reference(CT, "1.2.3"),))

pytestmark = pytest.mark.usefixtures("_quiet")


@pytest.fixture
def _quiet() -> Iterator[None]:
    logger = logging.getLogger("pynetdicom")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(level)


@pytest.fixture(scope="module")
def listener(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ListenerProcess]:
    with ListenerProcess(tmp_path_factory.mktemp("listener") / "data") as running:
        yield running


def associate(listener: ListenerProcess, *, scp: bool = False, syntaxes: tuple[str, ...] = (EXPLICIT, IMPLICIT)) -> Any:
    ae = AE("MODALITY")
    ae.add_requested_context(StorageCommitmentPushModel, list(syntaxes))
    ae.add_requested_context(CTImageStorage)
    roles = [build_role(StorageCommitmentPushModel, scp_role=True)] if scp else []
    opened = ae.associate(listener.host, listener.port, ae_title="FIRSTREAD", ext_neg=roles)
    assert opened.is_established
    return opened


def n_action(opened: Any, data_set: Dataset | None, action: int = 1, instance: str = SOP_INSTANCE) -> int:
    status, _ = opened.send_n_action(data_set, action, SOP_CLASS, instance)
    return int(status.Status)


def kept(listener: ListenerProcess) -> list[Message]:
    return [Message.from_json(path.read_bytes()) for path in listener.spool.commitments()]


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
def test_a_request_is_kept_and_answered(listener: ListenerProcess, syntax: str) -> None:
    uid = str(generate_uid(prefix=None))
    opened = associate(listener, syntaxes=(syntax,))
    status, reply = opened.send_n_action(
        information([item("1.2.3"), item("1.2.4")], transaction_uid=uid), 1, SOP_CLASS, SOP_INSTANCE
    )
    opened.release()
    assert (status.Status, reply) == (0x0000, Dataset())
    message = kept(listener)[-1]
    assert (message.kind, message.transaction_uid, message.calling_ae) == ("request", uid, "MODALITY")
    assert [one.sop_instance_uid for one in message.references] == ["1.2.3", "1.2.4"]


def test_a_result_comes_from_a_peer_that_is_the_scp(listener: ListenerProcess) -> None:
    opened = associate(listener, scp=True)
    (context,) = [one for one in opened.accepted_contexts if one.abstract_syntax == SOP_CLASS]
    assert (context.as_scu, context.as_scp) == (False, True), "the role is granted, in words"
    status, _ = opened.send_n_event_report(
        information([item("1.2.3")], [item("1.2.4", reason=0x0119)]), 2, SOP_CLASS, SOP_INSTANCE
    )
    opened.release()
    assert status.Status == 0x0000
    message = kept(listener)[-1]
    assert message.kind == "result"
    assert {one.sop_instance_uid: one.failure_reason for one in message.references} == {"1.2.3": 0, "1.2.4": 0x0119}


def test_what_is_refused_leaves_nothing_and_the_association_goes_on(listener: ListenerProcess) -> None:
    before = len(kept(listener))
    opened = associate(listener)
    good = information([item("1.2.3")])
    assert n_action(opened, good, action=2) == 0x0123
    assert n_action(opened, good, instance="1.2.3") == 0x0112
    assert n_action(opened, None) == 0x0115
    assert n_action(opened, information()) == 0x0115
    many = information([item(f"1.2.{number}") for number in range(MAX_REFERENCES + 1)])
    assert n_action(opened, many) == 0x0115
    huge = information([item("1.2.3")])
    huge.EncapsulatedDocument = bytes(MAX_BYTES)
    assert n_action(opened, huge) == 0x0213
    status, _ = opened.send_n_event_report(good, 9, SOP_CLASS, SOP_INSTANCE)
    assert status.Status == 0x0113
    assert len(kept(listener)) == before
    assert n_action(opened, good) == 0x0000
    opened.release()
    assert len(kept(listener)) == before + 1
    refused = [line["status"] for line in listener.events("commitment_message_refused")]
    assert refused == ["0123", "0112", "0115", "0115", "0115", "0213", "0113"]


def test_an_encoding_that_is_not_read_is_not_accepted(listener: ListenerProcess) -> None:
    ae = AE("MODALITY")
    ae.add_requested_context(StorageCommitmentPushModel, "1.2.840.10008.1.2.1.99")
    ae.add_requested_context(Verification)
    opened = ae.associate(listener.host, listener.port, ae_title="FIRSTREAD")
    assert [(one.abstract_syntax, one.result) for one in opened.rejected_contexts] == [(SOP_CLASS, 4)], "deflated"
    opened.release()


def test_what_was_answered_outlives_a_kill(tmp_path: Path) -> None:
    with ListenerProcess(tmp_path / "data") as running:
        opened = associate(running)
        assert n_action(opened, information([item("1.2.3")])) == 0x0000
        running.stop(signal.SIGKILL)
        opened.abort()
        assert [one.kind for one in kept(running)] == ["request"]


def test_a_full_disk_is_a_resource_limitation(tmp_path: Path) -> None:
    with ListenerProcess(tmp_path / "data", min_free_bytes=1 << 60) as running:
        opened = associate(running)
        assert n_action(opened, information([item("1.2.3")])) == 0x0213
        opened.release()


def test_we_report_as_the_scp_on_an_association_of_our_own() -> None:
    came: list[tuple[int, Dataset]] = []

    def on_event(event: Any) -> tuple[int, None]:
        assert event.assoc.requestor.ae_title == "OUR_NAME"
        came.append((event.event_type, event.event_information))
        return 0x0000, None

    all_well = Message("result", "2.25.9", (Reference(CT, "1.2.3"),))
    with commitment_peer(on_event=on_event) as peer:
        commitment.report(RESULT, peer, "OUR_NAME", **QUICK)
        commitment.report(all_well, peer, "OUR_NAME", **QUICK)
    (failures, said), (all_committed, said_well) = came
    assert (failures, all_committed) == (2, 1)
    assert (said.TransactionUID, said_well.TransactionUID) == ("2.25.7", "2.25.9")
    assert [one.ReferencedSOPInstanceUID for one in said.ReferencedSOPSequence] == ["1.2.3"]
    assert [(one.ReferencedSOPInstanceUID, one.FailureReason) for one in said.FailedSOPSequence] == [("1.2.4", 0x0112)]
    assert "FailedSOPSequence" not in said_well


@pytest.mark.parametrize(("status", "error"), [(0x0213, PeerUnreachable), (0x0110, CommitmentRefused)])
def test_what_peers_answer_is_told_apart(status: int, error: type[Exception]) -> None:
    answered = Dataset()
    answered.Status, answered.ErrorComment = status, "Patient DOE^JANE 4711 not in RIS"
    with commitment_peer(on_event=lambda _: (answered, None), on_action=lambda _: (answered, None)) as peer:
        with pytest.raises(error, match=f"0x{status:04X}") as told:
            commitment.report(RESULT, peer, "FIRSTREAD", **QUICK)
        with pytest.raises(error, match=f"0x{status:04X}") as asked:
            commitment.ask(REQUEST, peer, "FIRSTREAD", keep=lambda _: None, **QUICK)
    assert "DOE" not in str(told.value) + str(asked.value)


def test_a_peer_without_storage_commitment() -> None:
    ae = AE(ae_title="PEER")
    ae.add_supported_context(Verification)
    server = start_scp(ae)
    peer = Peer(ae_title="PEER", host="127.0.0.1", port=server.socket.getsockname()[1])
    try:
        with pytest.raises(NothingAccepted):
            commitment.ask(REQUEST, peer, "FIRSTREAD", keep=lambda _: None, **QUICK)
        with pytest.raises(PeerUnreachable, match="us as the SCP"):
            commitment.report(RESULT, peer, "FIRSTREAD", **QUICK)
    finally:
        server.shutdown()
    with pytest.raises(PeerUnreachable, match="no connection"):
        commitment.report(RESULT, peer, "FIRSTREAD", **QUICK)


@pytest.mark.parametrize("keeps", [True, False])
def test_a_result_on_the_association_of_the_request_is_kept_before_it_is_answered(keeps: bool) -> None:
    answered: list[int] = []
    results: list[Message] = []

    def on_action(event: Any) -> tuple[int, None]:
        asked = event.action_information
        opened = event.assoc

        def tell() -> None:
            said = information(failed=[item("1.2.3", reason=0x0112)], transaction_uid=asked.TransactionUID)
            status, _ = opened.send_n_event_report(said, 2, SOP_CLASS, SOP_INSTANCE)
            answered.append(int(status.Status))

        threads.append(threading.Timer(0.2, tell))
        threads[0].start()
        return 0x0000, None

    def keep(message: Message) -> None:
        assert answered == []
        if not keeps:
            raise OSError("no space")
        results.append(message)

    threads: list[threading.Timer] = []
    with commitment_peer(on_action=on_action) as peer:
        commitment.ask(REQUEST, peer, "FIRSTREAD", keep=keep, linger_seconds=5.0 if keeps else 1.5, **QUICK)
        threads[0].join(10)
    assert answered == [0x0000 if keeps else 0x0110]
    assert [(one.transaction_uid, one.references[0].failure_reason) for one in results] == [("2.25.8", 0x0112)] * keeps


@pytest.mark.parametrize("cut", [slice(0), slice(-5), slice(20, None)])
def test_bytes_that_are_no_data_set_never_end_the_listener(
    listener: ListenerProcess, monkeypatch: pytest.MonkeyPatch, cut: slice
) -> None:
    good = encoded(information([item("1.2.3")]))
    opened = associate(listener, syntaxes=(EXPLICIT,))
    with monkeypatch.context() as patched:
        patched.setattr(association_module, "encode", lambda *_: good[cut] or b"\xff" * 64)
        assert n_action(opened, information([item("1.2.3")])) == 0x0115
    assert n_action(opened, information([item("1.2.3")])) == 0x0000
    opened.release()
