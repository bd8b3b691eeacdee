"""Deliveries over TLS: to dcmtk's storescp, to peers with a wrong certificate, to peers that do not want ours."""

import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pydicom
import pytest
import structlog

from dicom_listener.server import Listener
from dicom_listener.tls import ServerTls
from tests.support import certificates
from tests.support.certificates import Authority
from tests.support.objects import film, save
from tests.support.stack import free_port
from tests.support.study_results import result_of, source
from worker.config import Credentials, Peer
from worker.errors import PeerUnreachable
from worker.intake.spool import Spool
from worker.reporting import pacs
from worker.reporting.structured_report import build, write

QUICK = {"connect_seconds": 2, "dimse_seconds": 5}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


@pytest.fixture
def ours(authority: Authority) -> Credentials:
    return authority.issue("firstread")


@pytest.fixture
def report(tmp_path: Path) -> Path:
    write(build(result_of(source())), tmp_path / "report.dcm")
    return tmp_path / "report.dcm"


@contextmanager
def storescp(directory: Path, theirs: Credentials) -> Iterator[Peer]:
    directory.mkdir()
    peer = Peer(ae_title="PACS", host="127.0.0.1", port=free_port(), tls=True)
    command = ["storescp", "-od", str(directory), "-aet", "PACS", *certificates.dcmtk(theirs), str(peer.port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + 20
            while True:
                assert time.monotonic() < deadline
                with suppress(OSError), socket.create_connection((peer.host, peer.port)):
                    break
                time.sleep(0.05)
            yield peer
        finally:
            process.terminate()
            process.wait(10)


@contextmanager
def listening(tmp_path: Path, theirs: Credentials) -> Iterator[Peer]:
    """A peer of TLS 1.3, which refuses a certificate only after the handshake: our own listener."""
    limits = {"max_associations": 4, "max_object_bytes": 1 << 20}
    tls = ServerTls(theirs, verify_peer=True)
    spool = Spool(tmp_path / "spool")
    with Listener(spool, ae_title="PACS", host="127.0.0.1", port=0, tls=tls, **limits) as listener:
        yield Peer(ae_title="PACS", host="127.0.0.1", port=listener.address[1], tls=True)


@pytest.mark.peer("storescp")
def test_dcmtk_stores_what_is_delivered_over_tls(
    report: Path, tmp_path: Path, authority: Authority, ours: Credentials
) -> None:
    with storescp(tmp_path / "received", authority.issue("pacs")) as peer:
        assert pacs.echo(peer, "FIRSTREAD", credentials=ours) > 0
        assert pacs.deliver(report, peer, "FIRSTREAD", credentials=ours).status == 0
        large = save(film(PixelData=bytes(6 << 20), Rows=1024, Columns=3072), tmp_path / "large.dcm")
        (outcome,) = pacs.send_files([large], peer, "FIRSTREAD", credentials=ours)
        assert outcome.status == 0
    received = {pydicom.dcmread(path).SOPInstanceUID for path in (tmp_path / "received").iterdir()}
    assert received == {pydicom.dcmread(path).SOPInstanceUID for path in (report, large)}


@pytest.mark.peer("storescp")
@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("unknown CA", "self-signed certificate in certificate chain"),
        ("expired", "certificate has expired"),
        ("another host", "IP address mismatch"),
    ],
)
def test_a_peer_with_a_wrong_certificate_gets_nothing(
    report: Path, tmp_path: Path, authority: Authority, ours: Credentials, fault: str, says: str
) -> None:
    match fault:
        case "unknown CA":
            theirs = Authority(tmp_path / "other").issue("pacs")
        case "expired":
            theirs = authority.expired("pacs")
        case _:
            theirs = authority.issue("pacs", host="pacs.hospital.example")
    with storescp(tmp_path / "received", theirs) as peer, pytest.raises(PeerUnreachable) as error:
        pacs.deliver(report, peer, "FIRSTREAD", credentials=ours, **QUICK)
    assert f"{peer}: its certificate is not accepted: {says}" in str(error.value)
    assert "FIRSTREAD_TLS_CA" in str(error.value)
    assert list((tmp_path / "received").iterdir()) == []


@pytest.mark.parametrize("shown", ["of an unknown CA", "none"])
def test_a_peer_that_does_not_want_our_certificate_says_so(
    report: Path, tmp_path: Path, authority: Authority, shown: str
) -> None:
    stranger = Authority(tmp_path / "other").issue("stranger")
    none = shown == "none"
    ours = Credentials(None if none else stranger.certificate, None if none else stranger.key, authority.ca)
    with (
        structlog.testing.capture_logs(),
        listening(tmp_path, authority.issue("pacs")) as peer,
        pytest.raises(PeerUnreachable) as error,
    ):
        pacs.deliver(report, peer, "FIRSTREAD", credentials=ours, **QUICK)
    assert "it refuses our certificate" in str(error.value)
    assert ("unknown ca" if not none else "certificate required") in str(error.value)


def test_our_own_listener_takes_it(report: Path, tmp_path: Path, authority: Authority, ours: Credentials) -> None:
    with structlog.testing.capture_logs(), listening(tmp_path, authority.issue("pacs")) as peer:
        assert pacs.deliver(report, peer, "FIRSTREAD", credentials=ours).status == 0


def test_our_certificate_that_cannot_be_used_is_named(report: Path, authority: Authority) -> None:
    peer = Peer(ae_title="PACS", host="127.0.0.1", port=free_port(), tls=True)
    with pytest.raises(PeerUnreachable, match=r"PACS@.*/tls: no TLS with it: FIRSTREAD_TLS_CERTIFICATE=.*expired on"):
        pacs.deliver(report, peer, "FIRSTREAD", credentials=authority.expired("old"), **QUICK)
    with pytest.raises(PeerUnreachable, match="no connection"):
        pacs.deliver(report, peer, "FIRSTREAD", credentials=authority.issue("new"), **QUICK)


@contextmanager
def answering(talk: ssl.SSLContext | None) -> Iterator[Peer]:
    """A peer that takes a connection and says nothing more, over TLS or in the clear."""
    held: list[socket.socket] = []

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = server.accept()
                held.append(talk.wrap_socket(connection, server_side=True) if talk else connection)
                if talk is None:
                    connection.recv(1000)
                    connection.close()

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield Peer(ae_title="PACS", host="127.0.0.1", port=server.getsockname()[1], tls=True)
        server.shutdown(socket.SHUT_RDWR)
        thread.join(10)
    for connection in held:
        connection.close()


def test_a_peer_that_sends_session_tickets_and_nothing_else_is_given_up(report: Path, authority: Authority) -> None:
    theirs = authority.issue("pacs")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(str(theirs.certificate), theirs.key)
    before = threading.active_count()
    with answering(context) as peer, pytest.raises(PeerUnreachable, match="no answer to the association request"):
        pacs.deliver(report, peer, "FIRSTREAD", credentials=authority.issue("firstread"), **QUICK)
    deadline = time.monotonic() + 20
    while threading.active_count() > before:
        assert time.monotonic() < deadline, "a thread waits for ever"
        time.sleep(0.05)


def test_a_peer_that_speaks_no_tls(report: Path, ours: Credentials) -> None:
    with answering(None) as peer, pytest.raises(PeerUnreachable, match="does it speak TLS at this port"):
        pacs.deliver(report, peer, "FIRSTREAD", credentials=ours, **QUICK)


def test_a_peer_that_speaks_tls_and_is_called_without(
    report: Path, tmp_path: Path, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    with listening(tmp_path, authority.issue("pacs")) as secured:
        peer = Peer(ae_title=secured.ae_title, host=secured.host, port=secured.port)
        with pytest.raises(PeerUnreachable) as said:
            pacs.deliver(report, peer, "FIRSTREAD", **QUICK)
    assert str(said.value).endswith(f"does that port speak TLS? then write {secured}")
    assert "Traceback" not in caplog.text


def test_a_connection_that_is_reset_is_no_traceback(report: Path, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def reset() -> None:
            connection, _ = server.accept()
            connection.recv(1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # RST at the close
            connection.close()

        thread = threading.Thread(target=reset, daemon=True)
        thread.start()
        peer = Peer(ae_title="PACS", host="127.0.0.1", port=server.getsockname()[1])
        with pytest.raises(PeerUnreachable, match=f"{peer}/tls$"):
            pacs.deliver(report, peer, "FIRSTREAD", **QUICK)
        thread.join(10)
    assert "Traceback" not in caplog.text
    assert "ConnectionResetError" not in caplog.text
