"""The chain at a real syslog receiver: in order, nothing lost while it was away, over UDP, TCP and TLS."""

import socket
import ssl
from pathlib import Path

import pytest
import trustme
from sqlmodel import select

from tests.support.fakes import MODEL, FakeClassifier, FakeReader, make_pipeline
from tests.support.objects import film, spool_object
from tests.support.syslog_receiver import SyslogReceiver
from tests.support.tampering import events
from worker import schema
from worker.audit import forwarding, syslog
from worker.audit.forwarding import AGAIN, BATCH, Forwarder
from worker.audit.syslog import Receiver
from worker.database import AuditCursor, Database
from worker.errors import PeerUnreachable


@pytest.fixture
def database(database_url: str):
    made = Database(database_url)
    schema.migrate(made)
    yield made
    made.dispose()


@pytest.fixture
def sqlite(tmp_path: Path):
    made = Database(f"sqlite:///{tmp_path / 'firstread.db'}")
    schema.migrate(made)
    yield made
    made.dispose()


@pytest.fixture
def forwarder():
    made: list[Forwarder] = []

    def make(database: Database, receiver: SyslogReceiver | str, **files: Path) -> Forwarder:
        url = receiver if isinstance(receiver, str) else receiver.url
        made.append(Forwarder(database, Receiver.parse(url, **files), source="FIRSTREAD"))
        return made[-1]

    yield make
    for sender in made:
        sender.close()


def drain(sender: Forwarder) -> None:
    while sender.step():
        pass


def cursor(database: Database) -> int:
    with database.read() as session:
        row = session.exec(select(AuditCursor)).one()
        return int(row.last_id)


@pytest.mark.parametrize("scheme", ["udp", "tcp"])
def test_the_whole_chain_in_order(database: Database, scheme: str, forwarder) -> None:
    count = BATCH + 10
    events(database, count)
    with SyslogReceiver(scheme) as receiver:
        drain(forwarder(database, receiver))
        receiver.wait(count)
        assert receiver.numbers == list(range(1, count + 1))
        first, last = receiver.messages[0], receiver.messages[-1]
        assert (first.priority, first.application, first.msgid) == (85, "firstread", "DICOM+RFC3881")
        assert last.details["previous_sha256"] == receiver.messages[-2].details["sha256"]
    assert cursor(database) == count


def test_a_receiver_that_is_away_loses_nothing(database: Database, forwarder) -> None:
    events(database, 3)
    with SyslogReceiver("tcp") as receiver:
        sender = forwarder(database, receiver)
        drain(sender)
        receiver.wait(3)
        port = receiver.port
    events(database, 5)
    with pytest.raises(PeerUnreachable, match=f"tcp://127.0.0.1:{port} cannot be reached"):
        sender.step()
    assert cursor(database) == 3
    with SyslogReceiver("tcp", port) as receiver:
        drain(sender)
        receiver.wait(8)
        assert receiver.numbers == list(range(1, 9))  # those before once more: what it kept, nobody knows


def test_a_new_connection_begins_a_little_earlier_and_not_at_the_beginning(sqlite: Database, forwarder) -> None:
    events(sqlite, AGAIN + 20)
    with SyslogReceiver("tcp") as receiver:
        sender = forwarder(sqlite, receiver)
        drain(sender)
        sender.close()
        events(sqlite, 1)
        drain(sender)
        receiver.wait(AGAIN + 21)
        assert receiver.numbers[AGAIN + 20 :] == list(range(21, AGAIN + 22))


def test_a_datagram_that_nobody_takes_moves_no_cursor(sqlite: Database, forwarder) -> None:
    events(sqlite, 2)
    with SyslogReceiver("udp") as receiver:
        url, port = receiver.url, receiver.port
    sender = forwarder(sqlite, url)
    with pytest.raises(PeerUnreachable):
        sender.step()
    with SyslogReceiver("udp", port) as receiver:
        drain(sender)
        receiver.wait(2)
        assert receiver.numbers == [1, 2]


def test_a_receiver_that_takes_nothing_moves_no_cursor(
    sqlite: Database, forwarder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(syslog, "TIMEOUT_SECONDS", 0.5)
    events(sqlite, 8)  # they fit into our buffer, and not into the receiver's
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)  # the least that there is
        server.bind(("127.0.0.1", 0))
        server.listen()
        with pytest.raises(PeerUnreachable, match="it takes nothing"):
            forwarder(sqlite, f"tcp://127.0.0.1:{server.getsockname()[1]}").step()
    assert cursor(sqlite) == 0


def test_one_process_sends_at_a_time(database: Database, forwarder) -> None:
    events(database, 1)
    with SyslogReceiver("tcp") as receiver:
        first, second = forwarder(database, receiver), forwarder(database, receiver)
        second._me = "another process"
        drain(first)
        events(database, 1)
        assert second.step() == 0
        first._release()
        first.close()
        drain(second)
        receiver.wait(2)


def test_over_tls_both_known_to_each_other(sqlite: Database, tmp_path: Path, forwarder) -> None:
    ours, strangers = trustme.CA(), trustme.CA()
    server, client = ours.issue_cert("127.0.0.1"), ours.issue_cert("firstread.example")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.configure_cert(context)
    ours.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    files = {name: tmp_path / f"{name}.pem" for name in ("ca", "certificate", "key", "other")}
    ours.cert_pem.write_to_path(files["ca"])
    strangers.cert_pem.write_to_path(files["other"])
    client.cert_chain_pems[0].write_to_path(files["certificate"])
    client.private_key_pem.write_to_path(files["key"])
    events(sqlite, 3)
    with SyslogReceiver("tls", context=context) as receiver:
        with pytest.raises(PeerUnreachable, match="certificate verify failed"):
            forwarder(sqlite, receiver, ca=files["other"]).step()
        known = {name: files[name] for name in ("ca", "certificate", "key")}
        drain(forwarder(sqlite, receiver, **known))
        receiver.wait(3)
        assert receiver.numbers == [1, 2, 3]
        events(sqlite, 1)
        with pytest.raises(PeerUnreachable):  # a receiver that asks for a certificate gets none
            drain(forwarder(sqlite, receiver, ca=files["ca"]))


def test_a_scan_is_told_with_its_study_and_without_its_patient(sqlite: Database, tmp_path: Path, forwarder) -> None:
    pipeline = make_pipeline(str(sqlite.url), tmp_path)
    ds = film(PatientID="SECRET-ID", PatientName="Secret^Name")
    spool_object(pipeline.spool, ds)
    pipeline.register_arrivals()
    pipeline.infer(MODEL, FakeClassifier(), FakeReader())  # type: ignore[arg-type]
    pipeline.report()
    pipeline.database.dispose()
    with SyslogReceiver("tcp") as receiver:
        sender = forwarder(sqlite, receiver)
        sender.start()
        receiver.wait(3)
        sender.stop(10)
        for message in receiver.messages:
            study = message.xml.find("ParticipantObjectIdentification")
            assert study is not None
            assert study.attrib["ParticipantObjectID"] == ds.StudyInstanceUID
            everything = repr([(one.attrib, one.text) for one in message.xml.iter()]) + repr(message.details)
            assert "SECRET" not in everything.upper()
        registered = receiver.messages[0].xml
        (instance,) = registered.iter("Instance")
        assert instance.attrib["UID"] == ds.SOPInstanceUID


def test_the_thread_outlives_what_nobody_thought_of(sqlite: Database, forwarder, monkeypatch) -> None:
    monkeypatch.setattr(forwarding, "LONGEST_PAUSE_SECONDS", 0.01)
    events(sqlite, 3)
    with SyslogReceiver("tcp") as receiver:
        sender = forwarder(sqlite, receiver)
        step, failures = sender.step, iter([ValueError("no such thing"), OSError("nor this")])

        def fails_at_first() -> int:
            for failure in failures:
                raise failure
            return int(step())

        monkeypatch.setattr(sender, "step", fails_at_first)
        sender.start()
        receiver.wait(3)
        sender.stop(10)
    assert receiver.numbers == [1, 2, 3]
