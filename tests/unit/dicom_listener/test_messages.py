"""PDVs become operations, however they are cut; what is no message is a protocol error."""

import itertools
import struct
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_listener.dimse_status import ACCEPTED, Answer
from dicom_listener.handlers import Handlers, Operation
from dicom_listener.messages import COMMAND_SET_CAP, FRAGMENTS, Messages
from dicom_listener.request import Request
from tests.support.raw_store import command_set, element, parse_command_set, pdv, store_request
from worker.commitment.message import Kind
from worker.errors import ProtocolError

CT = "1.2.840.10008.5.1.4.1.1.2"


class Recorded:
    """A store that keeps what it is given."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.data = b""
        self.writes = 0
        self.ended = ""
        self.sent_when_told: int | None = None
        self.wire: Wire | None = None

    def write(self, *fragments: memoryview) -> None:
        self.data += b"".join(fragments)
        self.writes += 1

    def finish(self) -> Answer:
        self.ended = "finished"
        return ACCEPTED

    def tell(self) -> None:
        self.sent_when_told = None if self.wire is None else len(self.wire.sent)

    def abandon(self) -> None:
        self.ended = "abandoned"


class Recorder(Handlers):
    """Handlers that need no spool."""

    def __init__(self) -> None:
        self.stores: list[Recorded] = []
        self.commitments: list[tuple[str, Request, int]] = []

    def store(self, request: Request) -> Operation:
        self.stores.append(Recorded(request))
        return self.stores[-1]

    def commitment(self, kind: Kind, request: Request, type_id: int) -> Operation:
        self.commitments.append((kind, request, type_id))
        return Recorded(request)


class Wire:
    """Messages with an association and an upper layer that only remember."""

    def __init__(self, max_length: int = 16384) -> None:
        self.sent: list[bytes] = []
        self.handlers = Recorder()
        context = SimpleNamespace(abstract_syntax=CT, transfer_syntax=["1.2.840.10008.1.2.1"])
        association = SimpleNamespace(
            number=1,
            calling_ae="MODALITY",
            called_ae="FIRSTREAD",
            is_requestor=False,
            requestor=SimpleNamespace(maximum_length=max_length),
            dul=SimpleNamespace(send_now=self.sent.append),
            context={1: context, 3: context}.get,
        )
        self.messages = Messages(association, self.handlers)

    def receive(self, *values: bytes) -> None:
        self.messages.receive(memoryview(b"".join(values)))

    def statuses(self) -> list[int]:
        return [int.from_bytes(parse_command_set(pdu[12:])[0x0900], "little") for pdu in self.sent]


def request(field: int, *, data_set: bool = True) -> bytes:
    return command_set(
        element(0x0002, b"1.2.840.10008.1.1\0"),
        element(0x0100, struct.pack("<H", field)),
        element(0x0110, struct.pack("<H", 5)),
        element(0x0800, struct.pack("<H", 1 if data_set else 0x0101)),
    )


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


@given(st.lists(st.integers(0, 1000), max_size=6), st.binary(max_size=300), st.lists(st.integers(0, 1000), max_size=6),
       st.lists(st.booleans(), min_size=20, max_size=20))  # fmt: skip
def test_a_message_cut_anywhere_is_the_same_message(
    command_cuts: list[int], data: bytes, data_cuts: list[int], new_pdu: list[bool]
) -> None:
    wire = Wire()
    commands = cut(store_request(CT, "1.2.3", message_id=42), command_cuts)
    pieces = cut(data, data_cuts)
    values = [pdv(1, 3 if i == len(commands) - 1 else 1, piece) for i, piece in enumerate(commands)]
    values += [pdv(1, 2 if i == len(pieces) - 1 else 0, piece) for i, piece in enumerate(pieces)]
    pdu: list[bytes] = []
    for value, fresh in zip(values, new_pdu, strict=False):
        if fresh and pdu:
            wire.receive(*pdu)
            pdu = []
        pdu.append(value)
    wire.receive(*pdu)
    (store,) = wire.handlers.stores
    assert store.data == data
    assert store.ended == "finished"
    assert store.request.sop_instance_uid == "1.2.3"
    assert store.request.transfer_syntax_uid == "1.2.840.10008.1.2.1"
    assert wire.statuses() == [0]
    assert not wire.messages.busy


def test_the_peer_has_its_answer_before_anything_is_told_of_it() -> None:
    wire = Wire()
    wire.receive(pdv(1, 3, store_request(CT, "1.2.3")))
    (store,) = wire.handlers.stores
    store.wire = wire
    wire.receive(pdv(1, 2, b"data"))
    assert (store.ended, store.sent_when_told) == ("finished", 1)


def test_two_messages_in_one_pdu_are_two() -> None:
    wire = Wire()
    wire.receive(
        *(pdv(1, 3, store_request(CT, "1.2.3")), pdv(1, 2, b"first")),
        *(pdv(3, 3, store_request(CT, "1.2.4")), pdv(3, 2, b"second")),
    )
    assert [store.data for store in wire.handlers.stores] == [b"first", b"second"]
    assert wire.statuses() == [0, 0]


def test_the_reserved_bits_of_the_control_header_are_ignored() -> None:
    wire = Wire()
    wire.receive(pdv(1, 0xFF, store_request(CT, "1.2.3")), pdv(1, 0xFC, b"a"), pdv(1, 0xFE, b"b"))
    assert wire.handlers.stores[0].data == b"ab"


def test_an_echo_is_answered_on_its_context() -> None:
    wire = Wire()
    wire.receive(pdv(3, 3, request(0x0030, data_set=False)))
    (sent,) = wire.sent
    response = parse_command_set(sent[12:])
    assert sent[10] == 3
    assert response[0x0100] == b"\x30\x80"
    assert response[0x0120] == b"\x05\x00"
    assert response[0x0900] == b"\0\0"


@pytest.mark.parametrize("field", [0x0010, 0x0020, 0x0021, 0x0110, 0x0120, 0x0140, 0x4242])
@pytest.mark.parametrize("data_set", [True, False])
def test_other_requests_are_read_past_and_not_recognized(field: int, data_set: bool) -> None:
    wire = Wire()
    wire.receive(pdv(1, 3, request(field, data_set=data_set)))
    if data_set:
        assert wire.sent == []
        wire.receive(pdv(1, 0, b"identifier" * 100), pdv(1, 2, b""))
    assert wire.statuses() == [0x0211]


@pytest.mark.parametrize(
    ("field", "kind", "class_at", "instance_at", "type_at"),
    [(0x0130, "request", 0x0003, 0x1001, 0x1008), (0x0100, "result", 0x0002, 0x1000, 0x1002)],
)
def test_actions_and_events_reach_storage_commitment_and_are_answered_in_their_form(
    field: int, kind: str, class_at: int, instance_at: int, type_at: int
) -> None:
    """PS3.7 10.3.1 and 10.3.4: the request names a class and an instance, affected or requested, and a type."""
    wire = Wire()
    named = [element(class_at, b"1.2.840.10008.1.20.1"), element(instance_at, b"1.2.840.10008.1.20.1.1")]
    rest = [
        element(0x0100, struct.pack("<H", field)),
        element(0x0110, b"\5\0"),
        element(0x0800, b"\1\0"),
        element(type_at, b"\1\0"),
    ]
    wire.receive(pdv(1, 3, command_set(*named, *rest)), pdv(1, 2, b"information"))
    ((said, request, type_id),) = wire.handlers.commitments
    assert (said, request.sop_class_uid, type_id) == (kind, "1.2.840.10008.1.20.1", 1)
    (sent,) = wire.sent
    response = parse_command_set(sent[12:])
    assert list(response) == sorted(response), "in the order of their tags"
    assert response[0x0100] == struct.pack("<H", field | 0x8000)
    assert response[0x0002] == b"1.2.840.10008.1.20.1"
    assert response[0x1000] == b"1.2.840.10008.1.20.1.1"
    assert response[type_at] == b"\1\0"


@pytest.mark.parametrize("field", [0x0FFF, 0x8001, 0x8030])
def test_cancels_and_responses_are_not_answered(field: int) -> None:
    wire = Wire()
    wire.receive(pdv(1, 3, request(field, data_set=False)))
    assert wire.sent == []
    assert not wire.messages.busy


STORE = pdv(1, 3, store_request(CT, "1.2.3"))


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ([b"\0\0\0"], "ends inside a PDV"),
        ([pdv(1, 3, b"")[:-2] + b""], "ends inside a PDV"),
        ([struct.pack(">LBB", 1, 1, 3)], "does not fit"),
        ([struct.pack(">LBB", 100, 1, 3)], "does not fit"),
        ([struct.pack(">LBB", 0xFFFFFFFF, 1, 3)], "does not fit"),
        ([pdv(1, 2, b"data")], "without a command set"),
        ([STORE, STORE], "before the data set"),
        ([STORE, pdv(3, 2, b"data")], "two presentation contexts"),
        ([pdv(1, 1, b"x"), pdv(3, 3, b"y")], "two presentation contexts"),
        ([pdv(5, 3, store_request(CT, "1.2.3"))], "was not accepted"),
        ([pdv(1, 1, bytes(COMMAND_SET_CAP)), pdv(1, 1, b"x")], "larger than"),
        ([pdv(1, 3, b"")], "Command Field"),
    ],
)
def test_what_is_no_message_is_a_protocol_error(values: list[bytes], says: str) -> None:
    with pytest.raises(ProtocolError, match=says):
        Wire().receive(*values)


def test_a_store_that_is_half_received_can_be_abandoned() -> None:
    wire = Wire()
    wire.receive(STORE, pdv(1, 0, b"half"))
    assert wire.messages.busy
    wire.messages.abandon()
    assert wire.handlers.stores[0].ended == "abandoned"
    assert not wire.messages.busy


def test_the_answer_keeps_the_peers_maximum_length() -> None:
    wire = Wire(max_length=64)
    wire.receive(STORE, pdv(1, 2, b"data"))
    (stream,) = wire.sent
    length = int.from_bytes(stream[2:6], "big")
    assert length <= 64
    assert len(stream) > 6 + length


@given(st.binary(max_size=64))
def test_any_bytes_are_a_message_or_a_protocol_error(body: bytes) -> None:
    try:
        Wire().receive(body)
    except ProtocolError:
        return


def test_fragments_that_came_together_are_written_together_before_their_bytes_change() -> None:
    wire = Wire()
    wire.receive(pdv(1, 3, store_request(CT, "1.2.3")))
    store = wire.handlers.stores[0]
    came = bytearray(pdv(1, 0, b"one") + pdv(1, 0, b"two"))
    wire.messages.receive(memoryview(came))
    wire.messages.settle()
    came[:] = bytes(len(came))
    assert (store.data, store.writes) == (b"onetwo", 1)
    wire.messages.settle()
    wire.receive(pdv(1, 2, b"end"))
    assert (store.data, store.writes, store.ended) == (b"onetwoend", 2, "finished")


def test_many_small_fragments_are_not_hoarded() -> None:
    wire = Wire()
    wire.receive(pdv(1, 3, store_request(CT, "1.2.3")), *[pdv(1, 0, b"x")] * (2 * FRAGMENTS + 1))
    assert wire.handlers.stores[0].writes == 2


def test_what_was_abandoned_is_not_written_later() -> None:
    wire = Wire()
    wire.receive(pdv(1, 3, store_request(CT, "1.2.3")), pdv(1, 0, b"one"))
    wire.messages.abandon()
    wire.messages.settle()
    store = wire.handlers.stores[0]
    assert (store.data, store.ended) == (b"", "abandoned")
