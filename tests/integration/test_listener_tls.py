"""DICOM over TLS: who gets in and who does not, with senders that no one here wrote, and certificates that change."""

import contextlib
import os
import re
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support import certificates
from tests.support.certificates import Authority
from tests.support.listener_process import ListenerProcess
from tests.support.objects import film, save
from tests.support.raw_store import (
    CT_IMAGE_STORAGE,
    EXPLICIT_VR_LITTLE_ENDIAN,
    AssociationRejected,
    RawAssociation,
    associate_request,
    is_open,
    pdv,
    store_request,
)
from tests.support.spooled import data_set
from tests.support.stack import free_port
from worker.config import Credentials

CONTEXTS = [(CT_IMAGE_STORAGE, [EXPLICIT_VR_LITTLE_ENDIAN])]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def server(authority: Authority) -> Credentials:
    return authority.issue("firstread")


@pytest.fixture(scope="module")
def sender(authority: Authority) -> Credentials:
    return authority.issue("ct1")


@pytest.fixture(scope="module")
def listener(tmp_path_factory: pytest.TempPathFactory, server: Credentials) -> Iterator[ListenerProcess]:
    """One listener for all tests that leave it as it was."""
    with ListenerProcess(
        tmp_path_factory.mktemp("tls") / "data", credentials=server, metrics_port=free_port()
    ) as running:
        yield running
        assert running.stop() == 0


def associate(listener: ListenerProcess, **more: object) -> RawAssociation:
    return RawAssociation(listener.host, listener.port, **{"contexts": CONTEXTS, "tls": listener.client, **more})


def works(listener: ListenerProcess, **more: object) -> bool:
    with associate(listener, **more) as association:
        return association.store(CT_IMAGE_STORAGE, "1.2.3", b"data") == 0x0000


def storescu(listener: ListenerProcess, file: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = ["storescu", "-v", "-aec", "FIRSTREAD", *options, listener.host, str(listener.port), str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def refused(listener: ListenerProcess, reason: str) -> float:
    url = f"http://127.0.0.1:{listener.metrics_port}/metrics"
    with urllib.request.urlopen(url, timeout=10) as response:
        shown = response.read().decode()
    found = re.search(rf'^firstread_associations_refused_total{{reason="{reason}"}} (\S+)', shown, re.MULTILINE)
    return float(found[1]) if found else 0.0


def failure(listener: ListenerProcess, before: int) -> dict[str, object]:
    """The next line on a handshake that failed: it may come after the peer has noticed."""
    deadline = time.monotonic() + 20
    while len(found := listener.events("tls_failed")) <= before:
        assert time.monotonic() < deadline, listener.log.read_text()
        time.sleep(0.02)
    return found[before]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return save(film(), tmp_path / "object.dcm")


@pytest.mark.peer("storescu")
def test_dcmtk_stores_with_the_right_certificate(listener: ListenerProcess, sender: Credentials, file: Path) -> None:
    before = len(listener.arrivals())
    done = storescu(listener, file, *certificates.dcmtk(sender))
    assert done.returncode == 0, done.stderr
    assert len(listener.arrivals()) == before + 1
    (accepted,) = [line for line in listener.events("association_accepted") if line["calling_ae"] == "STORESCU"]
    assert accepted["tls"] in {"TLSv1.2", "TLSv1.3"}
    assert accepted["certificate"].startswith("CN=ct1")


@pytest.mark.peer("storescu")
@pytest.mark.parametrize(
    ("which", "says", "reason"),
    [
        ("of another CA", "certificate is not accepted", "certificate"),
        ("expired", "expired", "certificate"),
        ("none", "shows no certificate", "certificate"),
        ("no TLS", "speaks no TLS", "tls"),
    ],
)
def test_dcmtk_is_refused_with_any_other(
    listener: ListenerProcess, authority: Authority, tmp_path: Path, file: Path, which: str, says: str, reason: str
) -> None:
    before, counted = listener.arrivals(), refused(listener, reason)
    told_before = len(listener.events("tls_failed"))
    match which:
        case "of another CA":
            stranger = Authority(tmp_path / "other").issue("stranger")
            shown = Credentials(certificate=stranger.certificate, key=stranger.key, ca=authority.ca)
            options = certificates.dcmtk(shown)
        case "expired":
            options = certificates.dcmtk(authority.expired("old"))
        case "none":
            options = ["+tla", "+cf", str(authority.ca)]
        case _:
            options = []
    assert storescu(listener, file, *options).returncode != 0
    assert listener.arrivals() == before
    told = failure(listener, told_before)
    assert says in str(told["why"])
    assert told["fix"]
    assert refused(listener, reason) == counted + 1


@pytest.mark.peer("openssl")
@pytest.mark.parametrize(
    "offer", [["-tls1_1"], ["-tls1_2", "-cipher", "AES128-SHA:@SECLEVEL=0"]], ids=["TLS 1.1", "no forward secrecy"]
)
def test_old_versions_and_weak_suites_are_refused(
    listener: ListenerProcess, sender: Credentials, offer: list[str]
) -> None:
    command = ["openssl", "s_client", "-connect", f"{listener.host}:{listener.port}", *offer]
    if offer == ["-tls1_1"]:
        command += ["-cipher", "ALL:@SECLEVEL=0"]
    files = ["-cert", str(sender.certificate), "-key", str(sender.key)]
    before = len(listener.events("tls_failed"))
    done = subprocess.run([*command, *files], input="", capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode != 0
    assert "no version or suite" in str(failure(listener, before)["why"])


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("room", [1, 1023, 16378, 131066, 200_000])
def test_both_versions_keep_what_was_sent(
    listener: ListenerProcess, sender: Credentials, version: ssl.TLSVersion, room: int
) -> None:
    context = certificates.client(sender)
    context.minimum_version = context.maximum_version = version
    data = os.urandom(min(3 * room + 1, 400_001))
    with associate(listener, tls=context) as association:
        assert isinstance(association.socket, ssl.SSLSocket)
        assert association.socket.version() == {771: "TLSv1.2", 772: "TLSv1.3"}[version]
        assert association.store(CT_IMAGE_STORAGE, "1.2.3", data, room=room) == 0x0000
    assert data_set(listener.arrivals()[-1]) == data


def test_several_pdus_in_one_record_are_all_read(listener: ListenerProcess) -> None:
    before = len(listener.arrivals())
    with associate(listener) as association:
        message = [pdv(1, 3, store_request(CT_IMAGE_STORAGE, "1.2.3")), pdv(1, 2, b"data")]
        pdus = b"".join(struct.pack(">BBL", 4, 0, len(value)) + value for value in message * 3)
        association.socket.sendall(pdus)
        assert [association.status() for _ in range(3)] == [0, 0, 0]
    assert len(listener.arrivals()) == before + 3


def test_silent_and_slow_peers_hold_nobody_up(listener: ListenerProcess) -> None:
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(socket.create_connection((listener.host, listener.port))) for _ in range(50)]
        for connection in silent[:10]:
            connection.sendall(b"\x16\x03\x01")  # a handshake that goes no further
        assert works(listener)
        assert all(map(is_open, silent)), "served only once a handshake had been given up"


def test_peers_that_fail_leave_no_descriptor_and_no_thread(listener: ListenerProcess) -> None:
    assert works(listener)
    process = psutil.Process(listener.pid)
    for number in range(60):
        with socket.create_connection((listener.host, listener.port)) as connection:
            if number % 2:
                connection.sendall(associate_request(CONTEXTS))
                with contextlib.suppress(ConnectionError):
                    connection.recv(100)
    deadline = time.monotonic() + 20
    while process.num_fds() > 30 or process.num_threads() > 10:
        assert time.monotonic() < deadline, (process.num_fds(), process.num_threads())
        time.sleep(0.05)


def test_the_end_is_told_in_tls_too(listener: ListenerProcess) -> None:
    association = associate(listener)
    association.negotiate()
    association.release()
    assert isinstance(association.socket, ssl.SSLSocket)
    association.socket.suppress_ragged_eofs = False  # an end without close_notify would raise
    association.socket.unwrap().close()


def test_certificates_are_exchanged_while_an_association_runs(tmp_path: Path) -> None:
    old, new = Authority(tmp_path / "old"), Authority(tmp_path / "new")
    ours = old.issue("firstread")
    assert ours.certificate
    assert ours.key
    with ListenerProcess(tmp_path / "data", credentials=ours) as listener:
        association = associate(listener)
        association.negotiate()
        association.send_pdvs(pdv(1, 3, store_request(CT_IMAGE_STORAGE, "1.2.3")), pdv(1, 0, b"before, "))
        renewed = new.issue("renewed")
        for name in ("certificate", "key", "ca"):
            shutil.copy(getattr(renewed, name), getattr(ours, name))
        reload(listener, "certificate_in_force", 2)
        association.send_pdvs(pdv(1, 2, b"after"))
        assert association.status() == 0x0000
        association.release()
        association.socket.close()
        assert data_set(listener.arrivals()[0]) == b"before, after"
        assert works(listener, tls=certificates.client(renewed))
        with pytest.raises(ssl.SSLCertVerificationError):
            works(listener)

        ours.certificate.write_bytes(old.expired("late").certificate.read_bytes())
        reload(listener, "certificates_not_reloaded", 1)
        assert "does not belong to the key" in listener.events("certificates_not_reloaded")[0]["why"]
        assert works(listener, tls=certificates.client(renewed)), "the old ones stay in force"
        assert listener.stop() == 0


def reload(listener: ListenerProcess, event: str, count: int) -> None:
    os.kill(listener.pid, signal.SIGHUP)
    deadline = time.monotonic() + 20
    while len(listener.events(event)) < count:
        assert time.monotonic() < deadline, listener.log.read_text()
        time.sleep(0.02)


def test_a_plain_port_has_to_be_asked_for(tmp_path: Path, server: Credentials) -> None:
    with ListenerProcess(tmp_path / "data", credentials=server, dicom_plain_port=0) as listener:
        assert works(listener)
        with RawAssociation(listener.host, listener.plain_port, CONTEXTS) as plain:
            assert plain.store(CT_IMAGE_STORAGE, "1.2.4", b"data") == 0x0000
        assert listener.events("any_calling_ae_is_served")
        assert listener.stop() == 0


def test_senders_without_a_certificate_may_be_let_in(tmp_path: Path, server: Credentials) -> None:
    with ListenerProcess(tmp_path / "data", credentials=server, tls_verify_peer=False) as listener:
        assert works(listener, tls=certificates.client(server, show=False))
        assert listener.events("callers_show_no_certificate")
        assert listener.stop() == 0


def test_what_is_wrong_with_a_certificate_is_said_at_the_start(tmp_path: Path, authority: Authority) -> None:
    expired = authority.expired("ended")
    done = ListenerProcess(tmp_path / "data", **certificates.settings(expired)).run()
    assert done.returncode == 2
    assert f"FIRSTREAD_TLS_CERTIFICATE={expired.certificate}: expired on" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_certificate_with_the_wrong_subject_is_rejected(
    tmp_path: Path, authority: Authority, server: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = tmp_path / "firstread.toml"
    rules.write_text('[[caller]]\nae_title = "CT1"\naddresses = "127.0.0.0/8"\ncertificate = "CN=ct1*"\n')
    monkeypatch.setenv("FIRSTREAD_CONFIG", str(rules))
    with ListenerProcess(tmp_path / "data", credentials=server) as listener:
        assert works(listener, calling="CT1", tls=certificates.client(authority.issue("ct1")))
        with pytest.raises(AssociationRejected) as rejected:
            works(listener, calling="CT1", tls=certificates.client(authority.issue("mr2")))
        assert listener.stop() == 0
    assert (rejected.value.result, rejected.value.source, rejected.value.reason) == (1, 1, 3)
    (told,) = listener.events("association_rejected")
    assert told["objection"] == "certificate"
    assert told["certificate"].startswith("CN=mr2")
    assert "[[caller]]" in told["fix"]
