import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from worker.inference import preview
from worker.inference.preview import Preview, make_preview, whole_factor, write_preview


def opened(levels: np.ndarray, path: Path) -> np.ndarray:
    write_preview(make_preview(levels), path)
    with Image.open(path) as picture:
        picture.verify()
    with Image.open(path) as picture:
        assert (picture.format, picture.mode) == ("PNG", "L")
        return np.asarray(picture)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (9, 1), (256, 300), (1024, 1024)])
def test_a_small_image_is_kept_as_it_is(tmp_path: Path, shape: tuple[int, int]) -> None:
    levels = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    path = tmp_path / "new" / "7.png"
    assert np.array_equal(opened(levels, path), levels)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(("shape", "expected"), [
    ((2048, 1024), (1024, 512)), ((1000, 3000), (341, 1024)), ((5000, 1), (1024, 1)), ((1024, 1024), (1024, 1024)),
    ((2048, 2047), (1024, 1024)), ((3072, 2048), (1024, 683)),
])  # fmt: skip
def test_the_longest_side_is_1024(shape: tuple[int, int], expected: tuple[int, int]) -> None:
    made = make_preview(np.zeros(shape, np.uint8))
    assert (made.rows, made.columns) == expected


@pytest.mark.parametrize("times", [1024, 1022])
def test_a_reduced_pixel_is_the_mean_of_those_it_stands_for(tmp_path: Path, times: int) -> None:
    levels = np.tile(np.array([[0, 200], [50, 150]], np.uint8), (1024, times))
    found = opened(levels, tmp_path / "p.png").astype(int)
    assert abs(found - 100).max() <= 1


def test_a_film_is_reduced_as_pillows_box_does_it(tmp_path: Path) -> None:
    levels = np.random.default_rng(2).integers(0, 256, (2048, 1536), np.uint8)
    box = np.asarray(Image.fromarray(levels).resize((768, 1024), Image.Resampling.BOX)).astype(int)
    assert abs(opened(levels, tmp_path / "p.png") - box).max() <= 1  # Pillow's box rounds twice


@pytest.mark.parametrize(("shape", "factor"), [
    ((2048, 2048), 2), ((2048, 1500), 2), ((1500, 2048), 2), ((3072, 3000), 3), ((4096, 4), 4),
    ((2048, 1501), 1), ((2047, 1500), 1), ((3072, 2048), 1), ((1024, 1024), 1), ((512, 512), 1), ((2500, 2000), 1),
])  # fmt: skip
def test_a_whole_factor_is_one_by_which_both_sides_shrink(shape: tuple[int, int], factor: int) -> None:
    assert whole_factor(*shape) == factor
    made = make_preview(np.zeros(shape, np.uint8))
    if factor > 1:
        assert (made.rows * factor, made.columns * factor) == shape


def test_noise_is_not_larger_than_without_deflating() -> None:
    made = make_preview(np.random.default_rng(3).integers(0, 256, (1024, 1024), np.uint8))
    assert len(made.deflated) < 1.01 * (1 << 20)
    assert len(zlib.decompress(made.deflated)) == 1024 * 1025


def test_an_old_preview_is_replaced_whole_or_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "p.png"
    black, white = (make_preview(np.full((2, 2), level, np.uint8)) for level in (0, 255))
    write_preview(black, path)
    before = path.read_bytes()

    def full(*_: object) -> bytes:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Preview, "png", full)
        with pytest.raises(OSError, match="No space"):
            write_preview(white, path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["p.png"]
    write_preview(white, path)
    assert path.read_bytes() != before


def test_what_a_child_deflated_stays_within_its_chunk(tmp_path: Path) -> None:
    hostile = Preview(4, 4, b"IEND" + preview._SIGNATURE)
    (tmp_path / "p.png").write_bytes(hostile.png())
    with Image.open(tmp_path / "p.png") as picture:
        assert picture.size == (4, 4)
        with pytest.raises(OSError, match=r"broken|truncated"):
            picture.load()
