"""Who may call: by title, by address, by both; what is refused is told and counted."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
from prometheus_client import REGISTRY

from dicom_listener.server import Listener
from tests.support.raw_store import (
    CT_IMAGE_STORAGE,
    EXPLICIT_VR_LITTLE_ENDIAN,
    AssociationAborted,
    AssociationRejected,
    RawAssociation,
)
from worker.config import Caller
from worker.intake.spool import Spool

CONTEXTS = [(CT_IMAGE_STORAGE, [EXPLICIT_VR_LITTLE_ENDIAN])]


@contextmanager
def serving(tmp_path: Path, *callers: Caller, **more: Any) -> Iterator[tuple[Listener, list[Any]]]:
    limits = {"max_associations": 4, "max_object_bytes": 1 << 20, **more}
    spool = Spool(tmp_path / "spool")
    with (
        structlog.testing.capture_logs() as told,
        Listener(spool, ae_title="FIRSTREAD", host="127.0.0.1", port=0, callers=callers, **limits) as listener,
    ):
        yield listener, told


def calls(listener: Listener, calling: str, called: str = "FIRSTREAD") -> int:
    with RawAssociation(*listener.address, CONTEXTS, calling=calling, called=called) as association:
        return association.store(CT_IMAGE_STORAGE, "1.2.3", b"data")


def counted(reason: str) -> float:
    return REGISTRY.get_sample_value("firstread_associations_refused_total", {"reason": reason}) or 0.0


def test_a_title_from_its_address_is_served_and_from_another_rejected(tmp_path: Path) -> None:
    before = counted("address"), counted("calling_ae")
    with serving(tmp_path, *map(Caller.parse, ("CT1@127.0.0.0/8", "CT2@192.0.2.7", "CT3"))) as (listener, told):
        assert calls(listener, "CT1") == 0x0000
        assert calls(listener, "CT3") == 0x0000
        for title in ("CT2", "CT4"):
            with pytest.raises(AssociationRejected) as rejected:
                calls(listener, title)
            assert (rejected.value.result, rejected.value.source, rejected.value.reason) == (1, 1, 3)
    lines = [line for line in told if line["event"] == "association_rejected"]
    assert [line["objection"] for line in lines] == ["address", "calling_ae"]
    assert "AE@ADDRESS" in lines[0]["fix"]
    assert (counted("address"), counted("calling_ae")) == (before[0] + 1, before[1] + 1)


def test_an_address_that_nobody_may_call_from_is_closed_at_once(tmp_path: Path) -> None:
    before = counted("address")
    rules = map(Caller.parse, ("CT1@192.0.2.0/24", "CT1@2001:db8::/32"))
    with (
        serving(tmp_path, *rules) as (listener, told),
        pytest.raises((AssociationAborted, ConnectionError)),
    ):
        calls(listener, "CT1")
    assert [line["event"] for line in told if "refused" in line["event"]] == ["address_refused"]
    assert counted("address") == before + 1


def test_other_refusals_are_counted_too(tmp_path: Path) -> None:
    before = counted("called_ae"), counted("limit")
    with serving(tmp_path, require_called_ae=True) as (listener, _), pytest.raises(AssociationRejected):
        calls(listener, "CT1", called="OTHER")
    with (
        serving(tmp_path, max_associations=1) as (listener, _),
        RawAssociation(*listener.address, CONTEXTS),
        pytest.raises(AssociationRejected),
    ):
        calls(listener, "CT1")
    assert (counted("called_ae"), counted("limit")) == (before[0] + 1, before[1] + 1)


@pytest.mark.parametrize(("caller", "warned"), [("CT1", True), ("CT1@127.0.0.1", False)])
def test_a_plain_port_beside_tls_wants_addresses(tmp_path: Path, caller: str, warned: bool) -> None:
    with serving(tmp_path, Caller.parse(caller), plain_port=0) as (listener, told):
        with RawAssociation("127.0.0.1", listener.plain_port or 0, CONTEXTS, calling="CT1") as association:
            assert association.store(CT_IMAGE_STORAGE, "1.2.3", b"data") == 0x0000
        assert calls(listener, "CT1") == 0x0000
    assert ("plain_port_asks_for_a_title_alone" in {line["event"] for line in told}) is warned
