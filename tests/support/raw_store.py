"""A Storage SCU of bare bytes: it sends what no toolkit would send, and knows nothing of the code under test.

PDUs are built by hand from PS3.8 9.3, command sets from PS3.7 9.3.1: the data set is whatever the caller has, also when
it is cut short, deflated, or no DICOM at all.
"""

import select
import socket
import ssl
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Self

VERIFICATION = "1.2.840.10008.1.1"
IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"

ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA, RELEASE_RQ, RELEASE_RP, ABORT = range(1, 8)


class AssociationRejected(Exception):
    """A-ASSOCIATE-RJ: `result`, `source` and `reason` (PS3.8 9.3.4)."""

    def __init__(self, result: int, source: int, reason: int) -> None:
        super().__init__(f"rejected: result {result}, source {source}, reason {reason}")
        self.result, self.source, self.reason = result, source, reason


class AssociationAborted(Exception):
    """A-ABORT, or the connection was closed: `source` is -1 then."""

    def __init__(self, source: int, reason: int) -> None:
        super().__init__(f"aborted: source {source}, reason {reason}")
        self.source, self.reason = source, reason


class ContextRejected(Exception):
    """The presentation context was not accepted: `result` (PS3.8 9.3.3.2)."""

    def __init__(self, result: int) -> None:
        super().__init__(f"presentation context rejected: result {result}")
        self.result = result


def pdu(kind: int, body: bytes) -> bytes:
    """Return a PDU."""
    return struct.pack(">BBL", kind, 0, len(body)) + body


def item(kind: int, body: bytes) -> bytes:
    """Return an item of an A-ASSOCIATE PDU."""
    return struct.pack(">BBH", kind, 0, len(body)) + body


def pdv(context_id: int, control: int, fragment: bytes) -> bytes:
    """Return a presentation data value with its message control header."""
    return struct.pack(">LBB", len(fragment) + 2, context_id, control) + fragment


def element(number: int, value: bytes) -> bytes:
    """Return an element of a command set."""
    return struct.pack("<HHL", 0, number, len(value)) + value


def uid(text: str) -> bytes:
    """Return a UID as bytes of even length."""
    encoded = text.encode("latin-1")
    return encoded + b"\0" * (len(encoded) % 2)


def command_set(*elements: bytes) -> bytes:
    """Return a command set with its group length."""
    body = b"".join(elements)
    return element(0x0000, struct.pack("<L", len(body))) + body


def store_request(sop_class: str, sop_instance: str, *, message_id: int = 1, data_set_type: int = 0x0001) -> bytes:
    """Return the command set of a C-STORE request."""
    return command_set(
        element(0x0002, uid(sop_class)),
        element(0x0100, struct.pack("<H", 0x0001)),
        element(0x0110, struct.pack("<H", message_id)),
        element(0x0700, struct.pack("<H", 0)),
        element(0x0800, struct.pack("<H", data_set_type)),
        element(0x1000, uid(sop_instance)),
    )


def is_open(connection: socket.socket) -> bool:
    """Whether the other side of a connection over which it has said nothing still holds it."""
    return not select.select([connection], [], [], 0)[0]


def parse_command_set(encoded: bytes) -> dict[int, bytes]:
    """Return the elements of a command set, by element number."""
    elements, position = {}, 0
    while position < len(encoded):
        _, number, length = struct.unpack_from("<HHL", encoded, position)
        elements[number] = encoded[position + 8 : position + 8 + length]
        position += 8 + length
    return elements


def associate_request(
    contexts: Sequence[tuple[str, Sequence[str]]],
    *,
    calling: str = "TEST",
    called: str = "FIRSTREAD",
    more: bytes = b"",
) -> bytes:
    """Return an A-ASSOCIATE-RQ; context n has the ID 2n + 1. `more` is added to the user information."""
    proposed = b"".join(
        item(
            0x20,
            bytes((2 * index + 1, 0, 0, 0))
            + item(0x30, abstract.encode())
            + b"".join(item(0x40, syntax.encode()) for syntax in syntaxes),
        )
        for index, (abstract, syntaxes) in enumerate(contexts)
    )
    user = item(0x51, struct.pack(">L", 16384)) + item(0x52, b"1.2.3.4") + more
    body = struct.pack(">HH16s16s32x", 1, 0, called.encode().ljust(16), calling.encode().ljust(16))
    return pdu(ASSOCIATE_RQ, body + item(0x10, b"1.2.840.10008.3.1.1.1") + proposed + item(0x50, user))


@dataclass
class RawAssociation:
    """An association opened by hand.

    Attributes
    ----------
    contexts
        Abstract syntax and transfer syntaxes proposed; context n has the ID 2n + 1.
    results
        By context ID: result (0 accepted) and transfer syntax.
    source
        Our own address, where it matters.
    """

    host: str
    port: int
    contexts: Sequence[tuple[str, Sequence[str]]]
    calling: str = "TEST"
    called: str = "FIRSTREAD"
    timeout: float = 30.0
    more: bytes = b""
    tls: ssl.SSLContext | None = None
    source: str = ""
    results: dict[int, tuple[int, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        source = (self.source, 0) if self.source else None
        self.socket = socket.create_connection((self.host, self.port), timeout=self.timeout, source_address=source)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.tls is not None:
            self.socket = self.tls.wrap_socket(self.socket, server_hostname=self.host)

    def __enter__(self) -> Self:
        try:
            self.negotiate()
        except BaseException:
            self.socket.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.release()
        finally:
            self.socket.close()

    def negotiate(self) -> None:
        """Propose the contexts and read the answer."""
        request = associate_request(self.contexts, calling=self.calling, called=self.called, more=self.more)
        self.socket.sendall(request)
        body = self.receive(ASSOCIATE_AC)
        position = 68
        while position < len(body):
            kind, _, length = struct.unpack_from(">BBH", body, position)
            content = body[position + 4 : position + 4 + length]
            if kind == 0x21:
                self.results[content[0]] = (content[2], content[8:].decode().rstrip("\0"))
            position += 4 + length

    def receive(self, wanted: int) -> bytes:
        """Return the body of the next PDU, which must be of the kind wanted.

        Raises
        ------
        AssociationRejected, AssociationAborted
            That is what came instead.
        """
        head = self._exactly(6)
        kind, _, length = struct.unpack(">BBL", head)
        body = self._exactly(length)
        if kind == ASSOCIATE_RJ:
            raise AssociationRejected(*body[1:4])
        if kind == ABORT:
            raise AssociationAborted(*body[2:4])
        assert kind == wanted, f"PDU type {kind} instead of {wanted}"
        return body

    def send_pdvs(self, *values: bytes) -> None:
        """Send PDVs in one P-DATA-TF PDU."""
        self.socket.sendall(pdu(P_DATA, b"".join(values)))

    def response(self) -> dict[int, bytes]:
        """Return the elements of the next response."""
        encoded = b""
        while True:
            body = self.receive(P_DATA)
            encoded += body[6:]
            if body[5] & 2:
                return parse_command_set(encoded)

    def store(self, sop_class: str, sop_instance: str, data: bytes, *, context_id: int = 1, room: int = 16378) -> int:
        """Send one object, data set in fragments of `room` bytes; return the status."""
        result = self.results[context_id][0]
        if result:
            raise ContextRejected(result)
        self.send_pdvs(pdv(context_id, 3, store_request(sop_class, sop_instance)))
        for control, fragment in fragments(data, room):
            self.send_pdvs(pdv(context_id, control, fragment))
        return self.status()

    def status(self) -> int:
        """Return the status of the next response."""
        return int.from_bytes(self.response()[0x0900], "little")

    def echo(self, *, context_id: int = 1) -> int:
        """Send a C-ECHO; return the status."""
        request = command_set(
            element(0x0002, uid(VERIFICATION)),
            element(0x0100, struct.pack("<H", 0x0030)),
            element(0x0110, struct.pack("<H", 7)),
            element(0x0800, struct.pack("<H", 0x0101)),
        )
        self.send_pdvs(pdv(context_id, 3, request))
        return self.status()

    def release(self) -> None:
        """Release the association."""
        self.socket.sendall(pdu(RELEASE_RQ, b"\0" * 4))
        self.receive(RELEASE_RP)

    def _exactly(self, size: int) -> bytes:
        received = bytearray()
        while len(received) < size:
            piece = self.socket.recv(size - len(received))
            if not piece:
                raise AssociationAborted(-1, 0)
            received += piece
        return bytes(received)


def fragments(data: bytes, room: int) -> Iterator[tuple[int, bytes]]:
    """Yield a data set in pieces of `room` bytes with their message control headers; an empty one is one piece."""
    for start in range(0, max(len(data), 1), room):
        yield (2 if start + room >= len(data) else 0), data[start : start + room]


def send_raw(
    host: str,
    port: int,
    *,
    sop_class: str,
    sop_instance: str,
    transfer_syntax: str,
    data: bytes,
    calling: str = "TEST",
    called: str = "FIRSTREAD",
) -> int:
    """Send one object on an association of its own, its data set as it is; return the DIMSE status.

    Raises
    ------
    AssociationRejected, AssociationAborted, ContextRejected
        It did not come to a status.
    """
    contexts = [(sop_class, [transfer_syntax])]
    with RawAssociation(host, port, contexts, calling=calling, called=called) as association:
        return association.store(sop_class, sop_instance, data)
