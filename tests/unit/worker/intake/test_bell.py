"""The bell is heard, never waited for, and missed by nobody who looks after it was hushed."""

import select
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from worker.intake.bell import Bell, Rope


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "intake.bell"


@pytest.fixture
def bell(path: Path) -> Iterator[Bell]:
    made = Bell(path)
    yield made
    made.close()


@pytest.fixture
def rope(path: Path) -> Iterator[Rope]:
    made = Rope(path)
    yield made
    made.close()


def rings(bell: Bell) -> bool:
    return bool(select.select([bell], [], [], 0)[0])


def test_a_ring_is_heard_until_it_is_hushed(bell: Bell, rope: Rope) -> None:
    assert not rings(bell)
    rope.ring()
    rope.ring()
    assert rings(bell)
    bell.hush()
    assert not rings(bell)
    bell.hush()
    rope.ring()
    assert rings(bell)


def test_the_pipe_is_nobody_elses(bell: Bell, path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_ringing_where_nobody_listens_does_nothing_and_the_next_listener_is_heard(path: Path, rope: Rope) -> None:
    rope.ring()
    first = Bell(path)
    rope.ring()
    assert rings(first)
    first.close()
    rope.ring()
    second = Bell(path)
    rope.ring()
    assert rings(second)
    second.close()


def test_threads_that_ring_while_listeners_come_and_go_write_to_nothing_else(path: Path, tmp_path: Path) -> None:
    """A pipe that ended is closed by one of them; its number may be an object's before the next one rings."""
    rope, stop = Rope(path), threading.Event()

    def ring() -> None:
        while not stop.is_set():
            rope.ring()

    ringing = [threading.Thread(target=ring) for _ in range(4)]
    for thread in ringing:
        thread.start()
    try:
        for number in range(300):
            Bell(path).close()
            (tmp_path / f"{number}.part").write_bytes(b"an object")
    finally:
        stop.set()
        for thread in ringing:
            thread.join()
    rope.close()
    assert {file.read_bytes() for file in tmp_path.glob("*.part")} == {b"an object"}


def test_a_bell_that_nobody_hushes_never_holds_up_whoever_rings(bell: Bell, rope: Rope) -> None:
    for _ in range(70_000):  # more than a pipe holds
        rope.ring()
    bell.hush()
    rope.ring()
    assert rings(bell)


def test_something_else_in_its_place_is_told_of_and_left_alone(path: Path) -> None:
    path.write_text("mine")
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(FileExistsError, match="remove it"):
        Bell(path)
    assert path.read_text() == "mine"
    assert len(list(Path("/proc/self/fd").iterdir())) == before
