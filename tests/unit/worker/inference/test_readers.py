"""Several children at once: each object its own pixels, each death its own object."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.support.fakes import card
from tests.support.images import image
from tests.support.objects import save
from tests.support.stand_in_child import write_stand_in
from worker.errors import PixelError
from worker.inference.preview import Preview
from worker.inference.readers import PixelReaders, decoders_for

PATIENCE = 30.0
LEVELS = (10, 60, 110, 160, 210, 250)


@pytest.fixture
def readers() -> Iterator[PixelReaders]:
    with PixelReaders(2, seconds=PATIENCE, memory_bytes=1 << 30) as readers:
        yield readers


@pytest.fixture
def paths(tmp_path: Path) -> dict[int, Path]:
    return {level: save(image(np.full((8, 8), level, np.uint8)), tmp_path / f"{level}.dcm") for level in LEVELS}


def children() -> list[psutil.Process]:
    return [one for one in psutil.Process().children() if "worker.inference.decoder" in one.cmdline()]


@pytest.mark.parametrize(("cores", "workers", "count"), [
    (1, 1, 1), (2, 1, 2), (2, 2, 1), (4, 2, 2), (16, 1, 8), (16, 8, 2), (64, 4, 8), (1, 4, 1), (8, 0, 8),
])  # fmt: skip
def test_a_process_has_its_share_of_the_cores(cores: int, workers: int, count: int) -> None:
    assert decoders_for(cores, workers) == count


def test_the_children_are_warm_and_end(readers: PixelReaders, paths: dict[int, Path]) -> None:
    assert readers.count == len(children()) == 2
    readers.close()
    assert not children()
    assert readers.read(paths[10], "first").image.mean() == 10  # closed is not the end


def test_children_are_started_together_and_waited_for() -> None:
    readers = PixelReaders(2, seconds=PATIENCE, memory_bytes=1 << 30)
    try:
        assert not children()
        readers.start()
        assert len(children()) == 2
        readers.wait_until_ready()
        assert [one.child._child and one.child._child._ready for one in readers._readers] == [True, True]
        assert len(children()) == 2
    finally:
        readers.close()


def test_many_threads_get_their_own_pixels(readers: PixelReaders, paths: dict[int, Path]) -> None:
    kept: dict[int, list[Preview]] = {level: [] for level in LEVELS}

    def work(level: int) -> set[float]:
        for _ in range(10):
            readers.prepared(paths[level], card(), kept[level].append)
        return {float(readers.read(paths[level], "first").image.mean()) for _ in range(3)}

    with ThreadPoolExecutor(len(LEVELS)) as pool:
        assert list(pool.map(work, LEVELS)) == [{level} for level in LEVELS]
    readers.settle()
    # In the lines of a picture of one grey, only the first pixels say which.
    assert {level: len(previews) for level, previews in kept.items()} == dict.fromkeys(LEVELS, 10)
    assert [len({one.deflated for one in kept[level]}) for level in LEVELS] == [1] * len(LEVELS)
    assert len({kept[level][0].deflated for level in LEVELS}) == len(LEVELS)


def test_one_waits_while_all_are_at_work(readers: PixelReaders, paths: dict[int, Path]) -> None:
    at_work, go_on = threading.Semaphore(0), threading.Event()

    def hold(_: Preview) -> None:
        at_work.release()
        assert go_on.wait(PATIENCE)

    for level in LEVELS[:2]:
        readers.prepared(paths[level], card(), hold)
    for _ in range(2):
        assert at_work.acquire(timeout=PATIENCE)
    # Who keeps a preview holds no child.
    assert readers.read(paths[160], "first").image.mean() == 160
    stopped = [child for child in children() if not child.suspend()]
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(readers.read, paths[level], "first") for level in LEVELS[:3]]
        assert not any(one.done() for one in waiting)
        for child in stopped:
            child.resume()
        assert [one.result(PATIENCE).image.mean() for one in waiting] == list(LEVELS[:3])
    go_on.set()


SERVES_AND_DIES = """
say(job=0)
while True:
    packet, files, *_ = socket.recv_fds(channel, 65536, 1)
    if b"POISON" in os.pread(files[0], 1 << 20, 0):
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGSEGV)
    os.close(files[0])
    say(job=json.loads(packet)["job"], **shown())
"""


def test_the_death_of_a_child_costs_its_object_alone(
    paths: dict[int, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "poison.dcm").write_bytes(b"POISON")
    monkeypatch.setattr("sys.executable", write_stand_in(tmp_path, SERVES_AND_DIES))
    with PixelReaders(2, seconds=PATIENCE, memory_bytes=1 << 30) as readers, ThreadPoolExecutor(4) as pool:
        asked = [tmp_path / "poison.dcm", *paths.values()] * 3
        reading = [pool.submit(readers.read, path, "first") for path in asked]
        failed = {path.name: str(one.exception(PATIENCE)) for path, one in zip(asked, reading, strict=True)}
    assert "SIGSEGV" in failed.pop("poison.dcm")
    assert set(failed.values()) == {"None"}


def test_previews_are_kept_before_the_children_end(paths: dict[int, Path]) -> None:
    kept: list[Preview] = []
    with PixelReaders(2, seconds=PATIENCE, memory_bytes=1 << 30) as readers:
        for level in LEVELS:
            readers.prepared(paths[level], card(), kept.append)
    assert len(kept) == len(LEVELS)


def test_nobody_is_given_a_preview_of_what_failed(readers: PixelReaders, tmp_path: Path) -> None:
    kept: list[Preview] = []
    (tmp_path / "no.dcm").write_bytes(b"no image" * 100)
    for _ in range(5):  # more often than there are children: each is free again
        with pytest.raises(PixelError):
            readers.prepared(tmp_path / "no.dcm", card(), kept.append)
    readers.settle()
    assert kept == []
