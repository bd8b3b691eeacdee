"""Every image of any size becomes the one array that the network takes, the same each time."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from models.errors import ImageError, RecipeError
from models.golden import golden_image
from models.preprocessing import (
    RECIPES,
    field_of_view,
    is_coloured,
    is_picture,
    load_picture,
    prepare,
    prepare_shown,
    resized,
)

CHANNELS = {"vgg16_imagenet": 3}
"""Recipes that make their channels themselves."""


def film(rows: int, columns: int) -> NDArray[np.float32]:
    return golden_image(rows, columns).astype(np.float32)


@pytest.mark.parametrize("recipe", sorted(RECIPES))
@pytest.mark.parametrize("shape", [(1, 1), (1, 900), (900, 1), (7, 5), (160, 136), (1000, 400), (400, 1000)])
def test_any_size_becomes_the_networks(recipe: str, shape: tuple[int, int]) -> None:
    channels = CHANNELS.get(recipe, 1)
    prepared = prepare(recipe, film(*shape), 64, 48, channels)
    assert prepared.shape == (64, 48, channels)
    assert prepared.dtype == np.float32
    assert prepared.flags.c_contiguous
    assert np.isfinite(prepared).all()


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_the_same_image_gives_the_same_bytes_and_is_left_alone(recipe: str) -> None:
    image = film(300, 251)
    before = image.copy()
    channels = CHANNELS.get(recipe, 1)
    first = prepare(recipe, image, 224, 224, channels)
    assert first.tobytes() == prepare(recipe, np.asfortranarray(image), 224, 224, channels).tobytes()
    assert np.array_equal(image, before)


class OnDemand:
    """An image that is made while it is asked for, in memory that is used again."""

    def __init__(self, image: NDArray[np.float32]) -> None:
        self.shape = image.shape
        self._image = image
        self._given = image[:0]

    def __getitem__(self, field: tuple[slice, slice]) -> NDArray[np.float32]:
        self._given[...] = np.nan
        self._given = self._image[field].copy()
        return self._given


@pytest.mark.parametrize("recipe", sorted(RECIPES))
@pytest.mark.parametrize("shape", [(1, 1), (700, 460), (400, 1000), (1000, 100), (64, 300)])
def test_an_image_made_while_it_is_asked_for_gives_the_same_bytes(
    recipe: str, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.preprocessing.BAND_PIXELS", 10_000)
    channels = CHANNELS.get(recipe, 1)
    expected = prepare(recipe, film(*shape), 64, 48, channels)
    assert prepare_shown(recipe, OnDemand(film(*shape)), 64, 48, channels).tobytes() == expected.tobytes()


@pytest.mark.parametrize("band", [1, 5_000, 1 << 18])
@pytest.mark.parametrize("size", [(64, 64), (300, 48), (20, 500)])
def test_bands_give_the_bits_of_pillow(band: int, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.preprocessing.BAND_PIXELS", band)
    chosen = np.random.default_rng(4)
    shapes = [
        (1, 1),
        (64, 64),
        (63, 900),
        (900, 63),
        (300, 64),
        (64, 300),
        *map(tuple, chosen.integers(1, 900, (20, 2))),
    ]
    for shape in shapes:
        image = (255 * chosen.random(shape)).astype(np.float32)
        pillow = Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR)
        assert resized(image, *size).tobytes() == np.asarray(pillow).tobytes(), shape
        field = slice(shape[0] // 5, shape[0]), slice(0, -(-shape[1] * 2 // 3))
        assert resized(image, *size, field).tobytes() == resized(image[field].copy(), *size).tobytes(), shape


@pytest.mark.parametrize("recipe", ["chest_xray_triage", "chest_ct_covid"])
def test_it_is_standardised(recipe: str) -> None:
    prepared = prepare(recipe, film(300, 251), 224, 224, 1)
    assert float(prepared.mean(dtype=np.float64)) == pytest.approx(0, abs=1e-5)
    assert float(prepared.std(dtype=np.float64)) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("recipe", ["chest_xray_triage", "chest_ct_covid"])
def test_the_window_of_the_station_does_not_matter(recipe: str) -> None:
    image = film(300, 251)
    shown_darker = image * 0.5 + 20
    assert prepare(recipe, shown_darker, 224, 224, 1) == pytest.approx(prepare(recipe, image, 224, 224, 1), abs=1e-4)


@pytest.mark.parametrize("recipe", sorted(set(RECIPES) - {"chest_xray_triage"}))
def test_nothing_is_cut_off_where_the_article_cuts_nothing(recipe: str) -> None:
    image = np.zeros((60, 200), np.float32)
    image[:, :10] = image[:, -10:] = 255
    prepared = prepare(recipe, image, 30, 40, CHANNELS.get(recipe, 1))
    assert (prepared[:, [0, -1]].min(axis=(0, 1)) > prepared[:, 20].max(axis=0)).all()


def test_the_unit_range_is_the_image_over_255() -> None:
    image = film(100, 100)
    assert np.array_equal(prepare("unit_range", image, 100, 100, 1)[..., 0], image / np.float32(255))
    assert prepare("unit_range", np.full((30, 20), 255.0), 10, 10, 3).tolist() == np.ones((10, 10, 3)).tolist()


def test_every_column_has_a_norm_of_one_and_a_black_one_stays_black() -> None:
    image = film(300, 251)
    image[:, :100] = 0
    norms = np.linalg.norm(prepare("unit_columns", image, 100, 100, 1)[..., 0], axis=0)
    assert norms[:39].tolist() == [0] * 39
    assert norms[42:] == pytest.approx(1, abs=1e-6)


def test_columns_are_what_keras_normalises() -> None:
    from models.backend import load_backend

    keras, _ = load_backend()
    image = film(100, 100)
    expected = keras.utils.normalize(image[np.newaxis, :, :, np.newaxis], axis=1)[0]
    assert prepare("unit_columns", image, 100, 100, 1) == pytest.approx(expected, abs=1e-6)


def test_the_means_of_imagenet_are_taken_off_as_keras_does() -> None:
    from models.backend import load_backend

    keras, _ = load_backend()
    image = film(96, 96)
    expected = keras.applications.vgg16.preprocess_input(np.repeat(image[np.newaxis, :, :, np.newaxis], 3, axis=3))[0]
    assert prepare("vgg16_imagenet", image, 96, 96, 3) == pytest.approx(expected, abs=1e-4)


def test_three_channels_do_not_fit_a_network_of_one() -> None:
    with pytest.raises(RecipeError, match="makes 3 channels; the network takes 1"):
        prepare("vgg16_imagenet", film(40, 40), 32, 32, 1)


def test_an_image_of_one_grey_is_zeros_not_noise() -> None:
    assert not prepare("chest_xray_triage", np.full((50, 60), 131.0, np.float32), 32, 32, 1).any()


def test_three_channels_are_the_grey_thrice() -> None:
    prepared = prepare("chest_xray_triage", film(90, 80), 32, 32, 3)
    assert prepared.shape == (32, 32, 3)
    assert np.array_equal(prepared[..., 0], prepared[..., 2])


@pytest.mark.parametrize(
    ("shape", "kept"),
    [((100, 100), (100, 100)), ((100, 120), (100, 100)), ((100, 300), (100, 210)), ((300, 100), (210, 100))],
)
def test_the_longer_side_is_trimmed_but_never_by_more_than_three_tenths(
    shape: tuple[int, int], kept: tuple[int, int]
) -> None:
    image = np.zeros(shape, np.float32)
    assert image[field_of_view("chest_xray_triage", image, 64, 64)].shape == kept


def test_trimming_keeps_the_middle() -> None:
    image = np.tile(np.arange(120, dtype=np.float32), (100, 1))
    assert image[field_of_view("chest_xray_triage", image, 64, 64)][0].tolist() == list(range(10, 110))


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_what_is_outside_the_field_of_view_does_not_count(recipe: str) -> None:
    image = film(200, 120)
    field = field_of_view(recipe, image, 64, 64)
    outside = np.ones(image.shape, bool)
    outside[field] = False
    channels = CHANNELS.get(recipe, 1)
    changed = np.where(outside, np.float32(7), image)
    assert np.array_equal(prepare(recipe, changed, 64, 64, channels), prepare(recipe, image, 64, 64, channels))
    changed = image.copy()
    changed[field][:9] = 200
    assert not np.array_equal(prepare(recipe, changed, 64, 64, channels), prepare(recipe, image, 64, 64, channels))


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((4, 4, 3), np.float32), r"\(4, 4, 3\)"),
        (np.zeros((0, 4), np.float32), "pixels in it"),
        (np.full((4, 4), np.nan, np.float32), "not finite"),
        (np.array([[1.0, np.inf]], np.float32), "not finite"),
    ],
)
def test_what_is_no_image_is_refused(image: NDArray[np.float32], words: str) -> None:
    with pytest.raises(ImageError, match=words):
        prepare("chest_xray_triage", image, 32, 32, 1)


def test_an_unknown_recipe_names_the_known() -> None:
    with pytest.raises(RecipeError, match="chest_xray_triage"):
        prepare("no_such", film(9, 9), 32, 32, 1)


def test_grey_pictures_come_as_they_are(tmp_path: Path) -> None:
    image = golden_image()
    Image.fromarray(image).save(tmp_path / "a.png")
    read = load_picture(tmp_path / "a.png")
    assert read.dtype == np.float32
    assert np.array_equal(read, image)


def test_colour_becomes_luma_and_transparency_black(tmp_path: Path) -> None:
    Image.new("RGB", (3, 2), (255, 0, 0)).save(tmp_path / "red.png")
    Image.new("RGBA", (3, 2), (255, 255, 255, 0)).save(tmp_path / "clear.png")
    assert load_picture(tmp_path / "red.png").tolist() == [[76.0] * 3] * 2
    assert not load_picture(tmp_path / "clear.png").any()


def test_sixteen_bits_are_spread_from_darkest_to_brightest(tmp_path: Path) -> None:
    Image.fromarray(np.array([[1000, 2000], [3000, 4000]], np.uint16)).save(tmp_path / "a.png")
    assert load_picture(tmp_path / "a.png").tolist() == [[0, 85], [170, 255]]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_cameras_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(golden_image(40, 24)).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as picture:
        expected = np.asarray(ImageOps.exif_transpose(picture), np.float32)
    assert np.array_equal(load_picture(tmp_path / "a.png"), expected)


def test_what_is_no_picture_says_so(tmp_path: Path) -> None:
    path = tmp_path / "film.png"
    with pytest.raises(ImageError, match="no such file"):
        load_picture(path)
    path.write_bytes(b"GIF89a")
    with pytest.raises(ImageError, match="neither a PNG nor a JPEG"):
        load_picture(path)
    Image.fromarray(golden_image()).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ImageError, match="cannot be decoded"):
        load_picture(path)


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.preprocessing.MAX_PICTURE_PIXELS", 10_000)
    Image.new("L", (101, 100)).save(tmp_path / "bomb.png")
    with pytest.raises(ImageError, match="101 x 100 pixels are more"):
        load_picture(tmp_path / "bomb.png")


def test_a_picture_is_told_by_its_first_bytes(tmp_path: Path) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "film.dcm", format="JPEG")
    (tmp_path / "film.png").write_bytes(bytes(128) + b"DICM")
    assert is_picture(tmp_path / "film.dcm")
    assert not is_picture(tmp_path / "film.png")
    assert not is_picture(tmp_path / "nothing")


def test_a_photograph_is_in_colour_and_a_grey_film_saved_in_colour_is_not(tmp_path: Path) -> None:
    grey = Image.fromarray(golden_image(300, 240))
    marked = grey.convert("RGB")
    marked.paste((255, 0, 0), (5, 5, 35, 35))  # a side marker
    blue = Image.merge("RGB", (grey.point(lambda v: v // 2), grey, grey))
    transparent = blue.convert("RGBA")
    transparent.putalpha(0)
    for name, picture, expected in (
        ("grey", grey, False),
        ("saved_in_colour", grey.convert("RGB"), False),
        ("wide", Image.fromarray(golden_image(30, 24).astype(np.uint16) * 200), False),
        ("marked", marked, False),
        ("palette", grey.convert("P"), False),
        ("unseen", transparent, False),
        ("photo", blue, True),
        ("photo_palette", blue.quantize(64), True),
    ):
        picture.save(tmp_path / f"{name}.png")
        assert is_coloured(tmp_path / f"{name}.png") is expected, name
    for name, picture, expected in (("saved_in_colour", grey.convert("RGB"), False), ("photo", blue, True)):
        picture.save(tmp_path / f"{name}.jpg", quality=60)
        assert is_coloured(tmp_path / f"{name}.jpg") is expected, name
