"""No file of the source or of its tests has grown too long to be read in one go."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("dicom_listener", "worker", "models", "tests")
MOST_LINES = 400


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_file_is_longer_than_four_hundred_lines(folder: str) -> None:
    lengths = {path.relative_to(ROOT): len(path.read_bytes().splitlines()) for path in (ROOT / folder).rglob("*.py")}
    assert lengths
    too_long = {str(path): lines for path, lines in lengths.items() if lines > MOST_LINES}
    assert not too_long, "split them by subject"
