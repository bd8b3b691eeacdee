"""DIMSE command sets, and the P-DATA-TF PDUs that carry our answers.

A command set is always implicit VR little endian (PS3.7 6.3.1) and small, so that a few lines of `struct` read it in
microseconds and without surprises: no sequences, no recursion, nothing kept that was not asked for.
"""

import struct
from dataclasses import dataclass
from typing import Self

from worker.errors import ProtocolError

C_STORE_RQ = 0x0001
C_ECHO_RQ = 0x0030
N_EVENT_REPORT_RQ = 0x0100
N_ACTION_RQ = 0x0130
C_CANCEL_RQ = 0x0FFF
RESPONSE = 0x8000
"""The bit of the Command Field that makes a request's value its response's (PS3.7 E.1)."""
NO_DATA_SET = 0x0101
TYPE_IDS = {N_EVENT_REPORT_RQ: 0x1002, N_ACTION_RQ: 0x1008}
"""Where a request says what kind of event or action it means, by Command Field."""

IS_COMMAND = 0x01
IS_LAST = 0x02
"""Bits of the message control header of a PDV (PS3.8 E.2)."""

_ELEMENT = struct.Struct("<HHL")
_PDU_AND_PDV = struct.Struct(">BBLLBB")
P_DATA_TF = 0x04


@dataclass(frozen=True, slots=True)
class Command:
    """The elements of a request that the listener looks at (PS3.7 9.3.1.1, 9.3.5.1, 10.3.1.1 and 10.3.4.1).

    Attributes
    ----------
    field
        (0000,0100) Command Field: which operation.
    message_id
        (0000,0110) Message ID.
    has_data_set
        Whether (0000,0800) Command Data Set Type announces a data set.
    sop_class_uid
        (0000,0002) Affected or (0000,0003) Requested SOP Class UID, without padding; empty when absent.
    sop_instance_uid
        (0000,1000) Affected or (0000,1001) Requested SOP Instance UID, without padding; empty when absent.
    type_id
        (0000,1008) Action Type ID or (0000,1002) Event Type ID; 0 when absent.
    """

    field: int
    message_id: int
    has_data_set: bool
    sop_class_uid: str
    sop_instance_uid: str
    type_id: int = 0

    @classmethod
    def parse(cls, encoded: bytes) -> Self:
        """Read an encoded command set.

        Raises
        ------
        ProtocolError
            It is cut short, holds another group than 0000, or lacks what every request must carry.
        """
        elements = _elements(encoded)
        field = _unsigned_short(elements, 0x0100, "Command Field")
        type_of = TYPE_IDS.get(field)
        return cls(
            field=field,
            message_id=_unsigned_short(elements, 0x0110, "Message ID") if 0x0110 in elements else 0,
            has_data_set=_unsigned_short(elements, 0x0800, "Command Data Set Type") != NO_DATA_SET,
            sop_class_uid=_uid(elements, 0x0002) or _uid(elements, 0x0003),
            sop_instance_uid=_uid(elements, 0x1000) or _uid(elements, 0x1001),
            type_id=_unsigned_short(elements, type_of, "Type ID") if type_of in elements else 0,
        )


def _elements(encoded: bytes) -> dict[int, bytes]:
    elements: dict[int, bytes] = {}
    position = 0
    while position < len(encoded):
        if position + 8 > len(encoded):
            raise ProtocolError("the command set ends inside an element")
        group, element, length = _ELEMENT.unpack_from(encoded, position)
        position += 8 + length
        if group != 0 or position > len(encoded):
            raise ProtocolError(f"the command set is damaged at element ({group:04X},{element:04X})")
        elements[element] = encoded[position - length : position]
    return elements


def _unsigned_short(elements: dict[int, bytes], element: int, name: str) -> int:
    value = elements.get(element, b"")
    if len(value) != 2:
        raise ProtocolError(f"the command set has no valid {name} (0000,{element:04X})")
    return int.from_bytes(value, "little")


def _uid(elements: dict[int, bytes], element: int) -> str:
    return elements.get(element, b"").rstrip(b"\0 ").decode("ascii", errors="replace")


def encode_response(command: Command, status: int, comment: str = "", *, echo_instance: bool = False) -> bytes:
    """Encode the response to a request (PS3.7 9.3.1.2, 9.3.5.2, 10.3.1.2 and 10.3.4.2).

    Parameters
    ----------
    command
        The request that is answered.
    status
        (0000,0900) Status.
    comment
        (0000,0902) Error Comment; cut at 64 characters (VR LO).
    echo_instance
        Whether the Affected SOP Instance UID is given back: not when it is no UID.
    """
    class_uid = command.sop_class_uid if command.sop_class_uid.isascii() and len(command.sop_class_uid) <= 64 else ""
    elements = [(0x0002, _even(class_uid, b"\0"))] if class_uid else []
    elements += [
        (0x0100, (command.field | RESPONSE).to_bytes(2, "little")),
        (0x0120, command.message_id.to_bytes(2, "little")),
        (0x0800, NO_DATA_SET.to_bytes(2, "little")),
        (0x0900, status.to_bytes(2, "little")),
    ]
    if comment:
        elements.append((0x0902, _even(comment[:64], b" ")))
    if echo_instance:
        elements.append((0x1000, _even(command.sop_instance_uid, b"\0")))
    if command.field in TYPE_IDS:
        elements.append((TYPE_IDS[command.field], command.type_id.to_bytes(2, "little")))
    body = b"".join(_ELEMENT.pack(0, element, len(value)) + value for element, value in elements)
    return _ELEMENT.pack(0, 0, 4) + len(body).to_bytes(4, "little") + body


def _even(text: str, padding: bytes) -> bytes:
    encoded = text.encode("ascii")
    return encoded + padding * (len(encoded) % 2)


def p_data(context_id: int, command_set: bytes, max_length: int) -> bytes:
    """Return the P-DATA-TF PDUs that carry a command set (PS3.8 9.3.5).

    Parameters
    ----------
    context_id
        Presentation context ID.
    command_set
        Encoded command set.
    max_length
        The peer's maximum length of the variable field of a P-DATA-TF PDU, bytes; 0: unlimited (PS3.8 D.1).
    """
    room = max(max_length - 6, 1) if max_length else len(command_set)
    pdus = []
    for start in range(0, len(command_set), room):
        fragment = command_set[start : start + room]
        control = IS_COMMAND | (IS_LAST if start + room >= len(command_set) else 0)
        size = len(fragment)
        pdus.append(_PDU_AND_PDV.pack(P_DATA_TF, 0, size + 6, size + 2, context_id, control) + fragment)
    return b"".join(pdus)
