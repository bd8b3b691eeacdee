"""What a broken or hostile peer sends: seeded, so that a case can be had again by its number.

Each kind makes a `Case` of a conversation that would be right (PS3.8 9.3, PS3.7 9.3.1) and spoils it its own way; two
kinds spoil nothing but the places where it is cut, and have to be answered with success.
"""

import random
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.support.raw_store import (
    ABORT,
    ASSOCIATE_RQ,
    CT_IMAGE_STORAGE,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    P_DATA,
    RELEASE_RQ,
    VERIFICATION,
    associate_request,
    command_set,
    element,
    item,
    pdu,
    pdv,
    store_request,
)

PATIENT = b"DOE^JANE"
"""In every data set and wherever else a peer can put text: the log must not have it."""
BAD = "1.2.826.0.66."
"""The SOP Instance UIDs of these peers begin with this."""
CONTEXTS = [(CT_IMAGE_STORAGE, [EXPLICIT_VR_LITTLE_ENDIAN]), (VERIFICATION, [IMPLICIT_VR_LITTLE_ENDIAN])]
EXTREMES = (0, 1, 2, 0x7F, 0xFF, 0x100, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0xFFFFFFFF)
RELEASE = pdu(RELEASE_RQ, bytes(4))


@dataclass
class Case:
    """A conversation.

    Attributes
    ----------
    request
        What is sent first.
    rest
        What is sent, in these pieces, once the request was accepted.
    end
        How the peer ends it: half closed (it reads to the end), closed, or reset.
    stored
        Data sets that must be answered with success, by SOP Instance UID.
    """

    request: bytes
    rest: list[bytes] = field(default_factory=list)
    end: str = "half closed"
    stored: dict[str, bytes] = field(default_factory=dict)


@dataclass
class Draw:
    """The dice of one case."""

    number: int
    dice: random.Random

    @property
    def instance(self) -> str:
        return f"{BAD}{self.number}"

    def request(self) -> bytes:
        return associate_request(CONTEXTS, calling="HOSTILE")

    def data(self) -> bytes:
        return PATIENT + self.dice.randbytes(self.dice.choice((0, 1, 50, 1000, 20_000)))

    def messages(self, data: bytes) -> list[bytes]:
        """A C-STORE request and its data set, a PDV a PDU."""
        command = pdu(P_DATA, pdv(1, 3, store_request(CT_IMAGE_STORAGE, self.instance)))
        room = max(1, len(data) // self.dice.randint(1, 4))
        pieces = [data[start : start + room] for start in range(0, len(data), room)]
        return [command, *(pdu(P_DATA, pdv(1, 2 * (at == len(pieces) - 1), one)) for at, one in enumerate(pieces))]

    def flipped(self, content: bytes) -> bytes:
        """Flip some bits."""
        out = bytearray(content)
        for _ in range(self.dice.choice((1, 1, 2, 5, 40))):
            out[self.dice.randrange(len(out))] ^= 1 << self.dice.randrange(8)
        return bytes(out)

    def lying(self, content: bytes) -> bytes:
        """Write a length that is none over two or four bytes."""
        size, form = self.dice.choice(((2, ">H"), (4, ">L"), (2, "<H"), (4, "<L")))
        at = self.dice.randrange(max(1, len(content) - size))
        number = self.dice.choice(EXTREMES) & (1 << 8 * size) - 1
        return content[:at] + struct.pack(form, number) + content[at + size :]

    def pieces(self, content: bytes) -> list[bytes]:
        """Cut at odd places."""
        count = self.dice.choice((1, 2, 7, 30))
        cuts = sorted(self.dice.randrange(len(content) + 1) for _ in range(count))
        return [content[a:b] for a, b in zip([0, *cuts], [*cuts, len(content)], strict=True) if a < b]

    def spoil(self, content: bytes) -> bytes:
        return self.dice.choice((self.flipped, self.lying))(content)


def request_flipped(draw: Draw) -> Case:
    return Case(draw.spoil(draw.request()), draw.messages(draw.data()))


def request_cut(draw: Draw) -> Case:
    request = draw.request()
    return Case(request[: draw.dice.randrange(len(request))], end=draw.dice.choice(("half closed", "closed", "reset")))


def request_nested(draw: Draw) -> Case:
    inner = draw.dice.randbytes(20)
    for _ in range(draw.dice.choice((1, 10, 1000))):
        inner = item(draw.dice.choice((0x10, 0x20, 0x30, 0x40, 0x50, 0x52, 0x54, 0x58)), inner[:65_000])
    return Case(pdu(ASSOCIATE_RQ, draw.request()[6:74] + inner))


def contexts_by_the_hundred(draw: Draw) -> Case:
    count = draw.dice.choice((0, 127, 128, 129, 1000, 4000))
    one = item(0x30, CT_IMAGE_STORAGE.encode()) + item(0x40, EXPLICIT_VR_LITTLE_ENDIAN.encode())
    even = draw.dice.choice((0, 1))  # which no context ID may be
    contexts = (item(0x20, bytes((draw.dice.randrange(256) | even, 0, 0, 0)) + one) for _ in range(count))
    body = draw.request()[6:74] + item(0x10, b"1.2.840.10008.3.1.1.1") + b"".join(contexts)
    return Case(pdu(ASSOCIATE_RQ, body + item(0x50, item(0x51, bytes(4)))), draw.messages(draw.data()))


def user_information(draw: Draw) -> Case:
    more = b"".join(
        item(draw.dice.randrange(0x50, 0x60), draw.dice.choice((PATIENT, draw.dice.randbytes(30), b"", b"\0" * 8)))
        for _ in range(draw.dice.randint(1, 5))
    )
    return Case(associate_request(CONTEXTS, calling="HOSTILE", more=more), draw.messages(draw.data()))


def titles_and_uids(draw: Draw) -> Case:
    words = draw.dice.choice(("\n{}", "\x1b[2J", "A\\B", "\0", "\r\n", "\x9b", " ", "\x7f")) * draw.dice.randint(1, 5)
    uid_ = PATIENT.decode() + words
    contexts = draw.dice.choice(([(uid_, [EXPLICIT_VR_LITTLE_ENDIAN])], [(CT_IMAGE_STORAGE, [uid_])], CONTEXTS))
    calling = draw.dice.choice(("HOSTILE", words[:16]))
    return Case(associate_request(contexts, calling=calling), draw.messages(draw.data()))


def message_spoiled(draw: Draw) -> Case:
    messages = draw.messages(draw.data())
    at = draw.dice.randrange(len(messages))
    messages[at] = draw.spoil(messages[at])
    return Case(draw.request(), messages)


def message_cut(draw: Draw) -> Case:
    stream = b"".join(draw.messages(draw.data()))
    end = draw.dice.choice(("half closed", "closed", "reset"))
    return Case(draw.request(), [stream[: draw.dice.randrange(len(stream))]], end=end)


def command_set_spoiled(draw: Draw) -> Case:
    count = draw.dice.choice((0, 1, 300, 2000))
    odd = [element(draw.dice.randrange(0x10000), draw.dice.randbytes(draw.dice.randrange(3))) for _ in range(count)]
    command = draw.dice.choice((
        command_set(*odd),
        command_set(element(0x0100, b"\1\0"), element(0x0110, b""), element(0x0800, b"\1\0")),
        draw.spoil(store_request(CT_IMAGE_STORAGE, draw.instance)),
        store_request(PATIENT.decode(), PATIENT.decode() + "\n\x1b["),
        b"",
    ))  # fmt: skip
    return Case(draw.request(), [pdu(P_DATA, pdv(1, 3, command)), pdu(P_DATA, pdv(1, 2, draw.data()))])


def wrong_order(draw: Draw) -> Case:
    messages = draw.messages(draw.data()) + draw.messages(draw.data())
    draw.dice.shuffle(messages)
    return Case(draw.request(), messages)


def contexts_interleaved(draw: Draw) -> Case:
    return Case(draw.request(), [_on_another_context(draw, one) for one in draw.messages(draw.data())])


def _on_another_context(draw: Draw, message: bytes) -> bytes:
    return message[:10] + bytes((draw.dice.choice((1, 1, 1, 3, 5, 0, 255)),)) + message[11:]


def abort_anywhere(draw: Draw) -> Case:
    messages = draw.messages(draw.data())
    messages.insert(draw.dice.randint(0, len(messages)), pdu(ABORT, draw.dice.randbytes(4)))
    return Case(draw.request(), messages)


def more_after_the_release(draw: Draw) -> Case:
    more = draw.dice.choice((draw.messages(draw.data()), [RELEASE] * 3, [draw.request()], [draw.dice.randbytes(300)]))
    return Case(draw.request(), [RELEASE, *more])


def any_pdu_in_any_state(draw: Draw) -> Case:
    def one() -> bytes:
        body = draw.dice.randbytes(draw.dice.choice((0, 1, 4, 68, 500, 5000)))
        announced = draw.dice.choice((len(body), len(body), len(body), *EXTREMES))
        kind = draw.dice.choice((*range(1, 8), 0, 8, 255))
        return struct.pack(">BBL", kind, draw.dice.randrange(256), announced) + body

    messages = draw.messages(draw.data())
    for _ in range(draw.dice.randint(1, 3)):
        messages.insert(draw.dice.randint(0, len(messages)), one())
    return Case(draw.dice.choice((draw.request(), draw.request(), one())), messages)


def cut_at_odd_places(draw: Draw) -> Case:
    data = draw.data()
    stream = b"".join([*draw.messages(data), RELEASE])
    return Case(draw.request(), draw.pieces(stream), stored={draw.instance: data})


def pdvs_across_pdus(draw: Draw) -> Case:
    data = draw.data()
    command = store_request(CT_IMAGE_STORAGE, draw.instance)
    values = [pdv(1, 1 + 2 * last, part) for last, part in _parts(draw, command)]
    values += [pdv(1, 2 * last, part) for last, part in _parts(draw, data)]
    stream = b""
    while values:
        count = draw.dice.randint(1, 5)
        stream += pdu(P_DATA, b"".join(values[:count]))
        values = values[count:]
    return Case(draw.request(), [stream, RELEASE], stored={draw.instance: data})


def _parts(draw: Draw, content: bytes) -> list[tuple[bool, bytes]]:
    cuts = sorted(draw.dice.randrange(len(content) + 1) for _ in range(draw.dice.randint(0, 6)))
    parts = [content[a:b] for a, b in zip([0, *cuts], [*cuts, len(content)], strict=True)]
    return [(at == len(parts) - 1, part) for at, part in enumerate(parts)]


KINDS: tuple[Callable[[Draw], Case], ...] = (
    request_flipped, request_cut, request_nested, contexts_by_the_hundred, user_information, titles_and_uids,
    message_spoiled, message_cut, command_set_spoiled, wrong_order, contexts_interleaved, abort_anywhere,
    more_after_the_release, any_pdu_in_any_state, cut_at_odd_places, pdvs_across_pdus,
)  # fmt: skip


def make(seed: int, number: int) -> tuple[str, Case]:
    """Return the kind and the conversation of a case."""
    dice = random.Random(f"{seed}/{number}")
    kind = KINDS[number % len(KINDS)]
    return kind.__name__.replace("_", " "), kind(Draw(number, dice))
