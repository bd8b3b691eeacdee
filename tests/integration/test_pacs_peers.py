"""Deliveries to real peers: dcmtk's storescp, and Orthanc."""

import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.uid import Comprehensive3DSRStorage, ComprehensiveSRStorage

from tests.support.study_results import result_of, source
from worker.config import Peer
from worker.errors import PeerUnreachable
from worker.reporting import pacs
from worker.reporting.structured_report import build, write

ONLY_COMPREHENSIVE = """
[[TransferSyntaxes]]
[Uncompressed]
TransferSyntax1 = LittleEndianExplicit
TransferSyntax2 = LittleEndianImplicit
[[PresentationContexts]]
[Old]
PresentationContext1 = ComprehensiveSRStorage\\Uncompressed
PresentationContext2 = VerificationSOPClass\\Uncompressed
[[Profiles]]
[Default]
PresentationContexts = Old
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(command: list[str], peer: Peer, log: Path) -> Iterator[Peer]:
    """A peer's process; it is ready when it answers a C-ECHO."""
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
        try:
            deadline = time.monotonic() + 20
            while True:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                with suppress(PeerUnreachable):
                    pacs.echo(peer, "FIRSTREAD", connect_seconds=1, dimse_seconds=5)
                    break
                time.sleep(0.05)
            yield peer
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


@contextmanager
def storescp(directory: Path, *options: str) -> Iterator[Peer]:
    directory.mkdir()
    peer = Peer(ae_title="PACS", host="127.0.0.1", port=free_port())
    command = ["storescp", "-od", str(directory), "-aet", "PACS", *options, str(peer.port)]
    with running(command, peer, directory.parent / "storescp.log") as ready:
        yield ready


@contextmanager
def orthanc(directory: Path) -> Iterator[tuple[Peer, int]]:
    peer, web = Peer(ae_title="ORTHANC", host="127.0.0.1", port=free_port()), free_port()
    settings = directory / "orthanc.json"
    settings.write_text(
        json.dumps(
            {
                "StorageDirectory": str(directory / "storage"), "IndexDirectory": str(directory / "storage"),
                "DicomAet": "ORTHANC", "DicomPort": peer.port, "DicomAlwaysAllowStore": True,
                "HttpPort": web, "RemoteAccessAllowed": False, "AuthenticationEnabled": False, "Plugins": [],
            }
        )
    )  # fmt: skip
    executable = shutil.which("Orthanc")
    assert executable
    with running([executable, str(settings)], peer, directory / "orthanc.log") as ready:
        yield ready, web


def fetch(web: int, path: str) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{web}{path}", timeout=10) as answer:
        return bytes(answer.read())


def ask(web: int, path: str) -> Any:
    return json.loads(fetch(web, path))


@pytest.fixture
def report(tmp_path: Path) -> Path:
    header = source(
        PatientName="Yamada^Tarou=山田^太郎", SpecificCharacterSet=["", "ISO 2022 IR 87"], AccessionNumber="A1"
    )
    write(build(result_of(header)), tmp_path / "report.dcm")
    return tmp_path / "report.dcm"


@pytest.mark.peer("storescp", "dsrdump")
def test_dcmtk_stores_it_under_one_uid_however_often_it_is_sent(report: Path, tmp_path: Path) -> None:
    with storescp(tmp_path / "received") as peer:
        for _ in range(2):
            assert pacs.deliver(report, peer, "FIRSTREAD") == pacs.Delivered(Comprehensive3DSRStorage, 0, None)
    (received,) = (tmp_path / "received").iterdir()
    sent, got = pydicom.dcmread(report), pydicom.dcmread(received)
    assert got == sent
    dump = subprocess.run(["dsrdump", str(received)], capture_output=True, check=False)
    assert dump.returncode == 0
    assert b"Comprehensive 3D SR Document" in dump.stdout


@pytest.mark.peer("storescp", "dsrdump")
def test_a_dcmtk_that_knows_only_comprehensive_sr_gets_that(report: Path, tmp_path: Path) -> None:
    config = tmp_path / "storescp.cfg"
    config.write_text(ONLY_COMPREHENSIVE)
    with storescp(tmp_path / "received", "--config-file", str(config), "Default") as peer:
        delivered = pacs.deliver(report, peer, "FIRSTREAD")
    assert delivered.sop_class_uid == ComprehensiveSRStorage
    (received,) = (tmp_path / "received").iterdir()
    assert pydicom.dcmread(received).SOPInstanceUID == pydicom.dcmread(report).SOPInstanceUID
    dump = subprocess.run(["dsrdump", str(received)], capture_output=True, check=False)
    assert dump.returncode == 0
    assert b"Comprehensive SR Document" in dump.stdout


@pytest.mark.peer("Orthanc")
def test_orthanc_holds_one_instance_after_two_deliveries(report: Path, tmp_path: Path) -> None:
    with orthanc(tmp_path) as (peer, web):
        for _ in range(2):
            assert pacs.deliver(report, peer, "FIRSTREAD").status == 0
        (instance,) = ask(web, "/instances")
        assert pydicom.dcmread(BytesIO(fetch(web, f"/instances/{instance}/file"))) == pydicom.dcmread(report)
        tags = ask(web, f"/instances/{instance}/simplified-tags")
        assert tags["SeriesDescription"] == "AI triage - NOT FOR DIAGNOSIS"
        (study,) = ask(web, "/studies")
        assert ask(web, f"/studies/{study}")["MainDicomTags"]["AccessionNumber"] == "A1"
