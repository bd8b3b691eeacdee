"""Peers that mean harm, or are broken: bounded, told about, and nobody else notices."""

import contextlib
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.certificates import Authority
from tests.support.listener_process import ListenerProcess
from tests.support.raw_store import (
    ABORT,
    ASSOCIATE_RQ,
    CT_IMAGE_STORAGE,
    EXPLICIT_VR_LITTLE_ENDIAN,
    P_DATA,
    AssociationAborted,
    RawAssociation,
    associate_request,
    is_open,
    pdu,
    pdv,
    store_request,
)
from tests.support.spooled import data_set

CONTEXTS = [(CT_IMAGE_STORAGE, [EXPLICIT_VR_LITTLE_ENDIAN])]
MEBIBYTE = 1 << 20


over_tls = pytest.mark.parametrize("listener", ["plain", "tls"], indirect=True)
"""The same over TLS: what is defended there must be defended here."""


@pytest.fixture(scope="module")
def listener(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ListenerProcess]:
    directory = tmp_path_factory.mktemp("hostile")
    secure = getattr(request, "param", "plain") == "tls"
    credentials = Authority(directory / "ca").issue("both") if secure else None
    with ListenerProcess(directory / "data", credentials=credentials) as running:
        yield running
        assert running.stop() == 0


@pytest.fixture(autouse=True)
def _others_do_not_notice(listener: ListenerProcess) -> Iterator[None]:
    yield
    with associate(listener) as association:
        assert association.store(CT_IMAGE_STORAGE, "1.2.3", b"data") == 0x0000
    wait_for(lambda: listener.partials() == [])


def associate(listener: ListenerProcess, **more: object) -> RawAssociation:
    return RawAssociation(listener.host, listener.port, **{"contexts": CONTEXTS, "tls": listener.client, **more})


def connect(listener: ListenerProcess) -> socket.socket:
    return socket.create_connection((listener.host, listener.port), timeout=30)


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def until_closed(connection: socket.socket) -> bytes:
    """Everything that still comes, until the other side closes."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while piece := connection.recv(65536):
            received += piece
    return received


def pump(connection: socket.socket, size: int) -> None:
    """Send zeros until they are all sent or nobody takes them any more."""
    block = bytes(MEBIBYTE)
    with contextlib.suppress(ConnectionError):
        for _ in range(size // MEBIBYTE):
            connection.sendall(block)


def rss(listener: ListenerProcess) -> int:
    return int(psutil.Process(listener.pid).memory_info().rss)


def abort_source(listener: ListenerProcess, stream: bytes) -> int:
    """Send bytes on an association; return the source of the abort that they bring about."""
    association = associate(listener)
    association.negotiate()
    association.socket.sendall(stream)
    with pytest.raises(AssociationAborted) as aborted:
        association.status()
    association.socket.close()
    return aborted.value.source


@pytest.mark.parametrize("kind", [ASSOCIATE_RQ, P_DATA, ABORT])
def test_an_enormous_pdu_before_the_association_is_not_buffered(listener: ListenerProcess, kind: int) -> None:
    before = rss(listener)
    with connect(listener) as connection:
        connection.sendall(struct.pack(">BBL", kind, 0, 300 * MEBIBYTE))
        assert until_closed_after(connection, 300 * MEBIBYTE)[0] == ABORT
    assert rss(listener) - before < 16 * MEBIBYTE


def until_closed_after(connection: socket.socket, size: int) -> bytes:
    """The answer, which comes while we still send."""
    connection.settimeout(5)
    answer = connection.recv(10)
    pump(connection, size)
    return answer


@over_tls
def test_an_enormous_p_data_pdu_aborts_the_association(listener: ListenerProcess) -> None:
    assert abort_source(listener, struct.pack(">BBL", P_DATA, 0, 0xFFFFFFFF)) == 2
    assert "is the limit" in listener.events("protocol_error")[-1]["error"]


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),  # a TLS client hello
        bytes(1000),
        b"\xff" * 1000,
        pdu(ASSOCIATE_RQ, b""),
        pdu(ASSOCIATE_RQ, b"\0\1" + bytes(66) + b"\x20\0\xff\xff"),
        associate_request([("1" * 80, [EXPLICIT_VR_LITTLE_ENDIAN])]),
        associate_request(CONTEXTS, calling=""),
        associate_request(CONTEXTS, called=""),
        pdu(P_DATA, pdv(1, 3, store_request(CT_IMAGE_STORAGE, "1.2.3"))),
    ],
)
def test_garbage_is_answered_or_closed(listener: ListenerProcess, garbage: bytes) -> None:
    with connect(listener) as connection:
        connection.sendall(garbage)
        connection.shutdown(socket.SHUT_WR)
        until_closed(connection)


@over_tls
@pytest.mark.parametrize(
    "pdvs",
    [
        [pdv(1, 2, b"a data set without a command set")],
        [pdv(1, 3, store_request(CT_IMAGE_STORAGE, "1.2.3"))] * 2,
        [pdv(1, 3, store_request(CT_IMAGE_STORAGE, "1.2.3")), pdv(3, 2, b"x")],
        [pdv(7, 3, store_request(CT_IMAGE_STORAGE, "1.2.3"))],
        [b"\0\0\0\0\0\0"],
        [pdv(1, 3, os.urandom(100))],
        [pdv(1, 1, bytes(10_000)), pdv(1, 1, bytes(10_000))],
    ],
)
def test_broken_messages_abort_the_association(listener: ListenerProcess, pdvs: list[bytes]) -> None:
    assert abort_source(listener, pdu(P_DATA, b"".join(pdvs))) == 2


@over_tls
def test_a_silent_connection_does_not_keep_others_waiting(listener: ListenerProcess) -> None:
    with connect(listener) as silent, connect(listener) as half:
        half.sendall(associate_request(CONTEXTS)[:20])
        with associate(listener) as association:
            assert association.store(CT_IMAGE_STORAGE, "1.2.3", b"data") == 0x0000
        assert is_open(silent), "served only once the silent one had been given up"
        if listener.client is None:  # over TLS half a request in the clear is no half of anything: it ends at once
            assert is_open(half), "served only once half a request had been given up"


def test_port_scans_take_no_places(tmp_path: Path) -> None:
    with ListenerProcess(tmp_path / "data", max_associations=1) as listener:
        for _ in range(200):
            connect(listener).close()
        with associate(listener) as association:
            assert association.store(CT_IMAGE_STORAGE, "1.2.3", b"data") == 0x0000
        process = psutil.Process(listener.pid)
        wait_for(lambda: process.num_threads() < 10)
        assert process.num_fds() < 30


def test_of_connections_beyond_all_bounds_the_oldest_silent_ones_are_closed(tmp_path: Path) -> None:
    with ListenerProcess(tmp_path / "data", max_associations=1) as listener, contextlib.ExitStack() as stack:
        connections = [stack.enter_context(connect(listener)) for _ in range(60)]
        wait_for(lambda: len(listener.events("silent_connection_gave_way")) == 60 - 33)
        assert psutil.Process(listener.pid).num_threads() < 100
        assert [until_closed(connection) for connection in connections[: 60 - 33]] == [b""] * (60 - 33)
        with associate(listener) as association:
            assert association.store(CT_IMAGE_STORAGE, "1.2.3", b"data") == 0x0000


@over_tls
@pytest.mark.parametrize("how", ["close", "reset", "abort"])
def test_a_sender_that_dies_in_a_transfer_leaves_nothing(listener: ListenerProcess, how: str) -> None:
    before = listener.arrivals()
    association = associate(listener)
    association.negotiate()
    association.send_pdvs(pdv(1, 3, store_request(CT_IMAGE_STORAGE, "1.2.66")))
    association.send_pdvs(pdv(1, 0, bytes(100_000)))
    wait_for(lambda: len(listener.partials()) == 1)
    told = len(listener.events("transfer_abandoned"))
    if how == "abort":
        association.socket.sendall(pdu(ABORT, b"\0" * 4))
    if how == "reset":
        association.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    association.socket.close()
    wait_for(lambda: listener.partials() == [])
    assert listener.arrivals() == before
    wait_for(lambda: len(listener.events("transfer_abandoned")) == told + 1)


@over_tls
def test_a_release_in_the_middle_of_a_data_set_leaves_nothing(listener: ListenerProcess) -> None:
    before = listener.arrivals()
    with associate(listener) as association:
        association.send_pdvs(pdv(1, 3, store_request(CT_IMAGE_STORAGE, "1.2.66")), pdv(1, 0, bytes(1000)))
    wait_for(lambda: listener.partials() == [])
    assert listener.arrivals() == before


@over_tls
def test_memory_does_not_grow_with_the_object(listener: ListenerProcess) -> None:
    with associate(listener) as association:
        assert association.store(CT_IMAGE_STORAGE, "1.2.3", bytes(MEBIBYTE), room=131066) == 0x0000
        before = rss(listener)
        association.send_pdvs(pdv(1, 3, store_request(CT_IMAGE_STORAGE, "1.2.3")))
        fragment = pdv(1, 0, bytes(131066))
        for _ in range(1024):
            association.send_pdvs(fragment)
        assert rss(listener) - before < 4 * MEBIBYTE
        association.send_pdvs(pdv(1, 2, b"end"))
        assert association.status() == 0x0000
    arrival = listener.arrivals()[-1]
    assert len(data_set(arrival)) == 1024 * 131066 + 3
    arrival.unlink()


@over_tls
def test_many_associations_at_once(listener: ListenerProcess) -> None:
    with contextlib.ExitStack() as stack:
        associations = [stack.enter_context(associate(listener)) for _ in range(40)]
        for association in associations:
            association.send_pdvs(pdv(1, 3, store_request(CT_IMAGE_STORAGE, "1.2.3")), pdv(1, 0, b"half"))
        for association in associations:
            association.send_pdvs(pdv(1, 2, b"whole"))
        assert [association.status() for association in associations] == [0] * 40
