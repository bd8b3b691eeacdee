"""Headers: read within bounds, identity kept where something is wrong further on."""

import hashlib
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.config import IGNORE
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from tests.support.objects import film, header_texts, prefix, save
from worker.intake.header_parsing import HEADER_LIMIT, parse
from worker.intake.header_text import text
from worker.intake.headers import HeaderReader, StoredObject

Read = Callable[[Path], StoredObject]
KEYWORDS = ("StudyInstanceUID", "PatientName", "Modality", "PixelData")


@pytest.fixture(scope="module")
def reader() -> Iterator[HeaderReader]:
    with HeaderReader() as reader:
        yield reader


@pytest.fixture
def read_object(reader: HeaderReader) -> Read:
    return lambda path: reader.read(path, KEYWORDS)


@pytest.mark.parametrize("syntax", [None, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_what_registration_needs(tmp_path: Path, syntax: str | None, read_object: Read) -> None:
    ds = film()
    path = save(ds, tmp_path / "a.dcm", *([syntax] if syntax else []), calling="CT01")
    stored = read_object(path)
    assert (stored.sop_instance_uid, stored.calling_ae, stored.defect) == (ds.SOPInstanceUID, "CT01", "")
    assert stored.has_pixels
    assert "PixelData" not in stored.header
    assert text(stored.header, "PatientName") == "Doe^Jane"
    assert stored.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert stored.size_bytes == path.stat().st_size


def test_the_data_set_digest_leaves_file_meta_aside(tmp_path: Path, read_object: Read) -> None:
    ds = film()
    first = read_object(save(ds, tmp_path / "a.dcm", calling="A"))
    second = read_object(save(ds, tmp_path / "b.dcm", calling="LONGER_NAME"))
    assert first.dataset_sha256 == second.dataset_sha256
    assert first.sha256 != second.sha256


@pytest.mark.parametrize("side", [64, 1100])
def test_digests_computed_side_by_side_are_the_same(tmp_path: Path, reader: HeaderReader, side: int) -> None:
    pixels = np.random.default_rng(side).integers(0, 4096, (side, side), np.uint16)  # more than a block, and less
    path = save(film(pixels), tmp_path / "a.dcm")
    assert reader.read(path, KEYWORDS, side_by_side=True) == reader.read(path, KEYWORDS)


def test_an_object_cut_short_keeps_its_identity(tmp_path: Path, read_object: Read) -> None:
    ds = film()
    path = save(ds, tmp_path / "a.dcm")
    path.write_bytes(path.read_bytes()[:700])
    stored = read_object(path)
    assert text(stored.header, "StudyInstanceUID") == ds.StudyInstanceUID
    assert not stored.has_pixels


def test_a_data_set_that_is_none_says_so(tmp_path: Path, read_object: Read) -> None:
    path = tmp_path / "a.dcm"
    path.write_bytes(prefix(ExplicitVRLittleEndian) + b"<html><body>not found</body></html>" * 20)
    assert "Explicit VR Little Endian" in read_object(path).defect
    path.write_bytes(prefix(ExplicitVRLittleEndian))
    assert read_object(path).defect == "the data set is empty"


def test_a_deflated_bomb_costs_no_more_than_the_limit(tmp_path: Path, read_object: Read) -> None:
    path = tmp_path / "a.dcm"
    deflater = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    bomb = b"".join(deflater.compress(b"\0" * (1 << 20)) for _ in range(512)) + deflater.flush()
    path.write_bytes(prefix(DeflatedExplicitVRLittleEndian) + bomb)
    assert read_object(path).defect
    with path.open("rb") as file:  # the same as the child reads it, here, where its memory can be counted
        tracemalloc.start()
        parsed = parse(file, len(prefix(DeflatedExplicitVRLittleEndian)), DeflatedExplicitVRLittleEndian, KEYWORDS)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert parsed.defect
    assert peak < 4 * HEADER_LIMIT


def test_deep_nesting_is_a_defect_not_a_crash(tmp_path: Path, read_object: Read) -> None:
    path = tmp_path / "a.dcm"
    level = bytes.fromhex("08 00 40 11") + b"SQ\0\0\xff\xff\xff\xff" + bytes.fromhex("fe ff 00 e0 ff ff ff ff")
    path.write_bytes(prefix(ExplicitVRLittleEndian) + level * 20_000)
    assert "RecursionError" in read_object(path).defect


def test_a_header_without_end_is_given_up(tmp_path: Path, read_object: Read) -> None:
    path = tmp_path / "a.dcm"
    path.write_bytes(prefix(ImplicitVRLittleEndian) + b"\0" * (4 << 20))
    assert "more than 20000 elements" in read_object(path).defect
    start = bytes.fromhex("08 00 40 11 ff ff ff ff fe ff 00 e0 ff ff ff ff")
    path.write_bytes(prefix(ImplicitVRLittleEndian) + start + b"\0" * (HEADER_LIMIT + 64))
    assert "more than 200000 elements" in read_object(path).defect
    long_value = bytes.fromhex("08 00 50 00") + (1 << 16).to_bytes(4, "little") + b"1" * (1 << 16)
    path.write_bytes(prefix(ImplicitVRLittleEndian) + start + long_value * 200)
    assert "longer than 8 MiB" in read_object(path).defect


def test_a_file_that_the_listener_did_not_write(tmp_path: Path, read_object: Read) -> None:
    path = tmp_path / "x.dcm"
    path.write_bytes(b"hello")
    assert "not written by the listener" in read_object(path).defect


def test_text_is_one_clean_line() -> None:
    ds = Dataset()
    ds.add(DataElement("StudyDescription", "LO", "two\r\nlines\0 " + "x" * 5000, validation_mode=IGNORE))
    header = header_texts(ds)
    assert text(header, "StudyDescription").startswith("twolines xxx")
    assert len(text(header, "StudyDescription")) == 1024
    assert text(header, "PatientName") == ""


@pytest.mark.real_scans
@pytest.mark.filterwarnings("ignore")  # pydicom's remarks about the files, as this test takes them apart
def test_every_awkward_file_is_read_or_has_a_defect_of_its_own(scans: Path, tmp_path: Path, read_object: Read) -> None:
    files = sorted((scans / "dicom" / "files").iterdir())
    assert len(files) > 100
    for file in files:
        data = file.read_bytes()
        try:
            meta = pydicom.filereader.read_file_meta_info(file)
            start, syntax = 144 + meta.FileMetaInformationGroupLength, str(meta.TransferSyntaxUID)
        except Exception:  # noqa: BLE001 - whatever it is, it is sent as it stands
            start, syntax = 0, str(ImplicitVRLittleEndian)
        path = tmp_path / "a.dcm"
        path.write_bytes(prefix(syntax) + data[start:])
        stored = read_object(path)
        assert stored.sop_instance_uid == "1.2.3.4"
        assert "process" not in stored.defect, file.name


def test_a_data_set_that_begins_like_file_meta_stays_the_senders(tmp_path: Path, read_object: Read) -> None:
    ours = prefix(ExplicitVRLittleEndian, sop_instance="1.2.3")
    theirs = bytes.fromhex("02001000") + b"UI\x12\x001.2.840.10008.1.2\0" + bytes.fromhex("08006000") + b"CS\x02\0CT"
    path = tmp_path / "a.dcm"
    path.write_bytes(ours + theirs)
    stored = read_object(path)
    assert stored.transfer_syntax_uid == ExplicitVRLittleEndian
    assert stored.dataset_sha256 == hashlib.sha256(theirs).hexdigest()
    assert text(stored.header, "Modality") == "CT"


@pytest.mark.filterwarnings("ignore")  # pydicom's remark about the long name, as it is written
def test_a_text_that_is_cut_at_a_space_is_clean_all_the_same(tmp_path: Path, read_object: Read) -> None:
    path = save(film(PatientName="x" * 1023 + " y"), tmp_path / "a.dcm")
    stored = read_object(path)
    assert (stored.defect, text(stored.header, "PatientName")) == ("", "x" * 1023)
