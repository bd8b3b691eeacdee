"""Any DICOM file is sent as it is stored: to our own kind of SCP, one that keeps the very bytes."""

import logging
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import AllTransferSyntaxes
from pynetdicom import AE, _config, evt

from tests.support.objects import film, prefix, save
from tests.support.scp import start_scp
from tests.support.spooled import split
from worker.config import Peer
from worker.reporting.pacs import SendOutcome, send_files

JPEG_XL = "1.2.840.10008.1.2.4.111"
CR = "1.2.840.10008.5.1.4.1.1.1"


class Keeper:
    """A Storage SCP for anything, that keeps what it was sent: SOP Instance UID → (transfer syntax, data set bytes)."""

    def __init__(self) -> None:
        self.kept: dict[str, tuple[str, bytes]] = {}
        self.associations: set[int] = set()
        self.open = self.most = 0
        self.abort_at: str | None = None
        self.lock = threading.Lock()

    def store(self, event: Any) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        with self.lock:
            self.associations.add(id(event.assoc))
        if uid == self.abort_at:
            self.abort_at = None
            event.assoc.abort()
            return 0x0000
        self.kept[uid] = (str(event.context.transfer_syntax), event.request.DataSet.getvalue())
        return 0x0000


@pytest.fixture
def keeper(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Keeper, Peer]]:
    monkeypatch.setattr(_config, "UNRESTRICTED_STORAGE_SERVICE", True)
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
    keeper = Keeper()
    ae = AE(ae_title="PACS")
    ae.maximum_associations = 20
    for syntax in (*AllTransferSyntaxes, JPEG_XL):
        ae.add_supported_context(CR, syntax)
    server = start_scp(ae, [(evt.EVT_C_STORE, keeper.store)])
    yield keeper, Peer(ae_title="PACS", host="127.0.0.1", port=server.socket.getsockname()[1])
    server.shutdown()
    logging.getLogger("pynetdicom").setLevel(logging.NOTSET)


def sent(paths: list[Path], peer: Peer, **options: Any) -> dict[Path, SendOutcome]:
    outcomes = list(send_files(paths, peer, "FIRSTREAD", connect_seconds=2, dimse_seconds=5, **options))
    assert len(outcomes) == len(paths)
    return {outcome.path: outcome for outcome in outcomes}


@pytest.mark.real_scans
def test_every_real_file_arrives_byte_for_byte_or_says_why(keeper: tuple[Keeper, Peer], scans: Path) -> None:
    kept, peer = keeper
    files = sorted((scans / "dicom" / "files").iterdir())
    outcomes = sent(files, peer)
    delivered = [path for path in files if outcomes[path].error is None]
    assert len(delivered) > 120
    for path in files:
        outcome = outcomes[path]
        assert (outcome.status == 0) == (outcome.error is None)
        assert outcome.error is None or "no DICOM object" in outcome.error or path.name == "dwv__DICOMDIR"
    # the last of those that share a SOP Instance UID is what was kept
    for path in {outcomes[path].sop_instance_uid: path for path in delivered}.values():
        _, data = kept.kept[outcomes[path].sop_instance_uid or ""]
        assert path.read_bytes().endswith(data)
        if path.read_bytes()[128:132] == b"DICM":
            assert split(path.read_bytes())[1].endswith(data)


def test_a_file_without_file_meta_information_gets_one(keeper: tuple[Keeper, Peer], tmp_path: Path) -> None:
    kept, peer = keeper
    whole = save(film(), tmp_path / "whole.dcm")
    data = split(whole.read_bytes())[1]
    bare = tmp_path / "bare.dcm"
    bare.write_bytes(data)
    no_preamble = tmp_path / "no-preamble.dcm"
    no_preamble.write_bytes(whole.read_bytes()[132:])
    for path in (bare, no_preamble):
        kept.kept.clear()
        assert sent([path], peer)[path].error is None
        ((_, received),) = kept.kept.values()
        assert received == data
    assert bare.read_bytes() == data


def test_what_is_no_dicom_is_an_outcome(keeper: tuple[Keeper, Peer], tmp_path: Path) -> None:
    _, peer = keeper
    page, lost, good = tmp_path / "page.dcm", tmp_path / "lost.dcm", save(film(), tmp_path / "good.dcm")
    page.write_text("<html>not a scan</html>" * 40)
    outcomes = sent([page, lost, good], peer)
    assert "no DICOM object" in (outcomes[page].error or "")
    assert "No such file" in (outcomes[lost].error or "")
    assert outcomes[good].error is None


def test_what_the_peer_does_not_take_is_said(
    keeper: tuple[Keeper, Peer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, peer = keeper
    monkeypatch.setattr(_config, "UNRESTRICTED_STORAGE_SERVICE", False)
    odd = tmp_path / "odd.dcm"
    odd.write_bytes(prefix("1.2.3.4.5", CR, "1.2.3.9") + b"anything")
    good = save(film(SOPClassUID=CR), tmp_path / "good.dcm")
    outcomes = sent([odd, good], peer)
    assert "does not accept" in (outcomes[odd].error or "")
    assert outcomes[good].error is None


def test_a_transfer_syntax_the_library_does_not_know(keeper: tuple[Keeper, Peer], tmp_path: Path) -> None:
    kept, peer = keeper
    new, good = tmp_path / "xl.dcm", save(film(SOPClassUID=CR), tmp_path / "good.dcm")
    new.write_bytes(prefix(JPEG_XL, CR, "1.2.3.9") + b"anything")
    outcomes = sent([good, new], peer)
    assert [outcomes[path].error for path in (new, good)] == [None, None]
    assert kept.kept["1.2.3.9"] == (JPEG_XL, b"anything")


def test_more_kinds_than_an_association_can_have(keeper: tuple[Keeper, Peer], tmp_path: Path) -> None:
    kept, peer = keeper
    paths = []
    for number in range(150):  # a class each
        path = tmp_path / f"{number}.dcm"
        path.write_bytes(prefix("1.2.840.10008.1.2.1", f"1.2.3.4.{number}", f"1.2.3.5.{number}") + b"data")
        paths.append(path)
    outcomes = sent(paths, peer)
    assert all(outcome.error is None for outcome in outcomes.values())
    assert len(kept.associations) == 2


@pytest.mark.parametrize("associations", [1, 4])
def test_a_peer_that_breaks_off_costs_one_file(keeper: tuple[Keeper, Peer], tmp_path: Path, associations: int) -> None:
    kept, peer = keeper
    paths = []
    for number in range(12):
        path = tmp_path / f"{number}.dcm"
        path.write_bytes(prefix("1.2.840.10008.1.2.1", CR, f"1.2.3.5.{number}") + b"data")
        paths.append(path)
    kept.abort_at = "1.2.3.5.4"
    outcomes = sent(paths, peer, max_associations=associations)
    failed = [path.name for path, outcome in outcomes.items() if outcome.error]
    assert failed == ["4.dcm"]
    assert len(kept.kept) == 11
    assert len(kept.associations) >= max(2, associations)


def test_nobody_there(tmp_path: Path) -> None:
    path = save(film(), tmp_path / "one.dcm")
    copy = Path(shutil.copy(path, tmp_path / "two.dcm"))
    outcomes = sent([path, copy], Peer(ae_title="PACS", host="127.0.0.1", port=1))
    assert all("no connection" in (outcome.error or "") for outcome in outcomes.values())
