"""The way to the pixels: whatever is wrong on it is said in the catalogue's words, and quotes nobody."""

import mmap
from pathlib import Path

import pytest
from pydicom.uid import ExplicitVRLittleEndian

from tests.support.bombs import element
from tests.support.objects import prefix
from worker.errors import PixelError
from worker.inference.part10 import MappedFile, Part10

START = b"\0" * 128 + b"DICM"


def reason(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with path.open("rb") as file, pytest.raises(PixelError) as caught:
        Part10(MappedFile(file.fileno(), 0, access=mmap.ACCESS_READ), inflated_bytes=1 << 20)
    return str(caught.value)


@pytest.mark.parametrize("value", [b"DOE", b"DOE^J"])
def test_a_number_of_half_a_length_where_a_text_belongs(tmp_path: Path, value: bytes) -> None:
    modality = element(0x00080060, "US", value)
    said = reason(tmp_path / "a.dcm", prefix(ExplicitVRLittleEndian) + modality + element(0x00280010, "US", b"\1\0"))
    assert said == "Modality (0008,0060) cannot be read: BytesLengthException"
    said = reason(tmp_path / "b.dcm", START + element(0x00020010, "US", value) + modality)
    assert said == "TransferSyntaxUID (0002,0010) cannot be read: BytesLengthException"


def test_a_sequence_where_a_text_belongs(tmp_path: Path) -> None:
    item = b"\xfe\xff\x00\xe0\x0c\0\0\0" + element(0x20525250, "ES", b"DOE^")
    said = reason(tmp_path / "a.dcm", prefix(ExplicitVRLittleEndian) + element(0x00080060, "SQ", item))
    assert said == "Modality (0008,0060) is a sequence where a text belongs"


@pytest.mark.parametrize(("count", "words"), [
    (60, "no pixel data"), (120, "its header has more than 100 elements: it is refused as a bomb"),
])  # fmt: skip
def test_too_many_elements_are_a_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, words: str) -> None:
    monkeypatch.setattr("worker.inference.part10._MAX_ELEMENTS", 100)
    content = prefix(ExplicitVRLittleEndian) + element(0x00080060, "CS", b"DX") * count
    assert words in reason(tmp_path / "c.dcm", content)


@pytest.mark.parametrize("deeper", range(12))
def test_sequences_nested_without_end_wherever_the_stack_ends(tmp_path: Path, deeper: int) -> None:
    def from_deeper(calls: int) -> str:
        return from_deeper(calls - 1) if calls else reason(tmp_path / "n.dcm", START + level * 2_000)

    level = b"\x40\x00\x30\xa7SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    assert from_deeper(deeper) == "sequences are nested too deeply: the object is damaged or hostile"
