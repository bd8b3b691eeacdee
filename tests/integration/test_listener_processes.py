"""Several processes that serve one port: limits are those of all together, and one that dies takes nothing with it."""

import contextlib
import os
import re
import signal
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from dicom_listener import places
from tests.support.certificates import Authority
from tests.support.listener_process import ListenerProcess
from tests.support.raw_store import (
    CT_IMAGE_STORAGE,
    EXPLICIT_VR_LITTLE_ENDIAN,
    AssociationAborted,
    AssociationRejected,
    RawAssociation,
    pdv,
    store_request,
)
from tests.support.spooled import spooled, text

CONTEXTS = [(CT_IMAGE_STORAGE, [EXPLICIT_VR_LITTLE_ENDIAN])]
LOST = (AssociationAborted, ConnectionError)


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[ListenerProcess]:
    with ListenerProcess(tmp_path / "data", listener_processes=2) as running:
        yield running


def wait_for(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def associate(listener: ListenerProcess) -> RawAssociation:
    return RawAssociation(listener.host, listener.port, CONTEXTS, tls=listener.client, timeout=60)


def acceptors(listener: ListenerProcess) -> list[psutil.Process]:
    """Return those that run now."""
    found = []
    for one in psutil.Process(listener.pid).children():
        with contextlib.suppress(psutil.NoSuchProcess):  # or a zombie, which is the same to psutil
            if "dicom_listener.acceptor" in one.cmdline():
                found.append(one)
    return found


def kept(listener: ListenerProcess) -> set[str]:
    return {text(spooled(path)[0][0x0003]) for path in listener.arrivals()}


def acceptor_of(association: RawAssociation, listener: ListenerProcess) -> psutil.Process:
    """Return the process that serves an association."""
    ours = association.socket.getsockname()
    for one in acceptors(listener):
        if any(connection.raddr == ours for connection in one.net_connections("tcp")):
            return one
    raise AssertionError("nobody serves it")


def begin(association: RawAssociation, instance: str) -> None:
    association.send_pdvs(pdv(1, 3, store_request(CT_IMAGE_STORAGE, instance)), pdv(1, 0, b"first half, "))


def one_on_each(listener: ListenerProcess, stack: contextlib.ExitStack) -> dict[int, RawAssociation]:
    """Return an association with each of the processes, by its id."""
    found: dict[int, RawAssociation] = {}
    deadline = time.monotonic() + 60
    while len(found) < 2:
        assert time.monotonic() < deadline, "one process takes all"
        association = associate(listener)
        association.negotiate()
        stack.callback(association.socket.close)
        found.setdefault(acceptor_of(association, listener).pid, association)
    return found


def test_all_of_them_serve_and_number_their_associations_apart(listener: ListenerProcess) -> None:
    with contextlib.ExitStack() as stack:
        for number, association in enumerate(one_on_each(listener, stack).values()):
            assert association.store(CT_IMAGE_STORAGE, f"1.2.{number}", b"data") == 0x0000
    assert kept(listener) == {"1.2.0", "1.2.1"}
    numbers = [line["association"] for line in listener.events("association_accepted")]
    assert len(set(numbers)) == len(numbers)
    assert listener.stop() == 0
    assert listener.rest_of_stdout == "", "one line, no more"


def test_one_that_is_killed_loses_nothing_that_was_answered_and_comes_back(listener: ListenerProcess) -> None:
    answered: list[str] = []
    over = threading.Event()

    def send(sender: int) -> None:
        number = 0
        while not over.is_set():
            with contextlib.suppress(*LOST), associate(listener) as association:
                for _ in range(25):
                    number += 1
                    instance = f"1.2.{sender}.{number}"
                    if association.store(CT_IMAGE_STORAGE, instance, os.urandom(20_000)) == 0x0000:
                        answered.append(instance)

    senders = [threading.Thread(target=send, args=(number,)) for number in range(3)]
    for sender in senders:
        sender.start()
    for killed in range(1, 4):
        enough = len(answered) + 20
        wait_for(lambda enough=enough: len(answered) >= enough)
        acceptors(listener)[0].send_signal(signal.SIGKILL)
        wait_for(lambda killed=killed: len(listener.events("service_ended")) == killed)
        wait_for(lambda: len(acceptors(listener)) == 2)
    over.set()
    for sender in senders:
        sender.join()
    assert set(answered) <= kept(listener)
    assert listener.partials() == []
    assert listener.stop() == 0


def test_the_half_objects_of_one_that_died_go_and_those_of_others_stay(listener: ListenerProcess) -> None:
    with contextlib.ExitStack() as stack:
        (dying, lost), (_, living) = one_on_each(listener, stack).items()
        begin(lost, "1.2.1")
        begin(living, "1.2.2")
        wait_for(lambda: len(listener.partials()) == 2)
        os.kill(dying, signal.SIGKILL)
        wait_for(lambda: len(listener.events("partial_files_swept")) == 1)
        assert len(listener.partials()) == 1
        living.send_pdvs(pdv(1, 2, b"second half"))
        assert living.status() == 0x0000
        wait_for(lambda: len(acceptors(listener)) == 2)
        with associate(listener) as again:
            assert again.store(CT_IMAGE_STORAGE, "1.2.1", b"once more") == 0x0000
    assert kept(listener) == {"1.2.1", "1.2.2"}


def test_what_cannot_be_swept_ends_no_transfer_of_another(listener: ListenerProcess) -> None:
    with contextlib.ExitStack() as stack:
        (dying, lost), (_, living) = one_on_each(listener, stack).items()
        begin(lost, "1.2.1")
        begin(living, "1.2.2")
        wait_for(lambda: len(listener.partials()) == 2)
        for run in range(2):  # what `unlink` refuses, whoever we are
            (listener.spool_dir / "incoming" / f"stuck.acceptor{run}.part").mkdir()
        os.kill(dying, signal.SIGKILL)
        wait_for(lambda: len(listener.events("remains_not_cleared")) == 1)
        living.send_pdvs(pdv(1, 2, b"second half"))
        assert living.status() == 0x0000
        wait_for(lambda: len(acceptors(listener)) == 2)
        with associate(listener) as again:
            assert again.store(CT_IMAGE_STORAGE, "1.2.1", b"once more") == 0x0000
    assert kept(listener) == {"1.2.1", "1.2.2"}
    assert listener.stop() == 0


def test_where_none_of_them_gets_ready_the_listener_says_so_and_ends(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import os\nif 'DICOM_ACCEPTOR' in os.environ: os._exit(3)\n")
    done = ListenerProcess(tmp_path / "data", before=("env", f"PYTHONPATH={tmp_path}"), listener_processes=2).run()
    assert (done.returncode, done.stdout) == (1, "")
    assert "acceptor 1: exit code 3, see standard error" in done.stderr
    assert not (tmp_path / "data" / "run" / "listener.json").exists()


def test_the_limit_holds_for_all_together_and_nobody_is_refused_while_a_place_is_free(tmp_path: Path) -> None:
    with (
        ListenerProcess(tmp_path / "data", listener_processes=2, max_associations=4) as listener,
        contextlib.ExitStack() as stack,
    ):
        for _ in range(3):
            places = [associate(listener) for _ in range(4)]
            for association in places:
                stack.callback(association.socket.close)
                association.negotiate()
            one_more = associate(listener)
            with pytest.raises(AssociationRejected) as rejected:
                one_more.negotiate()
            assert (rejected.value.result, rejected.value.source, rejected.value.reason) == (2, 3, 2)
            one_more.socket.close()
            for association in places:
                association.release()
                association.socket.close()
            accepted = len(listener.events("association_accepted"))
            wait_for(lambda accepted=accepted: len(listener.events("association_released")) == accepted)
        places = [associate(listener) for _ in range(4)]
        for association in places:
            stack.callback(association.socket.close)
            association.negotiate()
        victim = acceptor_of(places[0], listener)
        his = [association for association in places if acceptor_of(association, listener) == victim]
        victim.kill()
        wait_for(lambda: len(listener.events("service_ended")) == 1)
        for _ in his:
            again = associate(listener)
            stack.callback(again.socket.close)
            again.negotiate()


def test_the_slow_of_one_process_give_way_to_newcomers_of_any(tmp_path: Path) -> None:
    with (
        ListenerProcess(tmp_path / "data", listener_processes=2, max_associations=2) as listener,
        contextlib.ExitStack() as stack,
    ):
        slow = [associate(listener) for _ in range(2)]
        for association in slow:
            stack.callback(association.socket.close)
            association.negotiate()
        time.sleep(places.SLOW_SECONDS + 0.5)
        for number in range(2):
            with associate(listener) as newcomer:
                assert newcomer.store(CT_IMAGE_STORAGE, f"1.2.{number}", b"data") == 0x0000
                gone = listener.events("slow_association_gave_way")
                assert len(gone) == 1, "one was enough: the first newcomer's place is free for the second"
        assert {line["association"] for line in gone} <= {
            line["association"] for line in listener.events("association_accepted")
        }


def test_all_of_them_let_transfers_finish_and_stop(listener: ListenerProcess) -> None:
    with contextlib.ExitStack() as stack:
        associations = list(one_on_each(listener, stack).values())
        for number, association in enumerate(associations):
            begin(association, f"1.2.{number}")
        wait_for(lambda: len(listener.partials()) == 2)
        children = acceptors(listener)
        os.kill(listener.pid, signal.SIGTERM)
        wait_for(lambda: not is_open(listener))
        for association in associations:
            association.send_pdvs(pdv(1, 2, b"second half"))
            assert association.status() == 0x0000
            association.release()
            association.socket.close()
        assert listener.wait() == 0
    assert kept(listener) == {"1.2.0", "1.2.1"}
    assert not any(child.is_running() for child in children)
    assert listener.events("service_killed") == []


def is_open(listener: ListenerProcess) -> bool:
    try:
        socket.create_connection((listener.host, listener.port)).close()
    except ConnectionError:
        return False
    return True


def test_they_die_with_a_listener_that_is_killed(listener: ListenerProcess) -> None:
    children = acceptors(listener)
    assert len(children) == 2
    listener.stop(signal.SIGKILL)
    wait_for(lambda: not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in children))


def test_certificates_are_read_again_by_all(tmp_path: Path) -> None:
    credentials = Authority(tmp_path / "ca").issue("both")
    with ListenerProcess(tmp_path / "data", credentials=credentials, listener_processes=2) as listener:
        before = len(listener.events("certificate_in_force"))
        os.kill(listener.pid, signal.SIGHUP)
        wait_for(lambda: len(listener.events("certificate_in_force")) == before + 2)
        with associate(listener) as association:
            assert association.store(CT_IMAGE_STORAGE, "1.2.3", b"data") == 0x0000
        assert len(acceptors(listener)) == 2
        assert listener.stop() == 0


def test_metrics_are_those_of_all_together(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with (
        ListenerProcess(tmp_path / "data", listener_processes=2, metrics_port=port) as listener,
        contextlib.ExitStack() as stack,
    ):
        for number, association in enumerate(one_on_each(listener, stack).values()):
            association.store(CT_IMAGE_STORAGE, f"1.2.{number}", b"data")
        acceptors(listener)[0].kill()
        wait_for(lambda: len(listener.events("service_ended")) == 1)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as response:
            shown = response.read().decode()
    assert "firstread_store_seconds_count 2.0" in shown, "also those of one that has died"
    free_bytes = re.findall(r"^firstread_spool_free_bytes\S* (\S+)", shown, re.MULTILINE)
    assert len(free_bytes) == 1
    assert float(free_bytes[0]) > 0


def test_a_setting_that_is_wrong_is_said_once_and_nothing_is_started(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = ListenerProcess(tmp_path / "data", listener_processes=2, dicom_port=port).run()
    assert (done.returncode, done.stdout) == (1, "")
    assert "FIRSTREAD_DICOM_PORT" in done.stderr
    assert "service_started" not in done.stderr
