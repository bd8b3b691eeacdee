"""Objects that cost more to read than to send, as a hostile sender makes them; all small, all made here."""

import struct
import zlib
from functools import cache

from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from tests.support.objects import prefix

MIB = 1 << 20
UNDEFINED = 0xFFFFFFFF


def element(tag: int, vr: str, value: bytes) -> bytes:
    """An element in Explicit VR Little Endian."""
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr.encode()
    if vr in {"OB", "OW", "SQ", "UN", "UT"}:
        return head + b"\0\0" + struct.pack("<L", len(value)) + value
    return head + struct.pack("<H", len(value)) + value


def unknown(tag: int, value: bytes) -> bytes:
    """An element whose value representation is UN: its length has 32 bits, whatever belongs there."""
    return element(tag, "UN", value)


def implicit(tag: int, value: bytes, length: int | None = None) -> bytes:
    """An element in Implicit VR Little Endian."""
    return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(value) if length is None else length) + value


def deflated(size: int) -> bytes:
    """A deflated data set of one element of so many zeros."""
    deflater = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    head = b"\x09\x00\x01\x10UN\0\0" + struct.pack("<L", size)
    return b"".join([deflater.compress(head), *(deflater.compress(bytes(MIB)) for _ in range(size // MIB)),
                     deflater.flush()])  # fmt: skip


_SEQUENCE = struct.pack("<HHL", 0x0008, 0x1140, UNDEFINED)
_ITEM = struct.pack("<HHL", 0xFFFE, 0xE000, UNDEFINED)
_NESTED = struct.pack("<HH2s2xL", 0x0008, 0x1140, b"SQ", UNDEFINED) + _ITEM


def _with_lengths(left: int) -> bytes:
    return implicit(0x00081140, b"", 8 * left) + struct.pack("<HHL", 0xFFFE, 0xE000, 8 * left - 8)


_FILM = implicit(0x00080060, b"DX") + implicit(0x0020000D, b"1.2.3.4 ")


@cache
def header_bombs() -> dict[str, bytes]:
    """What each is called, and the object as the listener would have stored it."""
    explicit, plain = prefix(ExplicitVRLittleEndian), prefix(ImplicitVRLittleEndian)
    inflating = deflated(128 * MIB)
    creators = b"".join(implicit(0x00090010 + number % 0xF0, b"MAKER   ") for number in range(19_000))
    blocks = b"".join(implicit(0x00091000 + number, bytes(8)) for number in range(0xEFFF))
    return {
        "deflated": prefix(DeflatedExplicitVRLittleEndian) + inflating,
        "deflated, cut off": prefix(DeflatedExplicitVRLittleEndian) + inflating[:100_000],
        "nested": explicit + _NESTED * 100_000,
        "nested with lengths": plain + b"".join(_with_lengths(left) for left in range(100_000, 1, -2)),
        "half a million elements": plain + _FILM + implicit(0x00090000, b"") * 500_000,
        "half a million elements in an item": plain + _FILM + _SEQUENCE + _ITEM + implicit(0x00090000, b"") * 500_000,
        "half a million items": plain + _FILM + _SEQUENCE + struct.pack("<HHL", 0xFFFE, 0xE000, 0) * 500_000,
        "a name of 1 MB": plain + implicit(0x00100010, b"Doe^" * (MIB // 4 - 1)) + _FILM,
        "a name of 5 MB": plain + implicit(0x00100010, b"Doe^" * (5 * MIB // 4)) + _FILM,
        "a UID of 1 MB": plain + _FILM[:10] + implicit(0x0020000D, b"1." * (MIB // 2 - 1)),
        "decimals of 1 MB": plain + _FILM + implicit(0x00200037, b"1\\" * (MIB // 2 - 1)),
        "a number of a million digits": plain + _FILM + implicit(0x00280008, b"9" * (MIB - 2)),
        "half a million descriptions": plain + _FILM + implicit(0x0008103E, b"\\" * (MIB - 2)),
        "character sets of 1 MB": plain + implicit(0x00080005, b"ISO 2022 IR 87\\" * 69_000) + _FILM
        + implicit(0x00081030, b"\x1b$B\x1b(B" * 1000),
        "a million escapes": plain + implicit(0x00080005, b"\\ISO 2022 IR 87 ") + _FILM
        + implicit(0x00081030, b"\x1b$B\x1b(B" * (MIB // 6 - 1)),
        "a character set of Python": plain + implicit(0x00080005, b"idna\\punycode\\unicode_escape") + _FILM,
        "private creators": plain + _FILM + creators,
        "private blocks without creator": plain + _FILM + blocks,
        "longer than the object": plain + _FILM + implicit(0x00091001, b"", 0xFFFFFFF0),
        "an item without sequence": plain + _FILM + _ITEM * 1000,
    }  # fmt: skip
