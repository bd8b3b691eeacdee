"""The file meta information of an object in the spool (PS3.10 7.1): our listener wrote it, and nothing else is read so.

It is read without a toolkit, so that intake itself never parses more of an object than this.
"""

import struct
from dataclasses import dataclass
from typing import BinaryIO

from worker.errors import UnreadableObject

META_LIMIT = 1 << 16
"""Bytes of file meta information that are looked at."""

PREFIX_BYTES = 128 + 4 + 12
"""Preamble, `DICM` and the element that says how long the file meta information is (PS3.10 7.1)."""

_BEGINNING = b"DICM\x02\x00\x00\x00UL\x04\x00"
_LONG = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
"""Value representations whose length has 32 bits (PS3.5 7.1.2)."""
_NAMES = {
    0x0002: "sop_class_uid",
    0x0003: "sop_instance_uid",
    0x0010: "transfer_syntax_uid",
    0x0016: "calling_ae",
}
_LONGEST = {"calling_ae": 16}
_UID_CHARACTERS = 64


@dataclass(frozen=True)
class FileMeta:
    """What the listener wrote about an object: the C-STORE request's words, and where the data set begins, bytes."""

    start: int
    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    transfer_syntax_uid: str = ""
    calling_ae: str = ""


def read_file_meta(file: BinaryIO) -> FileMeta:
    """Read our file meta information; the data set begins where its group length says.

    What follows belongs to the sender, even where it begins with elements of group 0002.

    Raises
    ------
    UnreadableObject
        The listener did not write it, or it is damaged.
    """
    head = file.read(PREFIX_BYTES)
    if head[128:140] != _BEGINNING or len(head) != PREFIX_BYTES:
        raise UnreadableObject("it was not written by the listener: no file meta information")
    length = int.from_bytes(head[140:], "little")
    if length > META_LIMIT:
        raise UnreadableObject("it was not written by the listener: its file meta information has no end")
    return FileMeta(PREFIX_BYTES + length, **_values(file.read(length), length))


def _values(content: bytes, length: int) -> dict[str, str]:
    found: dict[str, str] = {}
    at = 0
    while at < length:
        try:
            group, element, vr = struct.unpack_from("<HH2s", content, at)
            (size,) = struct.unpack_from("<L" if vr in _LONG else "<H", content, at + (8 if vr in _LONG else 6))
        except struct.error:
            raise UnreadableObject("its file meta information is damaged: it is cut off") from None
        at += 12 if vr in _LONG else 8
        if group != 0x0002 or at + size > len(content):
            raise UnreadableObject("its file meta information is damaged: an element does not fit into it")
        if name := _NAMES.get(element):
            text = content[at : at + size].decode("ascii", errors="replace")
            found[name] = "".join(c for c in text if c.isprintable()).strip()[: _LONGEST.get(name, _UID_CHARACTERS)]
        at += size
    return found
