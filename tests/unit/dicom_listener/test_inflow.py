"""What comes in, however it is cut, is handed out PDU by PDU; nothing is waited for, and little is kept."""

import contextlib
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_listener.inflow import AHEAD, HEAD, PACE_BYTES, Inflow, Pace


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.settimeout(60)
    with ours, theirs:
        yield ours, theirs


def pdu(body: bytes, kind: int = 4) -> bytes:
    return HEAD.pack(kind, 0, len(body)) + body


def taken(inflow: Inflow) -> list[bytes]:
    """Every PDU that can be had now."""
    found = []
    while True:
        head = inflow.head()
        body = None if head is None else inflow.body(head[1])
        if head is not None and body is not None:
            found.append(bytes(body))
            inflow.drop(head[1])
        elif not inflow.fill():
            return found


@given(st.lists(st.binary(max_size=400), max_size=8), st.lists(st.integers(1, 300), min_size=1, max_size=20))
def test_pdus_cut_anywhere_come_out_whole(bodies: list[bytes], cuts: list[int]) -> None:
    sent = b"".join(map(pdu, bodies))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(60)
        inflow, found, position = Inflow(ours), [], 0
        while position < len(sent):
            cut = cuts[position % len(cuts)]
            theirs.sendall(sent[position : position + cut])
            found += taken(inflow)
            position += cut
        assert found == bodies
        assert inflow.begun_at is None


def test_nothing_is_waited_for(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    inflow = Inflow(ours)
    assert inflow.fill() is None
    theirs.sendall(pdu(b"12345678")[:8])
    assert inflow.fill() == 8
    assert inflow.begun_at is not None
    assert inflow.head() == (4, 8)
    assert not inflow.ready()
    assert inflow.body(8) is None
    theirs.close()
    assert inflow.fill() == 0, "the end of the connection"


def test_what_was_read_ahead_has_begun_when_its_turn_comes(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    inflow = Inflow(ours)
    theirs.sendall(pdu(b"first") + pdu(b"second") + pdu(b"third")[:3])
    inflow.fill()
    first = inflow.begun_at
    assert inflow.ready()
    inflow.drop(5)
    assert inflow.begun_at is not None
    assert first is not None
    assert inflow.begun_at >= first
    assert bytes(inflow.body(6) or b"") == b"second"
    inflow.drop(6)
    assert inflow.begun_at is not None
    assert not inflow.ready()


def test_a_pdu_longer_than_the_buffer_is_given_one_of_its_length(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    theirs.setblocking(False)
    inflow, body = Inflow(ours), bytes(range(256)) * 8192
    assert len(body) > AHEAD
    sent, rest = 0, pdu(b"before") + pdu(body)
    found: list[bytes] = []
    while sent < len(rest):
        try:
            sent += theirs.send(rest[sent:])
        except BlockingIOError:
            found += taken(inflow)
    assert [*found, *taken(inflow)] == [b"before", body]


@pytest.mark.parametrize("left", range(1, HEAD.size))
def test_part_of_a_head_at_the_end_of_the_buffer_is_no_end_of_the_connection(
    ends: tuple[socket.socket, socket.socket], left: int
) -> None:
    ours, theirs = ends
    theirs.setblocking(False)
    whole = AHEAD
    first = bytes(whole - HEAD.size - left)
    sent, stream, inflow = 0, pdu(first) + pdu(b"second"), Inflow(ours)
    read = 0
    while read < whole:  # to the last byte of the buffer, before any PDU is taken out of it
        with contextlib.suppress(BlockingIOError):
            sent += theirs.send(stream[sent:whole])
        read += inflow.fill() or 0
    theirs.setblocking(True)
    theirs.sendall(stream[whole:])
    assert taken(inflow) == [first, b"second"]


def test_a_connection_that_broke_says_so(ends: tuple[socket.socket, socket.socket]) -> None:
    inflow = Inflow(ends[0])
    ends[0].close()
    with pytest.raises(OSError, match="file descriptor"):
        inflow.fill()


def test_what_is_discarded_is_gone(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    inflow = Inflow(ours)
    theirs.sendall(bytes(1000))
    assert inflow.discard()
    assert inflow.discard(), "nothing more has come, and the connection is there"
    theirs.close()
    assert not inflow.discard()


def test_our_own_work_makes_no_peer_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("dicom_listener.inflow.time.monotonic", lambda: now)
    pace = Pace()
    now = 103.0
    pace.moved(PACE_BYTES - 1)
    assert pace.slow_seconds == 3.0, "next to nothing"
    pace.moved(1)
    assert pace.slow_seconds == 0.0
    pace.work_begins()
    now = 150.0
    assert pace.slow_seconds == 0.0
    pace.work_ends()
    now = 152.0
    assert pace.slow_seconds == 2.0


def test_what_was_handed_out_keeps_its_bytes_until_more_is_read(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    inflow = Inflow(ours)
    theirs.sendall(pdu(b"first") + pdu(b"second")[:9])
    inflow.fill()
    first = inflow.body(5)
    assert first is not None
    inflow.drop(5)
    assert inflow.body(AHEAD) is None, "there is no room for so much: it is made when more is read"
    assert bytes(first) == b"first"
