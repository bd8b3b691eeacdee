"""The guarded child: what it may cost, how it ends, and that an object never gets another's pixels or blame."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import structlog

from tests.support.images import image
from tests.support.objects import save
from tests.support.stand_in_child import write_stand_in
from worker.errors import ChildLost, PixelError
from worker.guarded.confinement import WHY
from worker.inference.pixels import PixelReader

PATIENT = 20.0
"""Seconds a test waits for what happens at once; it fails after them."""


@pytest.fixture
def reader() -> Iterator[PixelReader]:
    with PixelReader(seconds=PATIENT, memory_bytes=1 << 30) as reader:
        yield reader


@pytest.fixture
def dark(tmp_path: Path) -> Path:
    return save(image(np.full((8, 8), 10, np.uint8)), tmp_path / "dark.dcm")


@pytest.fixture
def bright(tmp_path: Path) -> Path:
    return save(image(np.full((8, 8), 200, np.uint8)), tmp_path / "bright.dcm")


def decoders(pid: int | None = None) -> list[psutil.Process]:
    return [one for one in psutil.Process(pid).children() if "worker.inference.decoder" in one.cmdline()]


def child_of(pid: int | None = None) -> psutil.Process:
    (child,) = decoders(pid)
    return child


def grey(reader: PixelReader, path: Path) -> float:
    shown = reader.read(path, "first").image
    assert shown.shape == (8, 8)
    return float(shown.mean())


def test_one_child_serves_many_objects(reader: PixelReader, dark: Path, bright: Path) -> None:
    assert grey(reader, dark) == 10
    child = child_of()
    assert [grey(reader, path) for path in (bright, dark, bright)] == [200, 10, 200]
    assert child_of() == child
    reader.close()
    assert not child.is_running()
    assert grey(reader, bright) == 200  # closed is not the end


def test_the_child_is_confined(reader: PixelReader, dark: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader.close()
    monkeypatch.setenv("FIRSTREAD_API_TOKEN", "secret")
    grey(reader, dark)
    child = child_of()
    assert child.rlimit(psutil.RLIMIT_AS) == (1 << 30, 1 << 30)
    assert child.rlimit(psutil.RLIMIT_CORE) == (0, 0)
    assert child.rlimit(psutil.RLIMIT_FSIZE) == (1 << 20, 1 << 20)
    assert child.rlimit(psutil.RLIMIT_NPROC) == (0, 0)
    assert child.rlimit(psutil.RLIMIT_NOFILE) == (32, 32)
    assert "FIRSTREAD_API_TOKEN" not in child.environ()
    mapped = {Path(mapping.path).name for mapping in child.memory_maps()}
    assert not [name for name in mapped if "tensorflow" in name or "sqlite" in name]
    assert child.num_threads() == 1


def test_the_child_can_do_nothing_but_decode(reader: PixelReader, dark: Path) -> None:
    assert grey(reader, dark) == 10
    missing = {name: words for name, (there, words) in reader.child.layers().items() if not there}
    if missing:
        pytest.skip(f"this machine has not every layer: {missing}")
    assert set(reader.child.layers()) == set(WHY)
    assert reader.child.probe() == []
    status = Path(f"/proc/{child_of().pid}/status").read_text()
    assert "NoNewPrivs:\t1" in status
    assert "Seccomp:\t2" in status
    assert grey(reader, dark) == 10


def test_a_service_says_once_what_is_in_force(dark: Path) -> None:
    with (
        structlog.testing.capture_logs() as lines,
        PixelReader(seconds=PATIENT, memory_bytes=1 << 30, announce=True) as reader,
    ):
        for _ in range(2):
            grey(reader, dark)
            reader.close()
    said = [line for line in lines if line["event"] == "child_confined"]
    assert len(said) == 1
    assert set(said[0]["in_force"]) | set(said[0]["missing"]) == set(WHY)


def test_the_image_is_the_callers_own(reader: PixelReader, dark: Path, bright: Path) -> None:
    first = reader.read(dark, "first").image
    reader.read(bright, "first")
    assert first.mean() == 10
    first[:] = 1
    assert grey(reader, dark) == 10


def test_a_signal_to_the_group_does_not_end_the_child(reader: PixelReader, dark: Path) -> None:
    grey(reader, dark)
    child = child_of()
    for sent in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        child.send_signal(sent)
    assert grey(reader, dark) == 10
    assert child_of() == child


def test_a_child_that_died_while_idle_costs_nothing(reader: PixelReader, dark: Path) -> None:
    grey(reader, dark)
    child = child_of()
    child.kill()
    assert grey(reader, dark) == 10
    assert child_of() != child


def test_a_decoder_that_never_ends_is_ended(dark: Path, bright: Path) -> None:
    with PixelReader(seconds=0.3, memory_bytes=1 << 30) as reader:
        assert grey(reader, dark) == 10
        child = child_of()
        child.suspend()
        with pytest.raises(PixelError, match=r"^decoding took longer than 0.3 seconds$"):
            reader.read(dark, "first")
        assert not child.is_running()
        assert grey(reader, bright) == 200


def test_who_interrupts_a_read_does_not_get_its_answer_later(reader: PixelReader, dark: Path, bright: Path) -> None:
    class StopNowError(Exception):
        """Raised by the signal handler below."""

    def interrupt(*_: object) -> None:
        raise StopNowError

    grey(reader, dark)
    child_of().suspend()
    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGUSR1))
        with pytest.raises(StopNowError):
            wait_with(timer, reader, dark)
        timer.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert grey(reader, bright) == 200


def wait_with(timer: threading.Timer, reader: PixelReader, path: Path) -> None:
    timer.start()
    reader.read(path, "first")


def test_threads_share_a_reader(reader: PixelReader, dark: Path, bright: Path) -> None:
    found: dict[int, list[float]] = {}

    def work(number: int) -> None:
        found[number] = [grey(reader, (dark, bright)[number % 2]) for _ in range(20)]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENT)
    assert found == {0: [10] * 20, 1: [200] * 20, 2: [10] * 20, 3: [200] * 20}


def test_a_child_outlives_the_thread_that_started_it(dark: Path) -> None:
    reader = PixelReader(seconds=PATIENT, memory_bytes=1 << 30)
    try:
        thread = threading.Thread(target=lambda: grey(reader, dark))
        thread.start()
        thread.join(PATIENT)
        child = child_of()
        assert grey(reader, dark) == 10
        assert child_of() == child
    finally:
        reader.close()


PARENT = """
import os, sys, threading, time
from pathlib import Path
from worker.inference.pixels import PixelReader
reader = PixelReader(seconds=60, memory_bytes=1 << 30)
def read():
    assert reader.read(Path(sys.argv[1]), "first").image.mean() == 10
if sys.argv[2] == "thread":
    thread = threading.Thread(target=read)
    thread.start()
    thread.join()
else:
    read()
print("ready", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize(("starter", "busy"), [("main", False), ("main", True), ("thread", False)])
def test_the_child_ends_with_its_parent(dark: Path, starter: str, busy: bool) -> None:
    command = [sys.executable, "-c", PARENT, str(dark), starter]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        assert parent.stdout.readline() == b"ready\n"
        child = child_of(parent.pid)
        if busy:
            child.suspend()  # it cannot see that the socket closes; the kernel has to end it
        parent.kill()
        parent.wait()
        gone, _ = psutil.wait_procs([child], PATIENT)
    assert gone


FORK = """
import os, sys
from pathlib import Path
from worker.inference.pixels import PixelReader
dark, bright = map(Path, sys.argv[1:])
with PixelReader(seconds=60, memory_bytes=1 << 30) as reader:
    assert reader.read(dark, "first").image.mean() == 10
    pid = os.fork()
    for _ in range(20):
        assert reader.read(dark if pid else bright, "first").image.mean() == (10 if pid else 200)
    if pid:
        assert os.waitpid(pid, 0)[1] == 0
"""


def test_a_fork_gets_a_child_of_its_own(dark: Path, bright: Path) -> None:
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK, str(dark), str(bright)], check=True, timeout=PATIENT * 3
    )


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], PixelReader]:
    """A reader whose children are what the test says; it gives up after 2 seconds."""

    def make(body: str) -> PixelReader:
        monkeypatch.setattr(sys, "executable", write_stand_in(tmp_path, body))
        return PixelReader(seconds=2, memory_bytes=1 << 30, max_pixels=64)

    return make


def die(by: str) -> str:
    return f"say(job=0); job(); signal.signal(signal.{by}, signal.SIG_DFL); os.kill(os.getpid(), signal.{by})"


@pytest.mark.parametrize(("body", "reason"), [
    (die("SIGSEGV"), "ended by SIGSEGV while it decoded this object: its pixel data are damaged"),
    (die("SIGBUS"), "ended by SIGBUS"),
    ("say(job=0); job(); os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL .*may have run out of memory"),
    (die("SIGXCPU"), "^decoding took longer than 2 seconds$"),
    (die("SIGALRM"), "^decoding took longer than 2 seconds$"),
    ("say(job=0); job(); sys.exit(3)", "ended by exit status 3"),
    ("sys.stderr.write('memory allocation of 9 bytes failed'); sys.stderr.flush();" + die("SIGABRT"),
     "^decoding needed more than 1 GiB of memory$"),
    ("say(job=0); say(job=job(), failure='surprise', reason='KeyError: 1')", "decoding failed: KeyError: 1"),
])  # fmt: skip
def test_an_object_is_blamed_on_the_evidence_of_a_fresh_child(
    stand_in: Callable[[str], PixelReader], dark: Path, body: str, reason: str
) -> None:
    with stand_in(body) as reader, pytest.raises(PixelError, match=reason):
        reader.read(dark, "first")


@pytest.mark.parametrize("end", ["os.kill(os.getpid(), signal.SIGKILL)", "say(job=job_, failure='memory', reason='')"])
def test_an_object_whose_child_served_others_before_is_tried_once_more(
    stand_in: Callable[[str], PixelReader], dark: Path, end: str
) -> None:
    body = f"""
say(job=0)
say(job=job(), **shown())
job_ = job()
if started:
    say(job=job_, **shown())
else:
    {end}
time.sleep(60)
"""
    with stand_in(body) as reader:
        for _ in range(3):  # the second is at work when its child ends; the third is the second of the new child
            assert reader.read(dark, "first").image.tolist() == [[10]]


@pytest.mark.parametrize("body", [
    "say(job=0); say(job=job() + 1, **shown())",
    "say(job=0); say(**(shown() | dict(job=job(), rows=1000, columns=1000)))",
    "say(job=0); say(**(shown() | dict(job=job(), rows=-1)))",
    "say(job=0); job(); channel.send(b'[1]')",
    "say(job=0); job(); channel.send(b'no json')",
])  # fmt: skip
def test_a_child_that_answers_nonsense_is_not_believed(
    stand_in: Callable[[str], PixelReader], dark: Path, body: str
) -> None:
    with stand_in(body + "; time.sleep(60)") as reader:
        with pytest.raises(PixelError, match="decoding process answered"):
            reader.read(dark, "first")
        assert not decoders()


def test_a_child_cannot_take_the_shared_memory_away(stand_in: Callable[[str], PixelReader], dark: Path) -> None:
    body = """
say(job=0)
number = job()
try:
    os.ftruncate(int(options["memory"]), 0)
except OSError as error:
    say(job=number, failure="refused", reason=f"refused: {error.strerror}")
"""
    with stand_in(body) as reader, pytest.raises(PixelError, match="refused: Operation not permitted"):
        reader.read(dark, "first")


def test_a_child_that_cannot_start_is_not_the_objects_fault(
    stand_in: Callable[[str], PixelReader], dark: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        stand_in("sys.exit('no numpy here')") as reader,
        pytest.raises(ChildLost, match=r"exit status 1.*no numpy"),
    ):
        reader.read(dark, "first")
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(ChildLost, match="cannot be started"):
        PixelReader(seconds=2, memory_bytes=1 << 30).read(dark, "first")
    assert not decoders()


SPIN = """
from worker.guarded.limits import deadline
with deadline(0.1):
    while True:
        pass
"""


def test_a_spinning_orphan_ends_itself() -> None:
    ended = subprocess.run([sys.executable, "-c", SPIN], check=False, timeout=PATIENT * 2)
    assert ended.returncode in {-signal.SIGXCPU, -signal.SIGALRM}
