"""A modality asks us to answer for its films, with real services, while they are killed and while it is away."""

from pathlib import Path
from typing import Any

import pydicom
import pytest
from pynetdicom import AE
from pynetdicom.sop_class import StorageCommitmentPushModel

from tests.conftest import RedisServer
from tests.support.commitment import SOP_CLASS, SOP_INSTANCE, commitment_peer, information, item
from tests.support.journeys import films
from tests.support.stack import Stack, free_port
from worker.commitment.view import requests_of_peers
from worker.database import Database

pytestmark = pytest.mark.peer("storescu")


def ask(stack: Stack, files: list[Path], *more: str) -> str:
    """Send the request of a modality; returns its Transaction UID."""
    headers = [pydicom.dcmread(file, stop_before_pixels=True) for file in files]
    wanted = [item(str(ds.SOPInstanceUID), str(ds.SOPClassUID)) for ds in headers]
    request = information([*wanted, *(item(uid) for uid in more)])
    ae = AE("MODALITY")
    ae.add_requested_context(StorageCommitmentPushModel)
    opened = ae.associate("127.0.0.1", stack.port, ae_title="FIRSTREAD")
    status, _ = opened.send_n_action(request, 1, SOP_CLASS, SOP_INSTANCE)
    opened.release()
    assert status.Status == 0x0000
    return str(request.TransactionUID)


def said(event: Any) -> tuple[str, set[str], dict[str, int]]:
    """What an N-EVENT-REPORT says: Transaction UID, committed instances, reasons of the others."""
    told = event.event_information
    committed = {str(one.ReferencedSOPInstanceUID) for one in told.get("ReferencedSOPSequence", [])}
    failed = {str(one.ReferencedSOPInstanceUID): one.FailureReason for one in told.get("FailedSOPSequence", [])}
    return str(told.TransactionUID), committed, failed


def requests(stack: Stack) -> list[dict[str, Any]]:
    """What `firstread commitments` says, without the seconds that a command takes to start."""
    database = Database(f"sqlite:///{stack.data_dir}/firstread.db")
    with database.read() as session:
        found = requests_of_peers(session)
    database.dispose()
    return found


def test_it_is_told_once_in_effect_whatever_is_killed(tmp_path: Path, redis_server: RedisServer) -> None:
    """Everything is killed after the N-ACTION was answered; the peer is away; the reporter dies before its answer."""
    events: list[tuple[str, set[str], dict[str, int]]] = []
    port = free_port()
    with Stack(tmp_path / "data", redis_server.url, commitment_peers=f"MODALITY@127.0.0.1:{port}") as stack:

        def on_event(event: Any) -> tuple[int, None]:
            events.append(said(event))
            if len(events) == 1:
                stack.kill("delivery")
            return 0x0000, None

        stack.start("listener")
        files = films(tmp_path / "films", 3)
        assert stack.storescu(*files) == 0
        transaction = ask(stack, files, "1.2.3")
        stack.kill("listener")
        stack.start("listener", "intake", "delivery")
        stack.wait(lambda: "commitment_not_reported" in stack.log("delivery"), 60, "an attempt to tell it")
        (request,) = stack.json("commitments")["requests"]
        assert (request["status"], request["calling_ae"], request["instances"], request["failed"]) == (
            "pending", "MODALITY", 4, 1,
        )  # fmt: skip
        assert "no connection" in request["last_error"]
        with commitment_peer(on_event=on_event, called="MODALITY", port=port):
            stack.wait(lambda: "delivery" not in stack.processes, 90, "the kill")
            stack.start("delivery")
            stack.wait(lambda: requests(stack)[0]["status"] == "reported", 90, "the result to be told")
        uids = {str(pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID) for file in files}
        assert events == [(transaction, uids, {"1.2.3": 0x0112})] * 2, "the same, said again"
        assert stack.json("reconcile")["unaccounted"] == []
        assert set(stack.alive().values()) == {True}
