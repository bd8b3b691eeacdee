"""Storage Commitment on the wire, both ways, on associations that we open (Push Model, PS3.4 Annex J).

As SCP: the result of a peer's request, N-EVENT-REPORT, in the role that is negotiated for it. As SCU: our own request,
N-ACTION; its result comes to the listener, or here where the peer gives it at once on the same association.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Any

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as SequenceOfItems
from pynetdicom import build_context, build_role, evt
from pynetdicom.sop_class import StorageCommitmentPushModel
from pynetdicom.status import GENERAL_STATUS, code_to_category

from worker.commitment.message import (
    ALL_COMMITTED,
    FAILURES_EXIST,
    REQUEST_COMMITMENT,
    SOP_INSTANCE,
    TRANSFER_SYNTAXES,
    Message,
    Reference,
    decode,
)
from worker.config import Credentials, Peer
from worker.errors import CommitmentRefused, PeerUnreachable, UnreadableMessage
from worker.reporting.association import CONNECT_SECONDS, DIMSE_SECONDS, NothingAccepted, association

LINGER_SECONDS = 1.0
"""How long an association stays open for a result that comes at once; later ones go to the listener."""

SUCCESS = 0x0000
INVALID_ARGUMENT_VALUE = 0x0115
PROCESSING_FAILURE = 0x0110
RESOURCE_LIMITATION = 0x0213

Answered = tuple[Dataset, Dataset | None]


def report(
    message: Message,
    peer: Peer,
    calling_ae: str,
    *,
    credentials: Credentials | None = None,
    connect_seconds: float = CONNECT_SECONDS,
    dimse_seconds: float = DIMSE_SECONDS,
) -> None:
    """Tell a peer which of its instances we answer for: one N-EVENT-REPORT on an association of its own.

    Parameters
    ----------
    message
        The result: references with a failure reason are those that failed.
    peer, calling_ae
        Whom to, and the AE title of ours that it had asked.
    credentials
        The files of TLS, for a peer that is reached over it.

    Raises
    ------
    PeerUnreachable
        It cannot be reached, offers no storage commitment where we are the SCP, or is out of resources: later.
    CommitmentRefused
        It answers with another failure status.
    """
    information = _data_set(message.transaction_uid, [one for one in message.references if not one.failure_reason])
    if failed := [one for one in message.references if one.failure_reason]:
        information.FailedSOPSequence = SequenceOfItems(_item(one) for one in failed)
    event_type = FAILURES_EXIST if failed else ALL_COMMITTED
    role = build_role(StorageCommitmentPushModel, scp_role=True)
    try:
        with association(
            peer,
            calling_ae,
            [_context()],
            credentials=credentials,
            connect_seconds=connect_seconds,
            dimse_seconds=dimse_seconds,
            roles=[role],
        ) as opened:
            _send(
                peer,
                "N-EVENT-REPORT",
                lambda: opened.send_n_event_report(information, event_type, StorageCommitmentPushModel, SOP_INSTANCE),
            )
    except NothingAccepted as error:
        raise PeerUnreachable(
            f"{peer}: accepts no storage commitment with us as the SCP, though it asked for it; let it take results "
            "on an association of their own"
        ) from error


def ask(
    message: Message,
    peer: Peer,
    calling_ae: str,
    *,
    keep: Callable[[Message], None],
    credentials: Credentials | None = None,
    connect_seconds: float = CONNECT_SECONDS,
    dimse_seconds: float = DIMSE_SECONDS,
    linger_seconds: float = LINGER_SECONDS,
) -> None:
    """Ask a peer to commit to instances that it has been sent: one N-ACTION.

    Parameters
    ----------
    message
        The request.
    keep
        Makes a result durable that comes on the same association, before it is answered.
    credentials
        The files of TLS, for a peer that is reached over it.

    Raises
    ------
    NothingAccepted
        The peer offers no storage commitment.
    PeerUnreachable
        It cannot be reached, gives no answer, or is out of resources: later.
    CommitmentRefused
        It answers with another failure status.
    """
    came = threading.Event()

    def on_result(event: Any) -> tuple[int, None]:
        information = event.request.EventInformation
        try:
            result = decode(
                "result",
                b"" if information is None else information.getvalue(),
                str(event.context.transfer_syntax),
                calling_ae=peer.ae_title,
                called_ae=calling_ae,
            )
        except UnreadableMessage:
            return INVALID_ARGUMENT_VALUE, None
        try:
            keep(result)
        except OSError:
            return PROCESSING_FAILURE, None  # it comes again, or the request is made again when its time is over
        came.set()
        return SUCCESS, None

    wanted = _data_set(message.transaction_uid, message.references)
    with association(
        peer,
        calling_ae,
        [_context()],
        credentials=credentials,
        connect_seconds=connect_seconds,
        dimse_seconds=dimse_seconds,
        handlers=[(evt.EVT_N_EVENT_REPORT, on_result)],
    ) as opened:
        _send(
            peer,
            "N-ACTION",
            lambda: opened.send_n_action(wanted, REQUEST_COMMITMENT, StorageCommitmentPushModel, SOP_INSTANCE),
        )
        came.wait(linger_seconds)


def _context() -> Any:
    return build_context(StorageCommitmentPushModel, list(TRANSFER_SYNTAXES))


def _data_set(transaction_uid: str, references: Sequence[Reference]) -> Dataset:
    made = Dataset()
    made.TransactionUID = transaction_uid
    if references:
        made.ReferencedSOPSequence = SequenceOfItems(_item(one) for one in references)
    return made


def _item(reference: Reference) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = reference.sop_class_uid
    item.ReferencedSOPInstanceUID = reference.sop_instance_uid
    if reference.failure_reason:
        item.FailureReason = reference.failure_reason
    return item


def _send(peer: Peer, name: str, send: Callable[[], Answered]) -> None:
    try:
        answer, _ = send()
    except (RuntimeError, ValueError) as error:
        raise PeerUnreachable(f"{peer}: the association was broken off before the {name} ({error})") from error
    if "Status" not in answer:
        raise PeerUnreachable(f"{peer}: no answer to the {name} in time, or broken off")
    status = int(answer.Status)
    if code_to_category(status) in {"Success", "Warning"}:
        return
    known = GENERAL_STATUS.get(status)
    # Not the Error Comment: free text of the peer's, it may name the patient.
    said = f"0x{status:04X} ({known[1] or known[0]})" if known else f"0x{status:04X}"
    if status == RESOURCE_LIMITATION:
        raise PeerUnreachable(f"{peer}: answered the {name} with {said}: sent again later")
    raise CommitmentRefused(f"{peer}: refused the {name} of storage commitment: {said}; its log says why")
