"""Every 0x0000 is kept: killed, drained, out of space, read-only; and how the service starts and stops."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.certificates import Authority
from tests.support.disks import mount, small_disk_at
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
from worker.config import Credentials

CONTEXTS = [(CT_IMAGE_STORAGE, [EXPLICIT_VR_LITTLE_ENDIAN])]
MEBIBYTE = 1 << 20


def associate(listener: ListenerProcess) -> RawAssociation:
    return RawAssociation(listener.host, listener.port, CONTEXTS, tls=listener.client)


@pytest.fixture(params=["plain", "tls"])
def credentials(request: pytest.FixtureRequest, tmp_path: Path) -> Credentials | None:
    """The same over TLS."""
    return Authority(tmp_path / "ca").issue("both") if request.param == "tls" else None


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def kept_instances(listener: ListenerProcess) -> list[str]:
    return [text(spooled(path)[0][0x0003]) for path in listener.arrivals()]


def half_sent(listener: ListenerProcess, instance: str) -> RawAssociation:
    association = associate(listener)
    association.negotiate()
    association.send_pdvs(pdv(1, 3, store_request(CT_IMAGE_STORAGE, instance)), pdv(1, 0, b"first half, "))
    wait_for(lambda: len(listener.partials()) == 1)
    return association


def test_sigterm_lets_a_transfer_finish_and_refuses_what_is_new(
    tmp_path: Path, credentials: Credentials | None
) -> None:
    with ListenerProcess(tmp_path / "data", credentials=credentials) as listener:
        association = half_sent(listener, "1.2.3")
        waiting = socket.create_connection((listener.host, listener.port))
        wait_for(lambda: psutil.Process(listener.pid).num_threads() >= (6 if credentials is None else 5))
        # main, accept, and two a connection; one where a handshake is waited for
        os.kill(listener.pid, signal.SIGTERM)
        wait_for(lambda: not is_open(listener))
        assert not (listener.data_dir / "run" / "listener.json").exists()
        late = associate_on(waiting)
        with pytest.raises((AssociationRejected, AssociationAborted, ConnectionError)):
            late.negotiate()
        waiting.close()
        association.send_pdvs(pdv(1, 2, b"second half"))
        assert association.status() == 0x0000
        assert association.store(CT_IMAGE_STORAGE, "1.2.4", b"the next of its series") == 0x0000
        association.release()
        association.socket.close()
        assert listener.wait() == 0
        assert kept_instances(listener) == ["1.2.3", "1.2.4"]
        assert listener.rest_of_stdout == ""


def is_open(listener: ListenerProcess) -> bool:
    try:
        socket.create_connection((listener.host, listener.port)).close()
    except ConnectionRefusedError:
        return False
    return True


def associate_on(connection: socket.socket) -> RawAssociation:
    association = object.__new__(RawAssociation)
    association.contexts, association.calling, association.called, association.more = CONTEXTS, "TEST", "FIRSTREAD", b""
    association.results, association.socket = {}, connection
    return association


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_a_quiet_association_does_not_hold_the_stop(tmp_path: Path, sig: int) -> None:
    with ListenerProcess(tmp_path / "data") as listener:
        association = associate(listener)
        association.negotiate()
        started = time.monotonic()
        assert listener.stop(sig) == 0
        assert time.monotonic() - started < 10
        with pytest.raises(AssociationAborted):
            association.status()
        association.socket.close()


def test_kill_at_any_time_loses_nothing_that_was_answered(tmp_path: Path, credentials: Credentials | None) -> None:
    listener = ListenerProcess(tmp_path / "data", credentials=credentials)
    answered: list[str] = []

    def send(sender: int) -> None:
        lost = (AssociationAborted, ConnectionError, ssl.SSLError)
        with contextlib.suppress(*lost), associate(listener) as association:
            for number in range(100_000):
                instance = f"1.2.{sender}.{number}.{len(answered)}"
                if association.store(CT_IMAGE_STORAGE, instance, os.urandom(20_000)) == 0x0000:
                    answered.append(instance)

    for round_number in range(4):
        with listener:
            assert listener.partials() == []
            senders = [threading.Thread(target=send, args=(round_number * 10 + n,)) for n in range(3)]
            for sender in senders:
                sender.start()
            enough = len(answered) + 10 + 13 * round_number
            wait_for(lambda enough=enough: len(answered) >= enough)
            listener.stop(signal.SIGKILL)
            for sender in senders:
                sender.join()
    with listener:
        kept = kept_instances(listener)
        assert listener.partials() == []
    assert set(answered) <= set(kept)
    assert len(kept) <= len(answered) + 4 * 3, "at most the one in flight of each sender came on top"


@pytest.mark.peer("strace")
def test_the_system_calls_are_in_the_order_that_durability_needs(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    tracer = ["strace", "-f", "-y", "-qq", "-e", "trace=openat,write,fsync,rename,renameat,renameat2,sendto"]
    if subprocess.run([*tracer, "-o", "/dev/null", "true"], capture_output=True, check=False).returncode:
        pytest.skip("strace may not trace here")
    listener = ListenerProcess(tmp_path / "data", before=[*tracer, "-o", str(trace)])
    with listener:
        with associate(listener) as association:
            assert association.store(CT_IMAGE_STORAGE, "1.2.3", bytes(50_000)) == 0x0000
        traced = psutil.Process(listener.pid).children()[0]
        traced.send_signal(signal.SIGTERM)
        assert listener.wait() == 0
    steps = []
    started = False
    for line in trace.read_text().splitlines():
        started = started or (".part" in line and "O_EXCL" in line)
        if not started:
            continue
        if re.search(r"fsync\(\d+<[^>]*\.part>", line):
            steps.append("fsync file")
        elif re.search(r"fsync\(\d+<[^>]*/incoming>", line):
            steps.append("fsync directory")
        elif "rename" in line and ".dcm" in line:
            steps.append("rename")
        elif "sendto(" in line and r'"\4\0' in line:
            steps.append("answer")
            break
    assert steps == ["fsync file", "rename", "fsync directory", "answer"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB of its own."""
    with small_disk_at(tmp_path / "disk") as disk:
        yield disk


def test_a_full_disk_is_a700_and_heals(small_disk: Path) -> None:
    with ListenerProcess(small_disk / "data") as listener, associate(listener) as association:
        assert association.store(CT_IMAGE_STORAGE, "1.2.3", bytes(20 * MEBIBYTE), room=100_000) == 0xA700
        assert list((listener.spool_dir / "incoming").iterdir()) == []
        assert association.store(CT_IMAGE_STORAGE, "1.2.4", bytes(MEBIBYTE)) == 0x0000
        filler = small_disk / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:  # the log is on this disk too
            while file.write(bytes(65536)):
                pass
        assert association.store(CT_IMAGE_STORAGE, "1.2.5", bytes(1000)) == 0xA700
        filler.unlink()
        assert association.store(CT_IMAGE_STORAGE, "1.2.5", bytes(1000)) == 0x0000
        assert listener.partials() == []
        assert kept_instances(listener) == ["1.2.4", "1.2.5"]
        assert "make room" in listener.events("object_refused")[0]["fix"]


def test_a_read_only_disk_is_a700_and_heals(tmp_path: Path) -> None:
    with ListenerProcess(tmp_path / "data") as listener, associate(listener) as association:
        incoming = str(listener.spool_dir / "incoming")
        mount("-o", "ro", incoming)
        try:
            assert association.store(CT_IMAGE_STORAGE, "1.2.3", bytes(1000)) == 0xA700
        finally:
            subprocess.run(["umount", incoming], check=True)
        assert association.store(CT_IMAGE_STORAGE, "1.2.3", bytes(1000)) == 0x0000
        assert kept_instances(listener) == ["1.2.3"]
        assert "read-only" in listener.events("object_refused")[0]["fix"]


def test_below_the_floor_is_a700(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    with ListenerProcess(tmp_path / "data", min_free_bytes=2 * free) as listener, associate(listener) as association:
        assert association.store(CT_IMAGE_STORAGE, "1.2.3", bytes(1000)) == 0xA700
    assert list((listener.spool_dir / "incoming").iterdir()) == []
    assert "FIRSTREAD_MIN_FREE_BYTES" in listener.events("object_refused")[0]["fix"]


def test_a_spool_that_went_away_is_a700_and_heals(tmp_path: Path) -> None:
    with ListenerProcess(tmp_path / "data") as listener, associate(listener) as association:
        listener.spool_dir.rename(tmp_path / "elsewhere")
        assert association.store(CT_IMAGE_STORAGE, "1.2.3", bytes(1000)) == 0xA700
        (tmp_path / "elsewhere").rename(listener.spool_dir)
        assert association.store(CT_IMAGE_STORAGE, "1.2.3", bytes(1000)) == 0x0000


def test_a_log_that_nobody_takes_stops_nothing(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    listener = ListenerProcess(tmp_path / "data")
    listener.log = Path(f"/proc/self/fd/{write_end}")
    listener.start()
    os.close(write_end)
    os.close(read_end)
    try:
        with associate(listener) as association:
            for number in range(3):
                assert association.store(CT_IMAGE_STORAGE, f"1.2.{number}", b"data") == 0x0000
    finally:
        assert listener.stop() == 0


def test_what_a_crash_left_is_swept_before_anything_is_accepted(tmp_path: Path) -> None:
    listener = ListenerProcess(tmp_path / "data")
    with listener:
        sender = half_sent(listener, "1.2.3")
        listener.stop(signal.SIGKILL)
        sender.socket.close()
    assert len(listener.partials()) == 1
    with listener:
        assert listener.partials() == []
        assert listener.events("partial_files_swept")[0]["count"] == 1


def test_the_address_is_told_to_people_and_to_programs(tmp_path: Path) -> None:
    with ListenerProcess(tmp_path / "data", ae_title="TRIAGE") as listener:
        path = listener.data_dir / "run" / "listener.json"
        assert json.loads(path.read_text()) == {
            "pid": listener.pid,
            "ae_title": "TRIAGE",
            "host": "127.0.0.1",
            "port": listener.port,
        }
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert listener.stop() == 0
        assert not path.exists()
        assert listener.rest_of_stdout == "", "one line, no more"


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = ListenerProcess(tmp_path / "data", dicom_port=port).run()
    assert done.returncode == 1
    assert done.stdout == ""
    assert str(port) in done.stderr
    assert "FIRSTREAD_DICOM_PORT" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("setting", "value", "code", "says"),
    [
        ("dicom_port", "many", 2, "FIRSTREAD_DICOM_PORT"),
        ("calling_aes", "A_TITLE_THAT_IS_TOO_LONG", 2, "FIRSTREAD_CALLING_AES"),
        ("dicom_host", "192.0.2.1", 1, "FIRSTREAD_DICOM_HOST"),
    ],
)
def test_what_cannot_start_says_why(tmp_path: Path, setting: str, value: str, code: int, says: str) -> None:
    done = ListenerProcess(tmp_path / "data", **{setting: value}).run()
    assert done.returncode == code
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_a_data_directory_that_cannot_be_made_says_so() -> None:
    done = ListenerProcess(Path("/proc/nowhere")).run()
    assert done.returncode == 1
    assert "FIRSTREAD_DATA_DIR=/proc/nowhere" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_second_listener_on_the_same_data_is_refused(tmp_path: Path) -> None:
    with ListenerProcess(tmp_path / "data"):
        done = ListenerProcess(tmp_path / "data").run()
    assert done.returncode == 1
    assert "another listener" in done.stderr


def test_metrics_are_served(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with ListenerProcess(tmp_path / "data", metrics_port=port) as listener:
        with associate(listener) as association:
            association.store(CT_IMAGE_STORAGE, "1.2.3", b"data")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as response:
            shown = response.read().decode()
    assert "firstread_store_seconds_count 1.0" in shown
    assert float(re.search(r"^firstread_spool_free_bytes (\S+)", shown, re.MULTILINE)[1]) > 0


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the umask of a process cannot be read")
def test_whatever_it_makes_is_nobody_elses(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        with ListenerProcess(tmp_path / "data") as listener:
            assert "\nUmask:\t0077\n" in Path(f"/proc/{listener.pid}/status").read_text()
    finally:
        os.umask(before)


def test_intake_runs_beside_the_listener_and_stops_with_it(tmp_path: Path) -> None:
    with ListenerProcess(tmp_path / "data", intake=True) as listener:
        wait_for(lambda: bool(psutil.Process(listener.pid).children()))
        (child,) = psutil.Process(listener.pid).children()
        wait_for(lambda: child.cmdline()[-3:] == ["-m", "worker.cli", "intake"])
        assert listener.stop() == 0
        assert not child.is_running()


def test_intake_dies_with_a_listener_that_is_killed(tmp_path: Path) -> None:
    with ListenerProcess(tmp_path / "data", intake=True) as listener:
        wait_for(lambda: bool(psutil.Process(listener.pid).children()))
        (child,) = psutil.Process(listener.pid).children()
        wait_for(lambda: child.cmdline()[-3:] == ["-m", "worker.cli", "intake"])
        listener.stop(signal.SIGKILL)
        wait_for(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


def test_an_intake_that_cannot_start_keeps_nothing_from_being_accepted(tmp_path: Path) -> None:
    nowhere = "sqlite:////proc/nowhere/firstread.db"
    with ListenerProcess(tmp_path / "data", intake=True, database_url=nowhere) as listener:
        with associate(listener) as association:
            assert association.store(CT_IMAGE_STORAGE, "1.2.3", b"data") == 0x0000
        assert kept_instances(listener) == ["1.2.3"]
        assert listener.stop() == 0


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys, dicom_listener.__main__\n"
        "heavy = {'celery', 'kombu', 'keras', 'tensorflow', 'sqlmodel', 'sqlalchemy', 'redis', 'models'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
