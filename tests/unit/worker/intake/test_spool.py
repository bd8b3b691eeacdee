"""The spool: durable in the right order, tidy after every failure, found again after a crash."""

import errno
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from worker.intake import spool as spool_module
from worker.intake.spool import Spool, new_name, received_at


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


def store(spool: Spool, content: bytes = b"content") -> Path:
    with spool.receive() as incoming:
        incoming.write(content)
        return incoming.commit()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_names_sort_by_arrival_and_never_collide() -> None:
    names = [new_name() for _ in range(1000)]
    assert sorted(names, key=lambda name: name.partition("-")[0]) == names
    assert len(set(names)) == 1000


def test_a_name_says_when_it_was_made() -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    assert before <= received_at(new_name()) <= datetime.now(UTC) + timedelta(milliseconds=1)
    assert received_at("20261121T073000.123456789-1a2b3c4d5e6f7a8b") == datetime(2026, 11, 21, 7, 30, 0, 123456, UTC)


def test_what_is_committed_arrives_with_its_bytes(spool: Spool) -> None:
    first, second = store(spool, b"first"), store(spool, b"second")
    assert spool.arrivals() == [first, second]
    assert [path.read_bytes() for path in spool.arrivals()] == [b"first", b"second"]


def test_nobody_else_reads_it(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        spool = Spool(tmp_path / "data" / "spool")
        path = store(spool)
    finally:
        os.umask(old)
    assert mode(path) == 0o600
    directories = (tmp_path / "data", spool.directory, spool.incoming_dir, spool.stored_dir)
    assert [mode(directory) for directory in directories] == [0o700] * 4


def test_the_bytes_are_durable_before_the_name_and_the_name_before_commit_returns(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    real_fsync, real_rename = os.fsync, os.rename

    def fsync(descriptor: int) -> None:
        steps.append("directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        real_fsync(descriptor)

    def rename(path: str, target: str) -> None:
        steps.append("rename")
        real_rename(path, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "rename", rename)
    store(spool)
    assert steps == ["file", "rename", "directory"]


def test_what_is_not_committed_leaves_nothing(spool: Spool) -> None:
    with spool.receive() as incoming:
        incoming.write(b"half")
        assert len(list(spool.incoming_dir.iterdir())) == 1
        assert spool.arrivals() == []
    assert list(spool.incoming_dir.iterdir()) == []


def test_close_may_be_called_twice(spool: Spool) -> None:
    incoming = spool.receive()
    incoming.close()
    incoming.close()
    assert list(spool.incoming_dir.iterdir()) == []


def test_a_short_write_is_continued(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    incoming = spool.receive()
    real = os.write
    monkeypatch.setattr(os, "writev", lambda descriptor, pieces: real(descriptor, b"".join(pieces)[:3]))
    incoming.write(b"01", b"", b"23456", b"789")
    assert incoming.commit().read_bytes() == b"0123456789"
    incoming.close()


def test_a_failed_fsync_commits_nothing(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with spool.receive() as incoming:
        incoming.write(b"x")
        with pytest.raises(OSError, match="Input/output"):
            incoming.commit()
    assert list(spool.incoming_dir.iterdir()) == []


def test_a_partial_file_is_never_shared(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "new_name", lambda: "20261121T073000.000000000-0000000000000000")
    with spool.receive(), pytest.raises(FileExistsError):
        spool.receive()


def test_the_floor_counts_what_is_to_come(spool: Spool) -> None:
    free = spool.free_bytes()
    spool.min_free_bytes = free // 2
    assert spool.has_room()
    assert not spool.has_room(free)


def test_partials_of_a_crash_are_swept_and_arrivals_stay(spool: Spool) -> None:
    arrival = store(spool)
    (spool.incoming_dir / f"{new_name()}.part").write_bytes(b"half")
    assert spool.sweep_partials() == 1
    assert list(spool.incoming_dir.iterdir()) == [arrival]
    assert spool.sweep_partials() == 0


def test_partials_of_one_writer_are_swept_alone(tmp_path: Path) -> None:
    dead, alive = (Spool(tmp_path / "spool", writer=name) for name in ("acceptor1", "acceptor11"))
    left, message, arriving = dead.receive(), dead.receive_commitment(), alive.receive()
    assert alive.sweep_partials("acceptor1") == 2
    arriving.write(b"all of it")
    assert alive.arrivals() == [] == alive.strangers()
    assert arriving.commit().read_bytes() == b"all of it"
    assert len(alive.arrivals()) == 1
    for one in (left, message, arriving):
        one.close()
    assert alive.sweep_partials() == 0


def test_an_object_is_filed_by_its_day_and_found_before_and_after(spool: Spool) -> None:
    arrival = store(spool)
    name = arrival.stem
    assert spool.path(name) == arrival
    spool.file_away([name])
    filed = spool.stored_dir / name[:8] / f"{name}.dcm"
    assert spool.path(name) == filed
    assert filed.read_bytes() == b"content"
    assert spool.arrivals() == []
    assert list(spool.filed()) == [name]
    spool.file_away([name])
    assert filed.is_file(), "filing again changes nothing"


def test_filing_is_durable(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    name = store(spool).stem
    spool.file_away([store(spool).stem])  # the day's directory is there
    synced: list[Path] = []
    monkeypatch.setattr(spool_module, "sync_directory", synced.append)
    spool.file_away([name])
    assert synced.index(spool.stored_dir / name[:8]) < synced.index(spool.incoming_dir)


def test_an_unknown_name_lies_nowhere(spool: Spool) -> None:
    assert spool.path(new_name()) is None


def test_a_duplicate_is_discarded(spool: Spool) -> None:
    arrival = store(spool)
    spool.discard(arrival.stem)
    spool.discard(arrival.stem)
    assert spool.arrivals() == []


def test_a_large_object_is_on_its_way_to_the_disk_while_it_comes_in(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts: list[tuple[int, int]] = []
    monkeypatch.setattr(spool_module, "begin_write_out", lambda _file, start, size: parts.append((start, size)))
    fragment = bytes(300_000)
    with spool.receive() as incoming:
        for _ in range(16):
            incoming.write(fragment)
        path = incoming.commit()
    assert path.stat().st_size == 16 * 300_000
    assert [start for start, _ in parts] == [0, 2_100_000], "each byte once, in order"
    assert all(size == 2_100_000 for _, size in parts)
