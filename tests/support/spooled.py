"""Reading a DICOM file apart without a toolkit: what stands before the data set, and the data set's bytes."""

import struct
from pathlib import Path

_LONG = {b"OB", b"OW", b"OF", b"OD", b"OL", b"SQ", b"UC", b"UN", b"UR", b"UT"}


def split(content: bytes) -> tuple[dict[int, bytes], bytes]:
    """Return the elements of group 0002, by element number, and the data set's bytes.

    A file without preamble or without file meta information is all data set.
    """
    if content[128:132] != b"DICM":
        return {}, content
    elements: dict[int, bytes] = {}
    position = 132
    while position + 8 <= len(content):
        group, element = struct.unpack_from("<HH", content, position)
        if group != 0x0002:
            break
        vr = content[position + 4 : position + 6]
        if vr in _LONG:
            (length,) = struct.unpack_from("<L", content, position + 8)
            start = position + 12
        else:
            (length,) = struct.unpack_from("<H", content, position + 6)
            start = position + 8
        elements[element] = content[start : start + length]
        position = start + length
    return elements, content[position:]


def text(value: bytes) -> str:
    """Return a value without its padding."""
    return value.rstrip(b"\0 ").decode("ascii")


def spooled(path: Path) -> tuple[dict[int, bytes], bytes]:
    """Return the group 0002 and the data set of a file in the spool, cut where its group length says.

    What was sent may itself begin with elements of group 0002: those are data set here.
    """
    content = path.read_bytes()
    assert content[:144].startswith(bytes(128) + b"DICM" + b"\2\0\0\0UL\4\0")
    end = 144 + int.from_bytes(content[140:144], "little")
    return split(content[:end])[0], content[end:]


def data_set(path: Path) -> bytes:
    """Return the data set of a file in the spool."""
    return spooled(path)[1]
