"""One object into the spool, and every way in which that fails."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dicom_listener.dimse_status import ACCEPTED, BAD_INSTANCE_UID, OUT_OF_RESOURCES, SUCCESS
from dicom_listener.reception import CHECK_BYTES, Reception
from worker.intake import spool as spool_module
from worker.intake.spool import Incoming, Spool

HEAD = b"head"


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


def incoming(spool: Spool) -> list[Path]:
    return sorted(spool.incoming_dir.iterdir())


def begin(spool: Spool, limit: int = 1 << 20) -> Reception:
    return Reception(spool, HEAD, max_object_bytes=limit)


def failing(number: int) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def test_head_and_fragments_are_in_the_file(spool: Spool) -> None:
    reception = begin(spool)
    for fragment in (b"one", b"", b"two"):
        reception.write(memoryview(fragment))
    assert [path.suffix for path in incoming(spool)] == [".part"]
    assert reception.finish() is ACCEPTED
    (path,) = incoming(spool)
    assert path.name == f"{reception.name}.dcm"
    assert path.read_bytes() == b"headonetwo"
    assert reception.data_set_bytes == 6


def test_an_object_at_the_limit_is_kept_and_one_byte_more_is_not(spool: Spool) -> None:
    reception = begin(spool, 10)
    reception.write(memoryview(b"x" * 10))
    assert reception.finish().status == SUCCESS
    reception = begin(spool, 10)
    reception.write(memoryview(b"x" * 10))
    reception.write(memoryview(b"x"))
    assert reception.refused
    assert len(incoming(spool)) == 1, "the partial file goes at once"
    reception.write(memoryview(b"drained"))
    answer = reception.finish()
    assert answer.status == OUT_OF_RESOURCES
    assert "FIRSTREAD_MAX_OBJECT_BYTES" in answer.fix


def test_below_the_free_space_floor_nothing_is_begun(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", min_free_bytes=1 << 60)
    reception = begin(spool)
    assert incoming(spool) == []
    reception.write(memoryview(b"x"))
    answer = reception.finish()
    assert answer.status == OUT_OF_RESOURCES
    assert "FIRSTREAD_MIN_FREE_BYTES" in answer.fix


def test_the_floor_is_looked_at_again_within_a_large_object(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    room = iter([True, False])
    monkeypatch.setattr(Spool, "has_room", lambda _: next(room))
    reception = begin(spool, 1 << 40)
    fragment = memoryview(bytes(1 << 20))
    for _ in range(CHECK_BYTES >> 20):
        reception.write(fragment)
        if reception.refused:
            break
    assert reception.refused
    assert incoming(spool) == []
    assert reception.finish().status == OUT_OF_RESOURCES


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO, errno.EDQUOT])
def test_a_write_failure_is_remembered_and_the_rest_drained(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    reception = begin(spool)
    monkeypatch.setattr(Incoming, "write", failing(number))
    reception.write(memoryview(b"x"))
    monkeypatch.undo()
    assert incoming(spool) == []
    reception.write(memoryview(b"more"))
    answer = reception.finish()
    assert answer.status == OUT_OF_RESOURCES
    assert os.strerror(number) in answer.fix
    assert begin(spool).finish() is ACCEPTED, "the next object is taken again"


@pytest.mark.parametrize("call", ["fsync", "rename", "open"])
def test_a_failure_to_make_it_durable_is_no_success(spool: Spool, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    if call == "open":
        monkeypatch.setattr(os, "open", failing(errno.EROFS))
    reception = begin(spool)
    monkeypatch.setattr(os, call, failing(errno.EIO))
    reception.write(memoryview(b"x"))
    assert reception.finish().status == OUT_OF_RESOURCES
    monkeypatch.undo()
    assert incoming(spool) == []


def test_a_directory_that_cannot_be_synced_is_no_success_and_the_file_stays_for_the_resend(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    reception = begin(spool)
    reception.write(memoryview(b"x"))
    monkeypatch.setattr(spool_module, "sync_directory", failing(errno.EIO))
    assert reception.finish().status == OUT_OF_RESOURCES
    assert [path.suffix for path in incoming(spool)] == [".dcm"]


def test_an_abandoned_object_leaves_nothing(spool: Spool) -> None:
    reception = begin(spool)
    reception.write(memoryview(b"x"))
    reception.abandon()
    assert incoming(spool) == []


def test_a_partial_that_cannot_be_removed_is_left_for_the_sweep(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    reception = begin(spool)
    monkeypatch.setattr(Incoming, "write", failing(errno.EROFS))
    monkeypatch.setattr(Path, "unlink", failing(errno.EROFS))
    reception.write(memoryview(b"x"))
    assert reception.finish().status == OUT_OF_RESOURCES
    monkeypatch.undo()
    assert spool.sweep_partials() == 1


def test_a_refused_request_is_drained_without_a_file(spool: Spool) -> None:
    reception = Reception(spool, b"", max_object_bytes=10, refusal=BAD_INSTANCE_UID)
    reception.write(memoryview(b"x" * 100))
    assert reception.finish() is BAD_INSTANCE_UID
    assert incoming(spool) == []
