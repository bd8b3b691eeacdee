"""Storage commitment at the door: judged, read within bounds, durable before it is answered."""

import errno
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import structlog

from dicom_listener.commitment import Commitment, judge_commitment
from dicom_listener.dimse_status import (
    ACCEPTED,
    INVALID_ARGUMENT_VALUE,
    MESSAGE_TOO_LARGE,
    NO_ACTION,
    NO_EVENT,
    NO_INFORMATION,
    NOT_COMMITMENT,
    NOT_THE_INSTANCE,
    PROCESSING_FAILURE,
    RESOURCE_LIMITATION,
    Answer,
)
from dicom_listener.request import Request
from tests.support.commitment import CT, EXPLICIT, SOP_CLASS, SOP_INSTANCE, encoded, information, item
from worker.commitment.message import MAX_BYTES, Kind, Message
from worker.intake import spool as spool_module
from worker.intake.spool import Spool

REQUEST = Request(
    sop_class_uid=SOP_CLASS,
    sop_instance_uid=SOP_INSTANCE,
    abstract_syntax_uid=SOP_CLASS,
    transfer_syntax_uid=EXPLICIT,
    calling_ae="MODALITY",
    called_ae="FIRSTREAD",
    association=7,
)
GOOD = encoded(information([item("1.2.3")], transaction_uid="2.25.7"))


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


def answer(spool: Spool, data: bytes, kind: Kind = "request", type_id: int = 1, **changes: Any) -> Answer:
    operation = Commitment(spool, kind, replace(REQUEST, **changes), type_id)
    for start in range(0, len(data), 100_000):
        operation.write(memoryview(data)[start : start + 100_000])
    said = operation.finish()
    operation.tell()
    return said


def left(spool: Spool) -> list[str]:
    return [path.suffix for path in spool.commitments_dir.iterdir()]


@pytest.mark.parametrize(
    ("kind", "type_id", "changes", "refusal"),
    [
        ("request", 1, {}, None),
        ("request", 2, {}, NO_ACTION),
        ("request", 0, {}, NO_ACTION),
        ("result", 1, {}, None),
        ("result", 2, {}, None),
        ("result", 3, {}, NO_EVENT),
        ("request", 1, {"sop_class_uid": CT}, NOT_COMMITMENT),
        ("request", 1, {"abstract_syntax_uid": CT}, NOT_COMMITMENT),
        ("request", 1, {"sop_class_uid": CT, "abstract_syntax_uid": CT}, NOT_COMMITMENT),
        ("request", 1, {"sop_instance_uid": "1.2.3"}, NOT_THE_INSTANCE),
        ("request", 1, {"has_data_set": False}, NO_INFORMATION),
    ],
)
def test_messages_are_judged(
    spool: Spool, kind: Kind, type_id: int, changes: dict[str, Any], refusal: Answer | None
) -> None:
    assert judge_commitment(kind, replace(REQUEST, **changes), type_id) is refusal
    assert answer(spool, GOOD, kind, type_id, **changes) is (refusal or ACCEPTED)
    assert len(spool.commitments()) == (refusal is None)


def test_what_is_kept_says_who_asked_for_what(spool: Spool) -> None:
    with structlog.testing.capture_logs() as lines:
        assert answer(spool, GOOD) is ACCEPTED
    (path,) = spool.commitments()
    message = Message.from_json(path.read_bytes())
    assert (message.kind, message.transaction_uid, message.calling_ae) == ("request", "2.25.7", "MODALITY")
    assert [one.sop_instance_uid for one in message.references] == ["1.2.3"]
    assert path.stat().st_mode & 0o777 == 0o600
    assert lines[0]["event"] == "commitment_message_stored"
    assert (spool.strangers(), spool.arrivals()) == ([], [])


def test_bytes_then_name_then_directory_are_durable_before_the_answer(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, rename, sync = spool_module.os.fsync, spool_module.os.rename, spool_module.sync_directory
    monkeypatch.setattr(spool_module.os, "fsync", lambda number: (steps.append("fsync"), fsync(number)))
    monkeypatch.setattr(spool_module.os, "rename", lambda path, to: (steps.append("rename"), rename(path, to))[1])
    monkeypatch.setattr(spool_module, "sync_directory", lambda path: (steps.append(path.name), sync(path)))
    answer(spool, GOOD)
    assert steps == ["fsync", "rename", "commitments", "fsync"]


def test_what_is_too_large_is_let_go_as_it_comes(spool: Spool) -> None:
    operation = Commitment(spool, "request", REQUEST, 1)
    for _ in range(2 * MAX_BYTES // 100_000):
        operation.write(memoryview(bytes(100_000)))
        assert len(operation._data) <= MAX_BYTES
    assert operation.finish() is MESSAGE_TOO_LARGE
    assert left(spool) == []


def test_what_is_no_message_is_refused_and_its_content_is_not_logged(spool: Spool) -> None:
    with structlog.testing.capture_logs() as lines:
        refused = answer(spool, GOOD.replace(b"2.25.7", b"SMITH^"))
    assert (refused.status, left(spool)) == (INVALID_ARGUMENT_VALUE, [])
    assert lines[0]["event"] == "commitment_message_refused"
    assert lines[0]["status"] == "0115"
    assert "SMITH" not in repr(lines)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_does_not_take_it_is_a_failure(spool: Spool, monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    def fail(_number: int) -> None:
        raise OSError(error, "no")

    monkeypatch.setattr(spool_module.os, "fsync", fail)
    assert answer(spool, GOOD).status == RESOURCE_LIMITATION
    assert left(spool) == []


def test_below_the_floor_nothing_is_taken(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", min_free_bytes=1 << 62)
    refused = answer(spool, GOOD)
    assert (refused.status, refused.comment) == (RESOURCE_LIMITATION, "storage is full")


def test_what_nobody_expected_is_a_processing_failure(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("nobody expected this")

    monkeypatch.setattr(Message, "to_json", fail)
    with structlog.testing.capture_logs():
        assert answer(spool, GOOD).status == PROCESSING_FAILURE
    assert left(spool) == []


def test_partial_files_are_swept(spool: Spool) -> None:
    (spool.commitments_dir / "20261121T073000.123456789-1a2b3c4d5e6f7a8b.part").touch()
    (spool.commitments_dir / "README.json").touch()
    assert (spool.sweep_partials(), spool.commitments()) == (1, [])
