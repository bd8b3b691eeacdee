"""Where a data set begins, whoever wrote the file."""

from io import BytesIO

import pytest
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from tests.support.bombs import element, implicit
from tests.support.objects import prefix
from worker.file_format import find_data_set

START = b"\0" * 128 + b"DICM"
CT = element(0x00080060, "CS", b"CT")


def found(content: bytes) -> tuple[str, bytes]:
    file = BytesIO(content)
    return find_data_set(file), file.read()


def test_the_file_meta_information_says_it() -> None:
    ours = prefix(DeflatedExplicitVRLittleEndian)
    assert found(ours + b"deflated") == (DeflatedExplicitVRLittleEndian, b"deflated")


def test_what_follows_its_length_is_the_senders() -> None:
    theirs = element(0x00020010, "UI", b"1.2.840.10008.1.2.2\0") + CT
    assert found(prefix(ExplicitVRLittleEndian) + theirs) == (ExplicitVRLittleEndian, theirs)


def test_without_a_length_it_ends_with_its_group() -> None:
    meta = element(0x00020010, "UI", b"1.2.840.10008.1.2.2\0")
    assert found(START + meta + CT) == (ExplicitVRBigEndian, CT)


@pytest.mark.parametrize(("data_set", "syntax"), [
    (CT, ExplicitVRLittleEndian),
    (implicit(0x00080060, b"CT"), ImplicitVRLittleEndian),
    (b"\0\x08\0\x60CS\0\x02CT", ExplicitVRBigEndian),
])  # fmt: skip
def test_without_any_the_first_element_does(data_set: bytes, syntax: str) -> None:
    assert found(data_set) == (syntax, data_set)


def test_file_meta_information_without_end_is_an_error() -> None:
    with pytest.raises((ValueError, OSError)):
        find_data_set(BytesIO(START + element(0x00020099, "CS", b"") * 1000))
