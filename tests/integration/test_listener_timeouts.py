"""Peers that stop talking: every wait has an end, and a slow sender is not a silent one."""

import contextlib
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from dicom_listener.association import ListenerAssociation
from dicom_listener.server import Listener, Timeouts
from dicom_listener.tls import ServerTls
from tests.support import certificates
from tests.support.certificates import Authority
from tests.support.raw_store import (
    CT_IMAGE_STORAGE,
    EXPLICIT_VR_LITTLE_ENDIAN,
    P_DATA,
    AssociationAborted,
    RawAssociation,
    associate_request,
    pdv,
    store_request,
)
from tests.support.spooled import data_set
from worker.config import Credentials
from worker.intake.spool import Spool

CONTEXTS = [(CT_IMAGE_STORAGE, [EXPLICIT_VR_LITTLE_ENDIAN])]
NETWORK = 0.6


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


@pytest.fixture
def listener(spool: Spool) -> Iterator[Listener]:
    with (
        structlog.testing.capture_logs(),
        Listener(
            spool,
            ae_title="FIRSTREAD",
            host="localhost",
            port=0,
            max_associations=4,
            max_object_bytes=1 << 20,
            timeouts=Timeouts(request=0.4, network=NETWORK),
        ) as running,
    ):
        yield running
    assert not running.alive()


def associate(listener: Listener) -> RawAssociation:
    association = RawAssociation(*listener.address, CONTEXTS, timeout=10)
    association.negotiate()
    return association


def wait_for(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


@pytest.mark.parametrize("start", [b"", associate_request(CONTEXTS)[:40]])
def test_a_connection_that_never_asks_is_closed(listener: Listener, start: bytes) -> None:
    with socket.create_connection(listener.address, timeout=10) as connection:
        connection.sendall(start)
        with contextlib.suppress(ConnectionError):
            while connection.recv(100):
                pass


def test_half_a_request_is_not_waited_for_longer_than_for_none(spool: Spool) -> None:
    patient = Timeouts(request=0.4, network=60.0)
    with (
        structlog.testing.capture_logs(),
        Listener(
            spool,
            ae_title="FIRSTREAD",
            host="localhost",
            port=0,
            max_associations=4,
            max_object_bytes=1 << 20,
            timeouts=patient,
        ) as running,
        socket.create_connection(running.address, timeout=10) as connection,
    ):
        connection.sendall(associate_request(CONTEXTS)[:40])
        with contextlib.suppress(ConnectionError):
            assert connection.recv(100) == b""


def test_an_idle_association_is_aborted(listener: Listener) -> None:
    association = associate(listener)
    with pytest.raises(AssociationAborted):
        association.status()
    association.socket.close()


@pytest.mark.parametrize("stall", ["between PDUs", "inside a PDU"])
def test_a_sender_that_stalls_in_a_transfer_is_aborted_and_leaves_nothing(
    listener: Listener, spool: Spool, stall: str
) -> None:
    association = associate(listener)
    association.send_pdvs(pdv(1, 3, store_request(CT_IMAGE_STORAGE, "1.2.3")), pdv(1, 0, b"begun"))
    wait_for(lambda: bool(list(spool.incoming_dir.glob("*.part"))))
    if stall == "inside a PDU":
        association.socket.sendall(struct.pack(">BBL", P_DATA, 0, 1000) + b"x")
    with pytest.raises(AssociationAborted):
        association.status()
    association.socket.close()
    wait_for(lambda: list(spool.incoming_dir.iterdir()) == [])


def test_a_slow_sender_is_waited_for(listener: Listener, spool: Spool) -> None:
    association = associate(listener)
    association.send_pdvs(pdv(1, 3, store_request(CT_IMAGE_STORAGE, "1.2.3")))
    until = time.monotonic() + 3 * NETWORK
    pieces = 0
    while time.monotonic() < until:
        association.send_pdvs(pdv(1, 0, b"piece"))
        pieces += 1
        time.sleep(NETWORK / 6)
    association.send_pdvs(pdv(1, 2, b""))
    assert association.status() == 0x0000
    association.release()
    association.socket.close()
    assert data_set(spool.arrivals()[0]) == b"piece" * pieces


@pytest.mark.parametrize("start", [b"", b"\x16\x03\x01\x02\x00"])
def test_a_handshake_has_its_time_limit_however_its_bytes_are_spread(
    spool: Spool, tmp_path: Path, start: bytes
) -> None:
    credentials = Authority(tmp_path / "ca").issue("firstread")
    with structlog.testing.capture_logs() as told:
        listener = Listener(
            spool,
            ae_title="FIRSTREAD",
            host="127.0.0.1",
            port=0,
            max_associations=4,
            max_object_bytes=1 << 20,
            timeouts=Timeouts(handshake=0.6),
            tls=ServerTls(credentials, verify_peer=True),
        )
        with listener, socket.create_connection(listener.address, timeout=0.1) as connection:
            connection.sendall(start)
            closed = False
            deadline = time.monotonic() + 20
            while not closed:
                assert time.monotonic() < deadline, "it was not closed"
                with contextlib.suppress(TimeoutError):
                    if start:
                        connection.sendall(b"\1")
                    closed = connection.recv(100) == b""
    assert [line["why"] for line in told if line["event"] == "tls_failed"] == [
        "it did not complete the handshake in time"
    ]


@contextlib.contextmanager
def over_tls(spool: Spool, credentials: Credentials) -> Iterator[tuple[Listener, list[Any]]]:
    """A listener that waits as long as it does in earnest, and what it tells."""
    limits = {"max_associations": 4, "max_object_bytes": 1 << 20}
    tls = ServerTls(credentials, verify_peer=True)
    with (
        structlog.testing.capture_logs() as told,
        Listener(spool, ae_title="FIRSTREAD", host="127.0.0.1", port=0, tls=tls, **limits) as listener,
    ):
        yield listener, told


def test_part_of_a_tls_record_keeps_nothing_from_ending(spool: Spool, tmp_path: Path) -> None:
    credentials = Authority(tmp_path / "ca").issue("both")
    with over_tls(spool, credentials) as (listener, told):
        association = RawAssociation(*listener.address, CONTEXTS, tls=certificates.client(credentials))
        association.negotiate()
        below = socket.socket(fileno=os.dup(association.socket.fileno()))
        below.sendall(b"\x17\x03\x03\x40\x00" + bytes(100))  # the beginning of a record of 16 KiB
        time.sleep(0.3)
    below.close()
    association.socket.close()
    assert "associations_cut_off" not in {line["event"] for line in told}


def test_a_handshake_under_way_keeps_nothing_from_ending(spool: Spool, tmp_path: Path) -> None:
    with (
        over_tls(spool, Authority(tmp_path / "ca").issue("firstread")) as (listener, told),
        socket.create_connection(listener.address) as silent,
    ):
        silent.sendall(b"\x16\x03\x01")
        wait_for(lambda: any(thread.name.startswith("AcceptorThread") for thread in threading.enumerate()))
        listener.drain(0)
        assert [line["event"] for line in told if line["event"] == "tls_failed"]
    assert "associations_cut_off" not in {line["event"] for line in told}


def test_a_host_name_is_resolved_and_a_free_port_found(listener: Listener) -> None:
    host, port = listener.address
    assert host in {"127.0.0.1", "::1"}
    assert port > 0


@pytest.mark.parametrize("why", ["no place", "no thread"])
def test_a_connection_that_cannot_be_served_is_closed_and_the_next_one_is(
    listener: Listener, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    def no_thread(_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        if why == "no place":
            patched.setattr(listener._servers[0].places, "enter", lambda _: False)
        else:
            patched.setattr(ListenerAssociation, "start", no_thread)
        with socket.create_connection(listener.address, timeout=10) as connection, contextlib.suppress(ConnectionError):
            assert connection.recv(100) == b""
    association = associate(listener)
    assert association.store(CT_IMAGE_STORAGE, "1.2.3", b"data") == 0x0000
    association.release()
    association.socket.close()
