"""The message exchange: PDVs in, operations run, answers out (PS3.7 6.3, PS3.8 Annex E)."""

import struct

from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider

from dicom_listener.command_set import (
    C_CANCEL_RQ,
    C_ECHO_RQ,
    C_STORE_RQ,
    IS_COMMAND,
    IS_LAST,
    N_ACTION_RQ,
    N_EVENT_REPORT_RQ,
    RESPONSE,
    Command,
    encode_response,
    p_data,
)
from dicom_listener.dimse_status import NOT_SERVED
from dicom_listener.handlers import Drain, Handlers, Operation
from dicom_listener.request import Request
from worker.errors import ProtocolError
from worker.logs import get_logger
from worker.uids import is_uid

log = get_logger(__name__)

COMMAND_SET_CAP = 1 << 14
"""Largest command set, bytes; a C-STORE request has some 200."""

FRAGMENTS = 64
"""So many fragments of a data set at most are handed on together; Linux takes 1024 in a system call (IOV_MAX)."""

NAMES_INSTANCE = frozenset((C_STORE_RQ, N_ACTION_RQ, N_EVENT_REPORT_RQ))
"""Requests about one SOP Instance, which their response names again."""

_PDV = struct.Struct(">LBB")
_PDV_BYTES = _PDV.size


class Messages(DIMSEServiceProvider):  # type: ignore[misc]  # pynetdicom has no types
    """The message exchange of one association : a PDV at a time, an operation at a time.

    All of it happens in the thread of the upper layer, which owns the socket: one operation at a time, in order, as an
    association without asynchronous operations has it.
    """

    def __init__(self, association: Association, handlers: Handlers) -> None:
        super().__init__(association)
        self._handlers = handlers
        self._encoded = bytearray()
        self._command: Command | None = None
        self._context_id = 0
        self._operation: Operation | None = None
        self._fragments: list[memoryview] = []

    @property
    def busy(self) -> bool:
        """Whether a message is half received."""
        return self._operation is not None or bool(self._encoded)

    def receive(self, pdv_list: memoryview) -> None:
        """Take the variable field of a P-DATA-TF PDU; what it holds of a data set is looked at until `settle`.

        Raises
        ------
        ProtocolError
            What comes is no sequence of well-formed messages.
        """
        position, size = 0, len(pdv_list)
        while position < size:
            if size - position < _PDV_BYTES:
                raise ProtocolError("a P-DATA-TF PDU ends inside a PDV")
            length, context_id, control = _PDV.unpack_from(pdv_list, position)
            begins = position + _PDV_BYTES
            position += length + 4
            if length < 2 or position > size:
                raise ProtocolError(f"a PDV of {length} bytes does not fit its PDU")
            self._take(context_id, control, pdv_list[begins:position])

    def settle(self) -> None:
        """Hand on what has come of a data set: its bytes may change from now on."""
        if self._fragments and self._operation is not None:
            self._operation.write(*self._fragments)
        self._fragments.clear()

    def abandon(self) -> None:
        """Let go of what is half received."""
        self._fragments.clear()
        operation, self._operation = self._operation, None
        if operation is not None:
            operation.abandon()

    def _take(self, context_id: int, control: int, fragment: memoryview) -> None:
        if context_id != self._context_id and self.busy:
            raise ProtocolError("fragments of two presentation contexts are mixed in one message")
        self._context_id = context_id
        if control & IS_COMMAND:
            if self._operation is not None:
                raise ProtocolError("a command set comes before the data set of the last one was complete")
            if len(self._encoded) + len(fragment) > COMMAND_SET_CAP:
                raise ProtocolError(f"a command set is larger than {COMMAND_SET_CAP} bytes")
            self._encoded += fragment
            if control & IS_LAST:
                self._begin()
        elif self._operation is None:
            raise ProtocolError("a data set comes without a command set")
        else:
            self._fragments.append(fragment)
            if control & IS_LAST:
                self._finish()
            elif len(self._fragments) >= FRAGMENTS:
                self.settle()

    def _begin(self) -> None:
        encoded, self._encoded = bytes(self._encoded), bytearray()
        self._command = command = Command.parse(encoded)
        self._operation = self._start(command)
        if not command.has_data_set:
            self._finish()

    def _start(self, command: Command) -> Operation:
        context = self.assoc.context(self._context_id)
        if context is None:
            raise ProtocolError(f"presentation context {self._context_id} was not accepted")
        if command.field & RESPONSE or command.field == C_CANCEL_RQ:
            return Drain(None)
        if command.field == C_ECHO_RQ:
            return self._handlers.echo()
        request = Request(
            sop_class_uid=command.sop_class_uid,
            sop_instance_uid=command.sop_instance_uid,
            abstract_syntax_uid=str(context.abstract_syntax),
            transfer_syntax_uid=str(context.transfer_syntax[0]),
            calling_ae=self.assoc.calling_ae,
            called_ae=self.assoc.called_ae,
            association=self.assoc.number,
            has_data_set=command.has_data_set,
        )
        if command.field == C_STORE_RQ:
            return self._handlers.store(request)
        if command.field == N_ACTION_RQ:
            return self._handlers.commitment("request", request, command.type_id)
        if command.field == N_EVENT_REPORT_RQ:
            return self._handlers.commitment("result", request, command.type_id)
        log.warning("request_not_served", association=self.assoc.number, command_field=f"{command.field:04X}")
        return Drain(NOT_SERVED)

    def _finish(self) -> None:
        self.settle()
        operation, self._operation = self._operation, None
        command, self._command = self._command, None
        if operation is None or command is None:
            return
        answer = operation.finish()
        if answer is not None:
            echo_instance = command.field in NAMES_INSTANCE and is_uid(command.sop_instance_uid)
            response = encode_response(command, answer.status, answer.comment, echo_instance=echo_instance)
            self.dul.send_now(p_data(self._context_id, response, self.maximum_pdu_size or 0))
        operation.tell()
