"""The conformance statement says what the code does."""

from pathlib import Path

import pytest

from dicom_listener import dimse_status
from dicom_listener.__main__ import DRAIN_SECONDS
from dicom_listener.associate_request import ITEMS_CAP
from dicom_listener.association import _FIXES
from dicom_listener.file_meta import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_listener.inflow import MAX_PDU_LENGTH, PACE_BYTES
from dicom_listener.messages import COMMAND_SET_CAP
from dicom_listener.places import CROWDING_SECONDS, SLOW_SECONDS
from dicom_listener.server import QUIET_SECONDS, UNASSOCIATED, Timeouts
from dicom_listener.transport import PDU_CAP, REQUEST_CAP
from worker.config import Settings
from worker.reporting.association import CONNECT_SECONDS
from worker.tls import SUITES

STATEMENT = (Path(__file__).parents[3] / "deploy" / "conformance.md").read_text()

STATUSES = [value for name, value in vars(dimse_status).items() if isinstance(value, int) and not name.startswith("_")]


@pytest.mark.parametrize("status", STATUSES)
def test_every_status_is_in_its_table(status: int) -> None:
    assert f"| {status:04X} | " in STATEMENT


def test_its_numbers_are_the_codes() -> None:
    timeouts = Timeouts()
    assert f"(ARTIM) | {timeouts.request:g} |" in STATEMENT
    assert f"the TLS handshake | {timeouts.handshake:g} |" in STATEMENT
    assert f"within an association | {timeouts.network:g} |" in STATEMENT
    assert f"that has begun | {timeouts.network:g} |" in STATEMENT
    assert f"offered | {MAX_PDU_LENGTH} bytes" in STATEMENT
    assert f"more than {PDU_CAP >> 20} MiB, and any other of more than {REQUEST_CAP >> 10} KiB" in STATEMENT
    assert f"more than {ITEMS_CAP} items" in STATEMENT
    assert f"less than {PACE_BYTES >> 10} KiB in {SLOW_SECONDS:g} seconds" in STATEMENT
    assert f"after {CROWDING_SECONDS:g} second where" in STATEMENT
    assert f"at most {COMMAND_SET_CAP >> 10} KiB" in STATEMENT
    assert f"for {DRAIN_SECONDS:g} seconds" in STATEMENT
    assert f"quiet for {QUIET_SECONDS:g} seconds" in STATEMENT
    assert f"({Settings.model_fields['max_associations'].default}); beyond them {UNASSOCIATED} " in STATEMENT
    assert all(suite in STATEMENT for suite in SUITES)
    assert f"waited for {CONNECT_SECONDS:g} seconds" in STATEMENT
    assert IMPLEMENTATION_CLASS_UID in STATEMENT
    assert IMPLEMENTATION_VERSION_NAME in STATEMENT


def test_every_rejection_with_an_advice_is_in_its_table() -> None:
    for source, reason in _FIXES:
        assert any(
            line.startswith("|") and f"| {source} service" in line and f"| {reason} " in line
            for line in STATEMENT.splitlines()
        )
