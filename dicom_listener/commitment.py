"""Storage Commitment at the door: a message is read within bounds, made durable in the spool, and answered.

Nothing stands before the answer but the disk. Whether the instances are stored is found out by the delivery worker, who
reports it with an N-EVENT-REPORT on an association of its own (PS3.4 J.3.3 lets the SCP choose).
"""

from collections.abc import Iterator
from contextlib import contextmanager

from dicom_listener.dimse_status import (
    ACCEPTED,
    MESSAGE_TOO_LARGE,
    NO_ACTION,
    NO_EVENT,
    NO_INFORMATION,
    NOT_COMMITMENT,
    NOT_THE_INSTANCE,
    UNEXPECTED,
    Answer,
    no_room,
    not_kept,
    not_understood,
    not_writable,
)
from dicom_listener.request import Request, shown
from worker.commitment.message import (
    ALL_COMMITTED,
    FAILURES_EXIST,
    MAX_BYTES,
    REQUEST_COMMITMENT,
    SOP_CLASS,
    SOP_INSTANCE,
    Kind,
    Message,
    decode,
)
from worker.errors import UnreadableMessage
from worker.intake.spool import Spool
from worker.logs import get_logger

log = get_logger(__name__)


def judge_commitment(kind: Kind, request: Request, type_id: int) -> Answer | None:
    """Return why a message is refused whatever its data set says, or None."""
    if not request.sop_class_uid == request.abstract_syntax_uid == SOP_CLASS:
        return NOT_COMMITMENT
    if request.sop_instance_uid != SOP_INSTANCE:
        return NOT_THE_INSTANCE
    if kind == "request" and type_id != REQUEST_COMMITMENT:
        return NO_ACTION
    if kind == "result" and type_id not in {ALL_COMMITTED, FAILURES_EXIST}:
        return NO_EVENT
    if not request.has_data_set:
        return NO_INFORMATION
    return None


class Commitment:
    """One N-ACTION or N-EVENT-REPORT from its command set to its answer; whatever happens becomes a status.

    Parameters
    ----------
    kind
        Whether a peer asks us to commit, or gives the result of what we asked.
    type_id
        Action or Event Type ID.
    """

    def __init__(self, spool: Spool, kind: Kind, request: Request, type_id: int) -> None:
        self._spool = spool
        self._kind = kind
        self._request = request
        self._data = bytearray()
        self._refusal = judge_commitment(kind, request, type_id)
        self._answer = UNEXPECTED
        self._message: Message | None = None

    def write(self, *fragments: memoryview) -> None:
        """Keep the fragments; beyond the bound let them go, and what was kept."""
        for fragment in fragments:
            if self._refusal is None and len(self._data) + len(fragment) > MAX_BYTES:
                self._refusal = MESSAGE_TOO_LARGE
                self._data.clear()
            if self._refusal is None:
                self._data += fragment

    def finish(self) -> Answer:
        """Make the message durable and say so, or say why not."""
        self._answer = self._refusal or UNEXPECTED
        with self._guarded():
            if self._refusal is None:
                self._answer, self._message = self._taken()
        return self._answer

    def tell(self) -> None:
        """Log the answer."""
        answer, message = self._answer, self._message
        facts = {
            "kind": self._kind,
            "association": self._request.association,
            "calling_ae": self._request.calling_ae,
            "called_ae": self._request.called_ae,
        }
        if answer is ACCEPTED and message is not None:
            log.info(
                "commitment_message_stored",
                **facts,
                transaction_uid=message.transaction_uid,
                references=len(message.references),
            )
        else:
            status = f"{answer.status:04X}"
            sop_class = shown(self._request.sop_class_uid)
            log.warning(
                "commitment_message_refused",
                **facts,
                sop_class_uid=sop_class,
                status=status,
                why=answer.comment,
                fix=answer.fix,
            )

    def abandon(self) -> None:
        """Let go of what had arrived: the peer has no answer and sends again."""
        self._data.clear()

    def _taken(self) -> tuple[Answer, Message | None]:
        request = self._request
        try:
            message = decode(
                self._kind,
                bytes(self._data),
                request.transfer_syntax_uid,
                calling_ae=request.calling_ae,
                called_ae=request.called_ae,
            )
        except UnreadableMessage as error:
            return not_understood(str(error)), None
        try:
            if not self._spool.has_room():
                return not_kept(no_room(self._spool.free_bytes(), self._spool.min_free_bytes)), None
            with self._spool.receive_commitment() as incoming:
                incoming.write(message.to_json())
                incoming.commit()
        except OSError as error:
            return not_kept(not_writable(error)), None
        return ACCEPTED, message

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Turn what nobody expected into a processing failure: nothing that one message does may end the listener."""
        try:
            yield
        except Exception:
            log.exception("commitment_failed", association=self._request.association)
