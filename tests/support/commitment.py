"""Storage commitment messages as a peer would encode them, and peers that take part in it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, evt
from pynetdicom.dsutils import encode
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance

from tests.support.scp import start_scp
from worker.config import Peer

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
SOP_CLASS, SOP_INSTANCE = str(StorageCommitmentPushModel), str(StorageCommitmentPushModelInstance)


def item(sop_instance_uid: str, sop_class_uid: str = CT, reason: int = 0) -> Dataset:
    """An item of the Referenced or Failed SOP Sequence."""
    made = Dataset()
    made.ReferencedSOPClassUID, made.ReferencedSOPInstanceUID = sop_class_uid, sop_instance_uid
    if reason:
        made.FailureReason = reason
    return made


def information(
    referenced: Sequence[Dataset] = (), failed: Sequence[Dataset] = (), transaction_uid: str = ""
) -> Dataset:
    """Action or Event Information."""
    made = Dataset()
    made.TransactionUID = transaction_uid or generate_uid(prefix=None)
    if referenced:
        made.ReferencedSOPSequence = list(referenced)
    if failed:
        made.FailedSOPSequence = list(failed)
    return made


def encoded(data_set: Dataset, syntax: str = EXPLICIT, *, undefined: bool = False) -> bytes:
    """A data set as bytes; `undefined`: all sequences and items without a length, ended by delimiters."""
    if undefined:
        for element in data_set:
            if element.VR == "SQ":
                element.is_undefined_length = True
                for one in element.value:
                    one.is_undefined_length_sequence_item = True
    made = encode(data_set, syntax == IMPLICIT, True)
    assert made is not None
    return made


@contextmanager
def commitment_peer(
    *,
    on_action: Callable[[Any], Any] | None = None,
    on_event: Callable[[Any], Any] | None = None,
    called: str = "PEER",
    port: int = 0,
) -> Iterator[Peer]:
    """A peer that takes N-ACTIONs as an SCP, or N-EVENT-REPORTs as an SCU whose SCP opens the association."""
    ae = AE(ae_title=called)
    ae.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
    handlers = [(evt.EVT_N_ACTION, on_action), (evt.EVT_N_EVENT_REPORT, on_event)]
    server = start_scp(ae, [one for one in handlers if one[1]], port=port)
    try:
        yield Peer(ae_title=called, host="127.0.0.1", port=server.socket.getsockname()[1])
    finally:
        server.shutdown()
