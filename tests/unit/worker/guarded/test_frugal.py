"""A frugal file ends what reads too much of it, and says why."""

from io import BytesIO

import pytest

from worker.guarded.frugal import FrugalFile


def test_it_is_the_file_within_its_bounds() -> None:
    file = FrugalFile(BytesIO(b"0123456789"), max_bytes=10, max_elements=3)
    assert file.read(2) == b"01"
    assert file.seek(6, 1) == file.tell() == 8
    assert file.read() == b"89"
    assert file.read(5) == b""
    assert file.exceeded == ""


@pytest.mark.parametrize("size", [9, None, -1, 1 << 40])
def test_bytes_are_counted_wherever_they_lie(size: int | None) -> None:
    file = FrugalFile(BytesIO(bytes(32)), max_bytes=16, max_elements=10)
    file.read(8)
    file.seek(16)
    with pytest.raises(ValueError, match="longer than"):
        file.read(size)
    assert "longer than" in file.exceeded
    assert file.tell() <= 25  # no more was read than that one byte is too many


def test_steps_are_counted_too() -> None:
    file = FrugalFile(BytesIO(bytes(32)), max_bytes=16, max_elements=2)
    for _ in range(2):
        file.read(1)
        file.seek(3, 1)
    with pytest.raises(ValueError, match="more than 2 elements"):
        file.read(1)
    assert file.exceeded == "its header has more than 2 elements"
