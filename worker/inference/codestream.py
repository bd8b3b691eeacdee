"""What a compressed frame says of itself, read from its first bytes before any decoder allocates memory for it."""

import struct
from typing import NamedTuple

_JPEG_START = b"\xff\xd8"
_J2K_START = b"\xff\x4f\xff\x51"
_JP2_START = b"\x00\x00\x00\x0c\x6a\x50\x20\x20"
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})
"""JPEG markers without a length: TEM, RST0 to RST7, SOI."""
_FRAME_HEADERS = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}
"""JPEG SOF0 to SOF15 without DHT, JPG and DAC (ISO/IEC 10918-1 B.1.1.3); JPEG-LS SOF55 (ISO/IEC 14495-1 C.1.1)."""
_END_OF_HEADERS = frozenset({0xD9, 0xDA})

RLE_EXPANSION = 64
"""One run of PackBits is at best 2 bytes for 128 (PS3.5 G.3.1)."""


class Size(NamedTuple):
    """What a codestream will decode to, in pixels."""

    rows: int
    columns: int
    samples: int


def size_of(frame: bytes) -> Size | None:
    """Read the size that a JPEG, JPEG-LS, JPEG 2000 or HTJ2K frame declares.

    Parameters
    ----------
    frame
        The encoded frame.

    Returns
    -------
    Size or None
        None where the frame is none of these, is damaged before its frame header, or leaves the number of rows to a
        DNL marker.
    """
    try:
        if frame.startswith(_JPEG_START):
            return _jpeg(frame)
        return _jpeg_2000(frame)
    except (IndexError, struct.error):
        return None


def _jpeg(frame: bytes) -> Size | None:
    """Walk the marker segments up to the frame header (ISO/IEC 10918-1 B.2)."""
    at = 2
    while True:
        while frame[at] == 0xFF and frame[at + 1] == 0xFF:  # fill bytes
            at += 1
        if frame[at] != 0xFF or frame[at + 1] in _END_OF_HEADERS:
            return None
        marker = frame[at + 1]
        if marker in _FRAME_HEADERS:
            rows, columns, samples = struct.unpack_from(">HHB", frame, at + 5)
            return Size(rows, columns, samples) if rows else None
        at += 2 if marker in _STANDALONE else 2 + struct.unpack_from(">H", frame, at + 2)[0]


def _jpeg_2000(frame: bytes) -> Size | None:
    """Read the SIZ marker segment (ISO/IEC 15444-1 A.5.1), inside a JP2 file format too."""
    at = 0
    if frame.startswith(_JP2_START):
        at = frame.find(_J2K_START)
    if at < 0 or not frame.startswith(_J2K_START, at):
        return None
    right, bottom, left, top = struct.unpack_from(">4I", frame, at + 8)
    (samples,) = struct.unpack_from(">H", frame, at + 40)
    return Size(bottom - top, right - left, samples)
