"""Deliveries to a Storage SCP that answers whatever a test wants: refusals, warnings, silence, a closed connection."""

import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    EnhancedSRStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pynetdicom import AE, build_context, evt
from pynetdicom.sop_class import Verification

from tests.support.fakes import make_pipeline
from tests.support.objects import save
from tests.support.pipelines import bright, infer
from tests.support.scp import start_scp
from tests.support.study_results import result_of, source
from worker.config import Peer
from worker.errors import PeerUnreachable, ReportError, ReportRefused
from worker.reporting import pacs, storage_status
from worker.reporting.association import association
from worker.reporting.kept_associations import LONGEST_SECONDS
from worker.reporting.structured_report import build, write

SRS = (Comprehensive3DSRStorage, ComprehensiveSRStorage, EnhancedSRStorage)
BOTH = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
QUICK = {"connect_seconds": 1.0, "dimse_seconds": 1.0}

pytestmark = pytest.mark.usefixtures("_quiet")


@pytest.fixture
def _quiet() -> Iterator[None]:
    logger = logging.getLogger("pynetdicom")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(level)


@contextmanager
def scp(
    answer: Callable[[Any], Any] = lambda _event: 0x0000,
    *,
    classes: tuple[str, ...] = SRS,
    syntaxes: tuple[str, ...] = BOTH,
    called: str = "PACS",
) -> Iterator[Peer]:
    """A Storage SCP; `answer` gets the C-STORE event and returns a status."""
    ae = AE(ae_title=called)
    ae.require_called_aet = True
    for name in (*classes, Verification):
        ae.add_supported_context(name, list(syntaxes) if name != Verification else None)
    server = start_scp(ae, [(evt.EVT_C_STORE, answer)])
    try:
        yield Peer(ae_title="PACS", host="127.0.0.1", port=server.socket.getsockname()[1])
    finally:
        server.shutdown()


@pytest.fixture
def report(tmp_path: Path) -> Path:
    return stored(tmp_path)


def stored(directory: Path, name: str = "report.dcm", **changes: Any) -> Path:
    write(
        build(result_of(source(PatientName="Müller^Jörg", SpecificCharacterSet="ISO_IR 100"), **changes)),
        directory / name,
    )
    return directory / name


def status(value: int, comment: str = "") -> Dataset:
    answered = Dataset()
    answered.Status = value
    if comment:
        answered.ErrorComment = comment
    return answered


COMMENT = "Patient DOE^JANE 4711 not in RIS"
"""Error Comment (0000,0902) is free text: what a peer writes into it may be a name."""


def test_it_arrives_byte_for_byte(report: Path) -> None:
    received: list[bytes] = []

    def keep(event: Any) -> int:
        received.append(event.encoded_dataset(include_meta=False))
        return 0x0000

    with scp(keep) as peer:
        assert pacs.deliver(report, peer, "FIRSTREAD") == pacs.Delivered(Comprehensive3DSRStorage, 0x0000, None)
    whole = report.read_bytes()
    assert whole.endswith(received[0])
    assert len(whole) - len(received[0]) < 400


@pytest.mark.parametrize(
    ("iod", "accepted", "sent_as"),
    [
        ("comprehensive_3d", (ComprehensiveSRStorage, EnhancedSRStorage), ComprehensiveSRStorage),
        ("comprehensive", (Comprehensive3DSRStorage,), Comprehensive3DSRStorage),
        ("enhanced", (Comprehensive3DSRStorage, ComprehensiveSRStorage), ComprehensiveSRStorage),
    ],
)
def test_it_goes_as_another_kind_of_sr_where_its_own_is_not_taken(
    tmp_path: Path, iod: str, accepted: tuple[str, ...], sent_as: str
) -> None:
    received: list[Dataset] = []

    def keep(event: Any) -> int:
        received.append(event.dataset)
        return 0x0000

    path = stored(tmp_path, iod=iod)
    before = path.read_bytes()
    with scp(keep, classes=accepted) as peer:
        delivered = pacs.deliver(path, peer, "FIRSTREAD")
    assert delivered.sop_class_uid == sent_as == received[0].SOPClassUID
    assert delivered.warning is not None
    assert "sent as" in delivered.warning
    assert received[0].SOPInstanceUID == pydicom.dcmread(path).SOPInstanceUID
    assert str(received[0].PatientName) == "Müller^Jörg"
    assert path.read_bytes() == before


@pytest.mark.parametrize("accepted", [(EnhancedSRStorage,), ("1.2.840.10008.5.1.4.1.1.2",)])
def test_nothing_is_sent_as_enhanced_sr(report: Path, accepted: tuple[str, ...]) -> None:
    with scp(classes=accepted) as peer, pytest.raises(ReportRefused, match="FIRSTREAD_REPORT_IOD=enhanced"):
        pacs.deliver(report, peer, "FIRSTREAD", **QUICK)


def test_implicit_vr_alone_is_enough(report: Path) -> None:
    received: list[Dataset] = []

    def keep(event: Any) -> int:
        received.append(event.dataset)
        return 0x0000

    with scp(keep, syntaxes=(ImplicitVRLittleEndian,)) as peer:
        assert pacs.deliver(report, peer, "FIRSTREAD").status == 0
    assert str(received[0].PatientName) == "Müller^Jörg"


@pytest.mark.parametrize("value", [0xB000, 0xB006, 0xB007, 0x0111])
def test_a_warning_is_delivered_and_kept(report: Path, value: int) -> None:
    with scp(lambda _event: status(value, COMMENT)) as peer:
        delivered = pacs.deliver(report, peer, "FIRSTREAD")
    assert delivered.status == value
    assert delivered.warning is not None
    assert f"0x{value:04X}" in delivered.warning
    assert "DOE" not in delivered.warning


@pytest.mark.parametrize("value", [0xA700, 0xA701])
def test_out_of_resources_is_tried_later(report: Path, value: int) -> None:
    with scp(lambda _event: status(value, COMMENT)) as peer, pytest.raises(PeerUnreachable) as away:
        pacs.deliver(report, peer, "FIRSTREAD")
    assert f"0x{value:04X}" in str(away.value)
    assert "DOE" not in str(away.value)


@pytest.mark.parametrize("value", [0xC000, 0xA900, 0x0110, 0x0117, 0x0122, 0x0124])
def test_a_failure_is_a_refusal_with_its_meaning(report: Path, value: int) -> None:
    with scp(lambda _event: status(value, COMMENT)) as peer, pytest.raises(ReportRefused) as refused:
        pacs.deliver(report, peer, "FIRSTREAD")
    said = str(refused.value)
    assert f"0x{value:04X} (" in said
    assert storage_status.advice(value) in said
    assert "DOE" not in said
    assert str(peer) in said
    assert "Müller" not in said


def test_a_rejected_association_is_tried_later(report: Path) -> None:
    with scp(called="OTHER") as peer, pytest.raises(PeerUnreachable, match=r"rejected.*AE title"):
        pacs.deliver(report, peer, "FIRSTREAD", **QUICK)


def test_nobody_there(report: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        peer = Peer(ae_title="PACS", host="127.0.0.1", port=closed.getsockname()[1])
        with pytest.raises(PeerUnreachable, match="no connection"):
            pacs.deliver(report, peer, "FIRSTREAD", **QUICK)
        with pytest.raises(PeerUnreachable, match="no connection"):
            pacs.echo(peer, "FIRSTREAD", **QUICK)


def test_a_host_that_means_nothing(report: Path) -> None:
    with pytest.raises(PeerUnreachable, match="cannot be found"):
        pacs.deliver(report, Peer(ae_title="PACS", host="no-such-host.invalid", port=104), "FIRSTREAD", **QUICK)


def test_one_that_accepts_and_says_nothing(report: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        peer = Peer(ae_title="PACS", host="127.0.0.1", port=silent.getsockname()[1])
        with pytest.raises(PeerUnreachable, match="no answer to the association request"):
            pacs.deliver(report, peer, "FIRSTREAD", connect_seconds=0.3, dimse_seconds=0.3)


def test_one_that_never_answers_the_store(report: Path) -> None:
    released = threading.Event()

    def wait(_event: Any) -> int:
        released.wait(10)
        return 0x0000

    with scp(wait) as peer:
        with pytest.raises(PeerUnreachable, match="no answer to the C-STORE"):
            pacs.deliver(report, peer, "FIRSTREAD", connect_seconds=1, dimse_seconds=0.3)
        released.set()


def test_one_that_breaks_off_in_the_middle(tmp_path: Path) -> None:
    tries = []

    def leave(event: Any) -> int:
        tries.append(event.dataset.InstanceNumber)
        event.assoc.abort()
        return 0x0000

    first, second = stored(tmp_path, "1.dcm"), stored(tmp_path, "2.dcm", generation=2)
    with scp(leave) as peer, pacs.KeptAssociations() as kept:
        for path in (first, second):
            with pytest.raises(PeerUnreachable):
                pacs.deliver(path, peer, "FIRSTREAD", kept=kept, **QUICK)
    assert tries == [1, 2]


def test_several_over_one_association(tmp_path: Path) -> None:
    associations: set[int] = set()

    def refuse_the_second(event: Any) -> int:
        associations.add(id(event.assoc))
        return {2: 0xC000, 3: 0xA700}.get(event.dataset.InstanceNumber, 0x0000)

    one, two, three, four = [stored(tmp_path, f"{number}.dcm", generation=number) for number in (1, 2, 3, 4)]
    with scp(refuse_the_second) as peer, pacs.KeptAssociations() as kept:
        assert pacs.deliver(one, peer, "FIRSTREAD", kept=kept).status == 0
        with pytest.raises(ReportRefused):
            pacs.deliver(two, peer, "FIRSTREAD", kept=kept)
        with pytest.raises(ReportError):
            pacs.deliver(tmp_path / "lost.dcm", peer, "FIRSTREAD", kept=kept)
        with pytest.raises(PeerUnreachable):  # out of resources: it is not asked at once again
            pacs.deliver(three, peer, "FIRSTREAD", kept=kept)
        assert pacs.deliver(four, peer, "FIRSTREAD", kept=kept).status == 0
        assert len(associations) == 1
        other = stored(tmp_path, "other.dcm", iod="enhanced")
        assert pacs.deliver(other, peer, "FIRSTREAD", kept=kept).status == 0
        assert len(associations) == 2  # of another proposal


def test_one_that_breaks_off_between_two_is_called_again(tmp_path: Path) -> None:
    came = []

    def leave_after_the_first(event: Any) -> int:
        came.append(event.dataset.InstanceNumber)
        if came == [1, 2]:
            event.assoc.abort()
        return 0x0000

    paths = [stored(tmp_path, f"{number}.dcm", generation=number) for number in (1, 2, 3)]
    with scp(leave_after_the_first) as peer, pacs.KeptAssociations() as kept:
        delivered = [pacs.deliver(path, peer, "FIRSTREAD", kept=kept, **QUICK) for path in paths]
    assert [one.status for one in delivered] == [0, 0, 0]
    assert came == [1, 2, 2, 3]


def test_the_second_try_goes_as_what_the_first_did(tmp_path: Path) -> None:
    came = []

    def leave_at_the_second(event: Any) -> int:
        came.append(event.request.AffectedSOPClassUID)
        if len(came) == 2:
            event.assoc.abort()
        return 0x0000

    paths = [stored(tmp_path, f"{number}.dcm", generation=number) for number in (1, 2)]
    with scp(leave_at_the_second, classes=(ComprehensiveSRStorage,)) as peer, pacs.KeptAssociations() as kept:
        delivered = [pacs.deliver(path, peer, "FIRSTREAD", kept=kept, **QUICK) for path in paths]
    assert came == 3 * [ComprehensiveSRStorage]
    assert [one.warning is not None and "sent as" in one.warning for one in delivered] == [True, True]


def test_an_association_is_not_kept_for_ever(tmp_path: Path) -> None:
    associations: set[int] = set()
    now = 0.0

    def count(event: Any) -> int:
        associations.add(id(event.assoc))
        return 0x0000

    paths = [stored(tmp_path, f"{number}.dcm", generation=number) for number in (1, 2, 3)]
    with scp(count) as peer, pacs.KeptAssociations(lambda: now) as kept:
        for path, at in zip(paths, (0.0, LONGEST_SECONDS - 1, LONGEST_SECONDS + 1), strict=True):
            now = at
            pacs.deliver(path, peer, "FIRSTREAD", kept=kept)
    assert len(associations) == 2


def test_a_run_of_deliveries_needs_one_association(tmp_path: Path) -> None:
    associations: list[int] = []
    with scp(lambda event: associations.append(id(event.assoc)) or 0x0000) as peer:
        pipeline = make_pipeline(f"sqlite:///{tmp_path}/db", tmp_path, destinations=[peer])
        for number in range(3):
            with pipeline.spool.receive() as incoming:
                incoming.write(save(bright(), tmp_path / f"{number}.dcm").read_bytes())
                incoming.commit()
        infer(pipeline)
        assert (pipeline.report(), pipeline.deliver()) == (3, 3)
        pipeline.database.dispose()
    assert len(associations) == 3
    assert len(set(associations)) == 1


def test_a_destination_that_is_named_twice_gets_a_report_once(tmp_path: Path) -> None:
    came: list[str] = []
    with scp(lambda event: came.append(event.request.AffectedSOPInstanceUID) or 0x0000) as peer:
        pipeline = make_pipeline(f"sqlite:///{tmp_path}/db", tmp_path, destinations=[peer, peer])
        with pipeline.spool.receive() as incoming:
            incoming.write(save(bright(), tmp_path / "one.dcm").read_bytes())
            incoming.commit()
        infer(pipeline)
        assert (pipeline.report(), pipeline.deliver()) == (1, 1)
        pipeline.database.dispose()
    assert len(came) == 1


def test_a_peer_has_one_association_at_a_time_and_none_when_nothing_is_due(tmp_path: Path) -> None:
    open_now: list[int] = []
    most: list[int] = []

    def count(event: Any) -> int:
        open_now.append(1)
        most.append(sum(1 for thread in event.assoc.ae.active_associations if thread.is_established))
        return 0x0000

    one, two = stored(tmp_path, "1.dcm"), stored(tmp_path, "other.dcm", iod="enhanced")
    with scp(count) as peer, pacs.KeptAssociations() as kept:
        pacs.deliver(one, peer, "FIRSTREAD", kept=kept)
        pacs.deliver(two, peer, "FIRSTREAD", kept=kept)
        kept.release_all_but([str(peer)])
        assert kept.peers == {str(peer)}
        kept.release_all_but([])
        assert kept.peers == set()
        pacs.deliver(one, peer, "FIRSTREAD", kept=kept)
        kept.release(f"{peer}/tls")
        assert kept.peers == set()
    assert most == [1, 1, 1]


def test_what_is_sent_goes_out_at_once() -> None:
    with scp() as peer, association(peer, "FIRSTREAD", [build_context(Verification)]) as opened:
        assert opened.dul.socket.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_stored_report_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=r"gone\.dcm"):
        pacs.deliver(tmp_path / "gone.dcm", Peer(ae_title="PACS", host="127.0.0.1", port=1), "FIRSTREAD")


def test_echo() -> None:
    with scp() as peer:
        assert 0 < pacs.echo(peer, "FIRSTREAD") < 5


def test_echo_that_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    ae = AE(ae_title="PACS")
    ae.add_supported_context(Verification)
    server = start_scp(ae, [(evt.EVT_C_ECHO, lambda _event: 0x0122)])
    try:
        peer = Peer(ae_title="PACS", host="127.0.0.1", port=server.socket.getsockname()[1])
        with pytest.raises(PeerUnreachable, match="0x0122"):
            pacs.echo(peer, "FIRSTREAD")
    finally:
        server.shutdown()
