"""Bombs where no child stands between: a report's look at its source, `route` and `predict` of a file of any origin."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from models.bulk import UnusableFileError
from tests.support.bombs import MIB, element, header_bombs, implicit
from tests.support.objects import prefix
from worker.commands.model_files import header_of
from worker.intake.file_meta import PREFIX_BYTES
from worker.intake.header_text import VALUE_CHARACTERS, Header
from worker.reporting.identity import identity, read_header

SEQUENCE = implicit(0x00081140, b"", 0xFFFFFFFF)
EMPTY_ITEMS = SEQUENCE + implicit(0xFFFEE000, b"") * 500_000
COSTLY = [
    "nested", "half a million elements", "half a million elements in an item", "half a million items",
    "a name of 5 MB", "character sets of 1 MB", "longer than the object", "deflated", "private creators",
]  # fmt: skip
"""The bombs that show a bound each; the others differ in what a value holds."""


@pytest.fixture
def used() -> Callable[[], int]:
    """How much memory more was resident at once than at the beginning, bytes."""

    def peak() -> int:
        lines = Path(f"/proc/{os.getpid()}/status").read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))

    header_bombs()
    Path("/proc/self/clear_refs").write_text("5")
    before = peak()
    return lambda: peak() - before


@pytest.mark.parametrize("name", COSTLY)
def test_a_report_takes_no_more_of_its_source_than_it_can_carry(
    tmp_path: Path, name: str, used: Callable[[], int]
) -> None:
    path = tmp_path / "bomb.dcm"
    path.write_bytes(header_bombs()[name])
    header = read_header(path)
    assert len(header) < 30
    taken, _ = identity(header)
    assert str(taken.PatientName) == ""
    assert used() < 160 * MIB


def test_what_comes_before_a_bomb_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "bomb.dcm"
    patient = implicit(0x00100020, b"ID 7")
    path.write_bytes(prefix(ImplicitVRLittleEndian) + patient + EMPTY_ITEMS + implicit(0x00200010, b"S1"))
    taken, _ = identity(read_header(path))
    assert (taken.PatientID, taken.StudyID) == ("ID 7", "")


def test_a_source_that_begins_like_file_meta_is_read_as_it_was_sent(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    theirs = element(0x00020010, "UI", b"1.2.840.10008.1.2\0") + element(0x00100020, "LO", b"ID 7")
    path.write_bytes(prefix(ExplicitVRLittleEndian) + theirs)
    assert identity(read_header(path))[0].PatientID == "ID 7"


@pytest.mark.parametrize(("origin", "name"), [
    ("ours", "half a million elements in an item"),
    *(("no file meta", name) for name in COSTLY if name != "deflated"),
    ("no length of file meta", "deflated"),
    ("no length of file meta", "a name of 5 MB"),
])  # fmt: skip
def test_a_file_of_any_origin_is_bounded(tmp_path: Path, name: str, origin: str, used: Callable[[], int]) -> None:
    content = header_bombs()[name]
    start = PREFIX_BYTES + int.from_bytes(content[PREFIX_BYTES - 4 : PREFIX_BYTES], "little")
    path = tmp_path / "bomb.dcm"
    if origin == "no file meta":
        content = content[start:]
    elif origin == "no length of file meta":
        content = content[: PREFIX_BYTES - 12] + content[PREFIX_BYTES:]
    path.write_bytes(content)
    header: Header = {}
    with contextlib.suppress(UnusableFileError):
        header = header_of(path, ["Modality", "PatientName", "StudyDescription"])
    assert all(len(text) <= VALUE_CHARACTERS for values in header.values() for text in values)
    assert used() < 400 * MIB
