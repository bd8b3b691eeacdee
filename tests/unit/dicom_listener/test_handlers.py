"""From a request to a DIMSE status, by the command set alone."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import structlog
from prometheus_client import REGISTRY

from dicom_listener.dimse_status import (
    ACCEPTED,
    BAD_INSTANCE_UID,
    NO_DATA_SET,
    NO_STORAGE_CLASS,
    PROCESSING_FAILURE,
    UNEXPECTED,
    Answer,
)
from dicom_listener.handlers import Handlers, judge
from dicom_listener.reception import Reception
from dicom_listener.request import Request, shown
from worker.intake.spool import Spool

CT = "1.2.840.10008.5.1.4.1.1.2"
REQUEST = Request(
    sop_class_uid=CT,
    sop_instance_uid="1.2.3",
    abstract_syntax_uid=CT,
    transfer_syntax_uid="1.2.840.10008.1.2.1",
    calling_ae="MODALITY",
    called_ae="FIRSTREAD",
    association=7,
)


@pytest.fixture
def handlers(tmp_path: Path) -> Handlers:
    return Handlers(Spool(tmp_path / "spool"), max_object_bytes=1000)


def stored(handlers: Handlers) -> list[Path]:
    return sorted(handlers.spool.incoming_dir.iterdir())


@pytest.mark.parametrize(
    ("changes", "answer"),
    [
        ({}, None),
        ({"sop_class_uid": "1.3.12.2.1107.5.9.1"}, None),
        ({"sop_class_uid": "1.2.840.10008.5.1.4.1.1.1"}, None),  # another storage class than negotiated: kept
        ({"sop_class_uid": ""}, NO_STORAGE_CLASS),
        ({"sop_class_uid": "1.2.840.10008.1.1"}, NO_STORAGE_CLASS),
        ({"sop_class_uid": "1.2.840.10008.5.1.4.31"}, NO_STORAGE_CLASS),
        ({"abstract_syntax_uid": "1.2.840.10008.1.1"}, NO_STORAGE_CLASS),
        ({"sop_instance_uid": ""}, BAD_INSTANCE_UID),
        ({"sop_instance_uid": "../../x"}, BAD_INSTANCE_UID),
        ({"sop_instance_uid": "1" * 65}, BAD_INSTANCE_UID),
        ({"sop_instance_uid": "1.2.3 "}, BAD_INSTANCE_UID),
        ({"has_data_set": False}, NO_DATA_SET),
    ],
)
def test_requests_are_judged(handlers: Handlers, changes: dict[str, Any], answer: Answer | None) -> None:
    request = replace(REQUEST, **changes)
    assert judge(request) is answer
    store = handlers.store(request)
    store.write(memoryview(b"data"))
    assert store.finish() is (answer or ACCEPTED)
    assert len(stored(handlers)) == (answer is None)


def test_echo_is_success(handlers: Handlers) -> None:
    assert handlers.echo().finish() is ACCEPTED


def test_every_store_is_timed_and_told(handlers: Handlers) -> None:
    before = REGISTRY.get_sample_value("firstread_store_seconds_count") or 0
    with structlog.testing.capture_logs() as lines:
        for request in (REQUEST, replace(REQUEST, sop_instance_uid="SMITH^JOHN")):
            store = handlers.store(request)
            store.write(memoryview(b"data"))
            store.finish()
            store.tell()
    assert REGISTRY.get_sample_value("firstread_store_seconds_count") == before + 2
    stored_line, refused_line = lines
    assert stored_line["event"] == "object_stored"
    assert stored_line["bytes"] == 4
    assert stored_line["sop_instance_uid"] == "1.2.3"
    assert stored_line["calling_ae"] == "MODALITY"
    assert refused_line["event"] == "object_refused"
    assert refused_line["status"] == "0117"
    assert refused_line["fix"]
    assert "SMITH" not in repr(refused_line), "what stands where a UID should may be a name"


@pytest.mark.parametrize("method", ["__init__", "write", "finish"])
def test_what_nobody_expected_is_a_processing_failure_and_leaves_nothing(
    handlers: Handlers, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("nobody expected this")

    monkeypatch.setattr(Reception, method, fail)
    with structlog.testing.capture_logs() as lines:
        store = handlers.store(REQUEST)
        store.write(memoryview(b"data"))
        answer = store.finish()
        store.tell()
    assert answer is UNEXPECTED
    assert answer.status == PROCESSING_FAILURE
    assert [line["event"] for line in lines] == ["store_failed", "object_refused"]
    assert stored(handlers) == []


def test_an_ae_title_that_cannot_be_encoded_is_a_processing_failure(handlers: Handlers) -> None:
    assert handlers.store(replace(REQUEST, calling_ae="Ä")).finish() is UNEXPECTED


def test_an_abandoned_store_leaves_nothing_and_says_so(handlers: Handlers) -> None:
    store = handlers.store(REQUEST)
    store.write(memoryview(b"data"))
    with structlog.testing.capture_logs() as lines:
        store.abandon()
    assert stored(handlers) == []
    assert [(line["event"], line["bytes"]) for line in lines] == [("transfer_abandoned", 4)]


def test_only_uids_are_shown() -> None:
    assert shown("1.2.3") == "1.2.3"
    assert shown("SMITH") == "<no UID, 5 characters>"
    assert shown("") == "<no UID, 0 characters>"
