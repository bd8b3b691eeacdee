"""Structured mutation: what a hostile or broken sender does to an object, step by step, and how steps are drawn."""

import random
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

LENGTHS = (0, 1, 2, 3, 4, 7, 8, 0x7F, 0xFF, 0x100, 0x7FFF, 0xFFFE, 0xFFFF, 0x10000, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF)
REPRESENTATIONS = (
    b"SQ",
    b"UN",
    b"OB",
    b"OW",
    b"US",
    b"SS",
    b"DS",
    b"IS",
    b"PN",
    b"UI",
    b"AT",
    b"FD",
    b"UT",
    b"??",
    b"\0\0",
)
TAGS = (
    0x00080005, 0x00080016, 0x00080018, 0x00080060, 0x00081140, 0x00100010, 0x00100020, 0x0020000D, 0x0020000E,
    0x00280002, 0x00280004, 0x00280008, 0x00280010, 0x00280011, 0x00280100, 0x00280101, 0x00280103, 0x00281050,
    0x00281052, 0x00283000, 0x00283010, 0x00090010, 0x00091001, 0x52009229, 0x52009230, 0x7FE00008, 0x7FE00010,
    0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD, 0xFFFAFFFA,
)  # fmt: skip
VALUES = (
    b"", b"\\" * 40, b"1e999", b"nan", b"-1", b"65535", b"9" * 70, b"1.2." * 40, b"../../x", b"\x1b$B\x1b(B" * 20,
    b"^=^=^" * 30, b"\xff\xfe\xfd", b"\0" * 33, b"ISO 2022 IR 87\\ISO 2022 IR 159", b"' OR 1=1 --", b"%n%s\r\n",
)  # fmt: skip
_NEST = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
_LONG = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})

STEPS = (
    "flip", "set", "cut", "insert", "repeat", "remove", "length", "representation", "tag", "value", "nest", "swap",
    "splice",
)  # fmt: skip


@dataclass(frozen=True)
class Mutation:
    """One step; `at` says where, of elements or of bytes, `choice` which of the known values, `data` what is put in."""

    step: str
    at: int
    choice: int
    data: bytes


def random_mutations(source: random.Random) -> list[Mutation]:
    """Draw up to eight steps."""
    return [
        Mutation(
            source.choice(STEPS), source.getrandbits(24), source.getrandbits(16), source.randbytes(source.randint(0, 8))
        )
        for _ in range(source.choice((1, 1, 1, 2, 2, 3, 5, 8)))
    ]


def mutations() -> st.SearchStrategy[list[Mutation]]:
    """Strategy of hypothesis for the same: it shrinks to few steps near the beginning."""
    step = st.builds(
        Mutation, st.sampled_from(STEPS), st.integers(0, 2**24 - 1), st.integers(0, 2**16 - 1), st.binary(max_size=8)
    )
    return st.lists(step, min_size=1, max_size=8)


def mutate(data: bytes, steps: Sequence[Mutation], *, start: int = 0, others: Sequence[bytes] = ()) -> bytes:
    """Apply steps to what follows `start`; `others` is where a splice comes from."""
    head, body = data[:start], bytearray(data[start:])
    for step in steps:
        _apply(body, step, others, start)
    return head + bytes(body)


def elements(body: bytes | bytearray) -> list[tuple[int, int, int]]:
    """Walk the top level as far as it goes: (offset, offset of the length field, its width) of each element."""
    found: list[tuple[int, int, int]] = []
    at = 0
    while at + 8 <= len(body) and len(found) < 400:
        vr = bytes(body[at + 4 : at + 6])
        if vr in _LONG:
            place, width = at + 8, 4
        elif vr.isalpha() and vr.isupper():
            place, width = at + 6, 2
        else:
            place, width = at + 4, 4
        found.append((at, place, width))
        length = int.from_bytes(body[place : place + width], "little")
        at = place + width + (0 if length == 0xFFFFFFFF else length)
    return found


def _apply(body: bytearray, step: Mutation, others: Sequence[bytes], start: int) -> None:
    if not body:
        body += step.data or b"\0"
    at = step.at % len(body)
    size = 1 + step.choice % 64
    if step.step == "flip":
        body[at] ^= 1 << step.choice % 8
    elif step.step == "set":
        body[at : at + len(step.data)] = step.data
    elif step.step == "cut":
        del body[at:]
    elif step.step == "insert":
        body[at:at] = step.data * (1 + step.choice % 32)
    elif step.step == "repeat":
        body[at:at] = body[at : at + size] * (1 + step.choice % 8)
    elif step.step == "remove":
        del body[at : at + size]
    elif step.step == "splice" and others:
        other = others[step.choice % len(others)][start:]
        body[at:] = other[at % max(1, len(other)) :]
    else:
        _apply_to_element(body, step)


def _apply_to_element(body: bytearray, step: Mutation) -> None:
    found = elements(body)
    if not found:
        return
    offset, place, width = found[step.at % len(found)]
    if step.step == "length":
        length = LENGTHS[step.choice % len(LENGTHS)] & (1 << 8 * width) - 1
        body[place : place + width] = length.to_bytes(width, "little")
    elif step.step == "representation":
        body[offset + 4 : offset + 6] = REPRESENTATIONS[step.choice % len(REPRESENTATIONS)]
    elif step.step == "tag":
        tag = TAGS[step.choice % len(TAGS)]
        body[offset : offset + 4] = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
    elif step.step == "nest":
        body[offset:offset] = _NEST * (1 + step.choice % 400)
    elif step.step == "swap":
        other = found[step.choice % len(found)][0]
        body[offset : offset + 4], body[other : other + 4] = body[other : other + 4], body[offset : offset + 4]
    elif step.step == "value":
        value = VALUES[step.choice % len(VALUES)] + step.data
        value += b" " * (len(value) % 2)
        old = int.from_bytes(body[place : place + width], "little")
        end = place + width + (0 if old == 0xFFFFFFFF else old)
        body[place:end] = len(value).to_bytes(width, "little") + value
