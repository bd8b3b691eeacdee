"""The stand-in PACS keeps what it gets, byte for byte, and takes no path from a sender."""

import socket
from pathlib import Path
from types import SimpleNamespace

from pydicom import dcmread
from pynetdicom import AE, build_context

from worker.demo.phantoms import generate
from worker.demo.stand_in_pacs import StandInPacs


def test_it_answers_echo_and_keeps_what_it_gets(tmp_path: Path) -> None:
    phantom = next(generate(tmp_path / "phantoms", film_pixels=64, ct_pixels=64))
    ds = dcmread(phantom.path)
    ae = AE(ae_title="TEST")
    ae.requested_contexts = [
        build_context(ds.SOPClassUID, ds.file_meta.TransferSyntaxUID),
        build_context("1.2.840.10008.1.1"),
    ]
    with StandInPacs(tmp_path / "pacs") as pacs:
        association = ae.associate(pacs.peer.host, pacs.peer.port, ae_title=pacs.peer.ae_title)
        assert association.is_established
        assert association.send_c_echo().Status == 0x0000
        assert association.send_c_store(ds).Status == 0x0000
        association.release()
        (kept,) = pacs.received()
        found = dcmread(kept)
        assert found == ds
        assert found.file_meta.TransferSyntaxUID == ds.file_meta.TransferSyntaxUID
    with socket.socket() as probe:
        assert probe.connect_ex((pacs.peer.host, pacs.peer.port)) != 0


def test_a_uid_that_is_a_path_is_refused(tmp_path: Path) -> None:
    request = SimpleNamespace(AffectedSOPInstanceUID="../../evil")
    with StandInPacs(tmp_path / "a" / "b") as pacs:
        assert pacs._store(SimpleNamespace(request=request, encoded_dataset=lambda: b"bytes")) == 0x0117
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_folder_that_cannot_be_written_is_out_of_resources(tmp_path: Path) -> None:
    request = SimpleNamespace(AffectedSOPInstanceUID="1.2.3")
    with StandInPacs(tmp_path / "pacs") as pacs:
        pacs.directory.rmdir()
        assert pacs._store(SimpleNamespace(request=request, encoded_dataset=lambda: b"bytes")) == 0xA700
