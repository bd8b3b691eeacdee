"""What the two sides of Storage Commitment say to each other (Push Model, PS3.4 Annex J), and how it is kept.

A request (the Action Information of an N-ACTION) names instances; a result (the Event Information of an
N-EVENT-REPORT) says of each whether the peer answers for it. Both come from the network and are read defensively:
size, number of references and depth have bounds, and whatever is no such data set is an `UnreadableMessage`, nothing
else. What was understood is kept as JSON in the spool, so that nobody has to read a stranger's encoding twice.
"""

import json
import struct
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from typing import Literal, Self, get_args

from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance

from worker.errors import UnreadableMessage
from worker.uids import is_uid

SOP_CLASS = str(StorageCommitmentPushModel)
SOP_INSTANCE = str(StorageCommitmentPushModelInstance)
"""The class, and its one well-known instance (PS3.4 J.3.1)."""
TRANSFER_SYNTAXES = (str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian))
"""How a message may be encoded."""

MAX_BYTES = 2 << 20
"""Largest data set of a message, bytes: each association may hold one in memory."""
MAX_REFERENCES = 10_000
"""Most instances in one message, which they fit even with the longest UIDs."""
MAX_DEPTH = 8
"""Deepest nesting of sequences that is read past."""

REQUEST_COMMITMENT = 1
"""The one Action Type ID (PS3.4 J.3.2.1)."""
ALL_COMMITTED = 1
FAILURES_EXIST = 2
"""The Event Type IDs (PS3.4 J.3.3.1)."""

PROCESSING_FAILURE = 0x0110
NO_SUCH_OBJECT_INSTANCE = 0x0112
CLASS_INSTANCE_CONFLICT = 0x0119
DUPLICATE_TRANSACTION_UID = 0x0131
FAILURE_REASONS = {
    PROCESSING_FAILURE: "processing failure",
    NO_SUCH_OBJECT_INSTANCE: "no such object instance",
    0x0213: "resource limitation",
    0x0122: "referenced SOP Class not supported",
    CLASS_INSTANCE_CONFLICT: "class-instance conflict",
    DUPLICATE_TRANSACTION_UID: "duplicate transaction UID",
}
"""Failure Reason (0008,1197), PS3.3 C.14.1.1."""

_TRANSACTION_UID = 0x00081195
_REFERENCED_SOP_SEQUENCE = 0x00081199
_FAILED_SOP_SEQUENCE = 0x00081198
_REFERENCED_SOP_CLASS_UID = 0x00081150
_REFERENCED_SOP_INSTANCE_UID = 0x00081155
_FAILURE_REASON = 0x00081197

Kind = Literal["request", "result"]


def reason_words(reason: int) -> str:
    """Return a failure reason as hexadecimal and in words."""
    return f"0x{reason:04X} ({FAILURE_REASONS.get(reason, 'not a failure reason of storage commitment')})"


@dataclass(frozen=True, slots=True)
class Reference:
    """An instance that a message is about, and why it failed; 0: it did not."""

    sop_class_uid: str
    sop_instance_uid: str
    failure_reason: int = 0


@dataclass(frozen=True, slots=True)
class Message:
    """A request to commit, or the result of one.

    Attributes
    ----------
    references
        Of a request: what it asks for. Of a result: committed ones and failed ones.
    calling_ae, called_ae
        Of the association it came in.
    """

    kind: Kind
    transaction_uid: str
    references: tuple[Reference, ...]
    calling_ae: str = ""
    called_ae: str = ""

    def to_json(self) -> bytes:
        """Return the form in which it is kept."""
        named = {name: getattr(self, name) for name in ("kind", "transaction_uid", "calling_ae", "called_ae")}
        return json.dumps(named | {"references": [astuple(reference) for reference in self.references]}).encode()

    @classmethod
    def from_json(cls, kept: bytes) -> Self:
        """Read what `to_json` wrote.

        Raises
        ------
        ValueError
            It is something else: the file was damaged, or written by a careless hand.
        """
        try:
            values = json.loads(kept)
            references = tuple(Reference(*reference) for reference in values.pop("references"))
            uids = [uid for one in references for uid in (one.sop_class_uid, one.sop_instance_uid)]
            whole = all(is_uid(uid) for uid in (values["transaction_uid"], *uids))
            message = cls(references=references, **values)
        except (TypeError, AttributeError, KeyError) as error:
            raise ValueError(f"it is no storage commitment message ({type(error).__name__})") from error
        if not whole or message.kind not in get_args(Kind):
            raise ValueError("it is no storage commitment message")
        return message


def decode(kind: Kind, data_set: bytes, transfer_syntax_uid: str, *, calling_ae: str, called_ae: str) -> Message:
    """Read the data set of an N-ACTION (request) or N-EVENT-REPORT (result).

    Raises
    ------
    UnreadableMessage
        It is no such data set, or goes beyond the bounds.
    """
    if transfer_syntax_uid not in TRANSFER_SYNTAXES or len(data_set) > MAX_BYTES:
        raise UnreadableMessage(f"{len(data_set)} bytes in {UID(transfer_syntax_uid).name} are not read")
    reader = _Reader(data_set, explicit=transfer_syntax_uid == ExplicitVRLittleEndian)
    transaction_uid = ""
    references: list[Reference] = []
    for tag, start, end in reader.elements(0, len(data_set)):
        if tag == _TRANSACTION_UID:
            transaction_uid = reader.text(start, end)
        elif tag == _REFERENCED_SOP_SEQUENCE or (tag == _FAILED_SOP_SEQUENCE and kind == "result"):
            for reference in reader.references(start, end, failed=tag == _FAILED_SOP_SEQUENCE):
                references.append(reference)
                if len(references) > MAX_REFERENCES:
                    raise UnreadableMessage(f"more than {MAX_REFERENCES} references")
    if not is_uid(transaction_uid):
        raise UnreadableMessage("no valid Transaction UID (0008,1195)")
    if not references:
        raise UnreadableMessage("no instance is referenced")
    return Message(kind, transaction_uid, tuple(dict.fromkeys(references)), calling_ae, called_ae)


_TAG = struct.Struct("<HH")
_LONG = struct.Struct("<L")
_SHORT = struct.Struct("<H")
_LONG_VRS = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
"""Explicit VRs with a length of four bytes (PS3.5 7.1.2)."""
_UNDEFINED = 0xFFFFFFFF
_ITEM, _END_OF_ITEM, _END_OF_SEQUENCE = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD


class _Reader:
    """Walks over an encoded data set and never beyond its end (PS3.5 7.1 and 7.5)."""

    def __init__(self, data: bytes, *, explicit: bool) -> None:
        self._data = data
        self._explicit = explicit

    def elements(self, position: int, end: int, depth: int = 0) -> Iterator[tuple[int, int, int]]:
        """Yield tag, start and end of the value of each element."""
        while position < end:
            tag, start, length = self._header(position, end)
            stop = self._end_of_items(start, end, depth + 1) if length == _UNDEFINED else start + length
            if stop > end:
                raise UnreadableMessage(f"element {tag:08X} goes beyond the end of what holds it")
            yield tag, start, stop
            position = stop + (8 if length == _UNDEFINED else 0)

    def references(self, start: int, end: int, *, failed: bool) -> Iterator[Reference]:
        """Yield what the items of a sequence refer to."""
        for item_start, item_end in self._items(start, end, 1):
            sop_class_uid = sop_instance_uid = ""
            reason = PROCESSING_FAILURE if failed else 0
            for tag, value, value_end in self.elements(item_start, item_end, 1):
                if tag == _REFERENCED_SOP_CLASS_UID:
                    sop_class_uid = self.text(value, value_end)
                elif tag == _REFERENCED_SOP_INSTANCE_UID:
                    sop_instance_uid = self.text(value, value_end)
                elif tag == _FAILURE_REASON and failed and value_end - value == _SHORT.size:
                    reason = _SHORT.unpack_from(self._data, value)[0] or PROCESSING_FAILURE
            if not (is_uid(sop_class_uid) and is_uid(sop_instance_uid)):
                raise UnreadableMessage("a reference lacks a valid SOP Class or SOP Instance UID")
            yield Reference(sop_class_uid, sop_instance_uid, reason)

    def text(self, start: int, end: int) -> str:
        """Return a value as text, without its padding."""
        return self._data[start:end].rstrip(b"\0 ").decode("ascii", errors="replace")

    def _header(self, position: int, end: int) -> tuple[int, int, int]:
        """Return tag, start of the value, and its length."""
        if position + 8 > end:
            raise UnreadableMessage("it ends inside an element")
        group, element = _TAG.unpack_from(self._data, position)
        tag = group << 16 | element
        if not self._explicit or group == 0xFFFE:
            return tag, position + 8, _LONG.unpack_from(self._data, position + 4)[0]
        vr = self._data[position + 4 : position + 6]
        if not (vr.isalpha() and vr.isupper()):
            raise UnreadableMessage(f"element {tag:08X} has no VR")
        if vr not in _LONG_VRS:
            return tag, position + 8, _SHORT.unpack_from(self._data, position + 6)[0]
        if position + 12 > end:
            raise UnreadableMessage("it ends inside an element")
        length = _LONG.unpack_from(self._data, position + 8)[0]
        if length == _UNDEFINED and vr != b"SQ":
            raise UnreadableMessage(f"element {tag:08X} is no sequence and has no length")
        return tag, position + 12, length

    def _items(self, start: int, end: int, depth: int) -> Iterator[tuple[int, int]]:
        """Yield start and end of the content of each item of a sequence."""
        while start < end:
            tag, content, length = self._header(start, end)
            if tag != _ITEM:
                raise UnreadableMessage(f"an item is expected, {tag:08X} comes")
            stop = self._end_of_item(content, end, depth) if length == _UNDEFINED else content + length
            if stop > end:
                raise UnreadableMessage("an item goes beyond the end of its sequence")
            yield content, stop
            start = stop + (8 if length == _UNDEFINED else 0)

    def _end_of_items(self, position: int, end: int, depth: int) -> int:
        """Return where the delimiter of a sequence of undefined length begins."""
        if depth > MAX_DEPTH:
            raise UnreadableMessage(f"sequences are nested deeper than {MAX_DEPTH}")
        while True:
            tag, start, length = self._header(position, end)
            if tag == _END_OF_SEQUENCE:
                return position
            if tag != _ITEM:
                raise UnreadableMessage(f"an item is expected, {tag:08X} comes")
            stop = self._end_of_item(start, end, depth) if length == _UNDEFINED else start + length
            position = stop + (8 if length == _UNDEFINED else 0)

    def _end_of_item(self, position: int, end: int, depth: int) -> int:
        """Return where the delimiter of an item of undefined length begins."""
        while True:
            tag, start, length = self._header(position, end)
            if tag == _END_OF_ITEM:
                return position
            stop = self._end_of_items(start, end, depth + 1) if length == _UNDEFINED else start + length
            position = stop + (8 if length == _UNDEFINED else 0)
