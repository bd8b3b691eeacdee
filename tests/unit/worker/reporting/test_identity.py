import tracemalloc
import warnings
import zlib
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from tests.support.study_results import source
from worker.reporting.identity import REQUIRED, STUDY, identity, read_header, time_zone


def written(dataset: Dataset) -> Dataset:
    """A data set as it comes back after having been written."""
    buffer = BytesIO()
    dataset.save_as(buffer, implicit_vr=False, little_endian=True)
    buffer.seek(0)
    return dcmread(buffer, force=True)


def file_of(header: Dataset, path: Path, syntax: str = ExplicitVRLittleEndian) -> Path:
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = syntax
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        header.save_as(path, enforce_file_format=True)
    return path


def test_what_is_absent_is_there_and_empty() -> None:
    taken, remarks = identity(Dataset())
    assert remarks == []
    for keyword in ("PatientID", "PatientName", *STUDY, *REQUIRED):
        assert keyword in taken
        assert not taken[keyword].value
    assert "PatientAge" not in taken
    assert "SpecificCharacterSet" not in taken


def test_what_identifies_is_taken_as_it_is() -> None:
    taken, remarks = identity(
        source(PatientID="  id 7 ", AccessionNumber="A1", StudyID="S1", StudyDescription="CHEST PA")
    )
    assert remarks == []
    assert (taken.PatientID, taken.AccessionNumber, taken.StudyID) == ("  id 7 ", "A1", "S1")
    assert str(taken.PatientName) == "Phantom^One"
    assert (taken.StudyDate, taken.StudyDescription) == ("20261119", "CHEST PA")


@pytest.mark.parametrize(
    ("keyword", "bad"),
    [
        ("PatientAge", "62"),
        ("PatientAge", "62Y"),
        ("PatientWeight", "0"),
        ("StudyDescription", "x" * 65),
        ("StudyDescription", "a\tb"),
        ("TimezoneOffsetFromUTC", "+25"),
        ("TimezoneOffsetFromUTC", "-0000"),
    ],
)
def test_a_bad_value_that_only_describes_is_left_out(keyword: str, bad: str) -> None:
    taken, remarks = identity(source(**{keyword: bad}))
    assert keyword not in taken
    assert remarks == []


@pytest.mark.parametrize(
    ("keyword", "bad"), [("PatientSex", "female"), ("PatientBirthDate", "19400231"), ("StudyTime", "2561")]
)
def test_a_bad_value_of_type_2_is_emptied(keyword: str, bad: str) -> None:
    taken, _ = identity(source(**{keyword: bad}))
    assert taken[keyword].value == ""


@pytest.mark.parametrize(
    ("keyword", "bad"), [("AccessionNumber", "x" * 17), ("StudyID", "a\\b"), ("StudyDate", "yesterday")]
)
def test_a_bad_identifier_of_the_study_is_left_empty_and_said(keyword: str, bad: str) -> None:
    taken, remarks = identity(source(**{keyword: bad}))
    assert taken[keyword].value == ""
    assert len(remarks) == 1
    assert "left empty" in remarks[0]
    assert bad not in remarks[0]


def test_a_bad_patient_id_is_kept_and_said() -> None:
    taken, remarks = identity(source(PatientID="x" * 70))
    assert taken.PatientID == "x" * 70
    assert len(remarks) == 1
    assert "taken as it is" in remarks[0]


@pytest.mark.parametrize(
    ("keyword", "old", "new"),
    [
        ("StudyDate", "1999.05.24", "19990524"),
        ("PatientBirthDate", "1940.01.02", "19400102"),
        ("StudyTime", "10:20:30", "102030"),
    ],
)
def test_dates_and_times_of_acr_nema_are_rewritten(keyword: str, old: str, new: str) -> None:
    taken, remarks = identity(source(**{keyword: old}))
    assert taken[keyword].value == new
    assert remarks == []


@pytest.mark.parametrize(
    ("terms", "raw", "text", "kept"),
    [
        (["GB18030"], "Wang^XiaoDong=王^小东=".encode("gb18030"), "Wang^XiaoDong=王^小东", True),
        (["", "ISO 2022 IR 149"], b"\x1b$)C\xb1\xe8\xc8\xf1\xc1\xdf\x1b(B", "김희중", True),
        (["ISO_IR 100"], "Müller^Jörg".encode("latin-1"), "Müller^Jörg", True),
        ([], "Müller^Jörg".encode("latin-1"), "Müller^Jörg", False),
        (["NOT_A_SET"], b"Doe^Jane", "Doe^Jane", True),
    ],
)
def test_a_name_is_written_byte_for_byte_where_its_character_set_carries_it(
    tmp_path: Path, terms: list[str], raw: bytes, text: str, kept: bool
) -> None:
    header = source()
    if terms:
        header.SpecificCharacterSet = terms
    del header.PatientName
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write_dataset(buffer, header[:0x00100010])
        buffer.write(b"\x10\0\x10\0PN" + (len(raw) + len(raw) % 2).to_bytes(2, "little") + raw + b" " * (len(raw) % 2))
        write_dataset(buffer, header[0x00100010:])
    path = tmp_path / "raw.dcm"
    path.write_bytes(buffer.getvalue())

    taken, _ = identity(read_header(path))
    back = written(taken)
    assert (back.get_item("PatientName").value.rstrip(b" ") == raw) is kept
    assert str(back.PatientName).rstrip("=") == text


def test_a_value_that_cannot_be_decoded_does_no_harm() -> None:
    header = source()
    header.SpecificCharacterSet = "ISO_IR 192"
    header.add_new("PatientComments", "LT", b"\xff\xfe")
    taken, _ = identity(header)
    assert taken.PatientID == "P1"


@pytest.mark.parametrize("offset", ["+0130", "-0800"])
def test_the_time_zone_of_the_source_is_used(offset: str) -> None:
    taken, _ = identity(source(TimezoneOffsetFromUTC=offset))
    zone = time_zone(taken)
    assert zone is not None
    sign = -1 if offset[0] == "-" else 1
    assert zone.utcoffset(None) == sign * timedelta(hours=int(offset[1:3]), minutes=int(offset[3:]))
    assert time_zone(identity(source())[0]) is None


def test_a_deflated_bomb_stays_small(tmp_path: Path) -> None:
    path = file_of(source(), tmp_path / "bomb.dcm", DeflatedExplicitVRLittleEndian)
    whole = path.read_bytes()
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, source())
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    bomb = deflater.compress(buffer.getvalue())
    zeros = bytes(1 << 20)
    bomb += b"".join(deflater.compress(zeros) for _ in range(200)) + deflater.flush()
    meta_length = 132 + 12 + int.from_bytes(whole[140:144], "little")
    path.write_bytes(whole[:meta_length] + bomb)
    tracemalloc.start()
    header = read_header(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert header.PatientID == "P1"
    assert peak < 40 << 20


def test_of_a_damaged_file_what_comes_first_is_taken(tmp_path: Path) -> None:
    path = file_of(source(), tmp_path / "cut.dcm")
    path.write_bytes(path.read_bytes()[:-30])
    assert read_header(path).PatientID == "P1"


@pytest.mark.parametrize("content", [b"", b"DICM", bytes(200), b"<html>" * 50, bytes(128) + b"DICM" + b"\xff" * 99])
def test_what_does_not_begin_like_a_data_set_says_nothing(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "nothing.dcm"
    path.write_bytes(content)
    assert len(read_header(path)) == 0


def test_a_file_that_is_gone_is_an_error_of_the_disk(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_header(tmp_path / "gone.dcm")


def test_hostile_values_never_raise() -> None:
    class Hostile(Dataset):
        def get(self, key: Any, default: Any = None) -> Any:
            if key == "PatientAge":
                raise RuntimeError(key)
            return super().get(key, default)

    header = Hostile(source())
    assert "PatientAge" not in identity(header)[0]
