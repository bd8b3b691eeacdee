from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from worker.inference.preview import write_preview


def test_a_small_image_is_kept_as_it_is(tmp_path: Path) -> None:
    image = np.array([[0, 0.4, 0.6], [127.5, 254.6, 300]], np.float32)
    path = tmp_path / "new" / "7.png"
    write_preview(image, path)
    with Image.open(path) as picture:
        assert (picture.format, picture.mode) == ("PNG", "L")
        assert np.asarray(picture).tolist() == [[0, 0, 1], [128, 255, 255]]
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(("shape", "expected"), [
    ((2048, 1024), (1024, 512)), ((1000, 3000), (341, 1024)), ((5000, 1), (1024, 1)), ((1024, 1024), (1024, 1024)),
])  # fmt: skip
def test_the_longest_side_is_1024(tmp_path: Path, shape: tuple[int, int], expected: tuple[int, int]) -> None:
    write_preview(np.zeros(shape, np.float32), tmp_path / "p.png")
    with Image.open(tmp_path / "p.png") as picture:
        assert (picture.height, picture.width) == expected


def test_a_reduced_pixel_is_the_mean_of_those_it_stands_for(tmp_path: Path) -> None:
    image = np.tile(np.array([[0, 200], [50, 150]], np.float32), (1024, 1024))
    write_preview(image, tmp_path / "p.png")
    with Image.open(tmp_path / "p.png") as picture:
        assert np.unique(np.asarray(picture)).tolist() == [100]


def test_an_old_preview_is_replaced_whole_or_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "p.png"
    write_preview(np.zeros((2, 2), np.float32), path)
    before = path.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", full)
        with pytest.raises(OSError, match="No space"):
            write_preview(np.ones((2, 2), np.float32), path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["p.png"]
    write_preview(np.full((2, 2), 255, np.float32), path)
    assert path.read_bytes() != before
