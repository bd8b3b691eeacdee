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


def data_set(path: Path) -> bytes:
    """Return the bytes of a file's data set."""
    return split(path.read_bytes())[1]
