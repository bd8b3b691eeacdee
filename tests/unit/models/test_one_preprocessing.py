"""One preprocessing code: a film gives the network the same input from DICOM as from a picture, in training as in use.

The bound. A picture's grey value v becomes the stored value nearest to v / 255 of the full range, so it comes back
within half a step: q = 0.5 * 255 / (2 ** bits - 1) grey values, and exactly where 255 divides the range, as of 8 and 16
bits. Every recipe averages and scales:

- resizing is a weighted mean, so each pixel x stays within q;
- dividing by 255 leaves q / 255, taking a constant away leaves q;
- standardising gives (x - m) / s. The mean m moves by at most q, and so does the deviation s, which is a root mean
  square: (x' - m') / s' lies within (2 q + q |(x - m) / s|) / s' of it;
- dividing a column of R pixels by its norm n, which moves by at most q sqrt(R), leaves (q + q sqrt(R) x / n) / n'.
"""

import hashlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom.uid import JPEG2000Lossless

from models.card import Card
from models.classifier import Classifier
from models.golden import golden_image
from models.preprocessing import RECIPES, FloatArray, load_picture, resized, trim
from models.registry import Package
from models.training.dataset import Film
from models.training.feed import film_inputs, prepared_films
from models.training.recipes import find_recipe
from tests.support.objects import film, save
from tests.unit.models.conftest import card_values
from worker.commands.model_files import read_image
from worker.inference.pixels import PixelReader

ROWS, COLUMNS = 64, 56
ROUNDING = 2e-5
"""Of float32 arithmetic on values of a few hundred."""

WRAPPINGS = [
    (bits, photometric, encoding)
    for bits in (8, 12, 16)
    for photometric in ("MONOCHROME2", "MONOCHROME1")
    for encoding in ("plain", "jpeg2000")
]


@pytest.fixture(scope="module")
def reader() -> Iterator[PixelReader]:
    with PixelReader(seconds=60, memory_bytes=1 << 30) as reader:
        yield reader


def wrapped(picture: NDArray[np.uint8], path: Path, bits: int, photometric: str, encoding: str) -> Path:
    """Wrap a picture as DX of so many bits, its window the full range (PS3.3 C.11.2.1.2.1: LINEAR)."""
    top = (1 << bits) - 1
    stored = np.rint(picture.astype(np.float64) * top / 255)
    if photometric == "MONOCHROME1":
        stored = top - stored
    ds = film(
        stored.astype(np.uint8 if bits == 8 else np.uint16),
        PhotometricInterpretation=photometric, BitsStored=bits, HighBit=bits - 1,
        WindowCenter=(top + 1) / 2, WindowWidth=top + 1,
    )  # fmt: skip
    save(ds, path)
    if encoding == "jpeg2000":
        ds.compress(JPEG2000Lossless, generate_instance_uid=False)
        ds.save_as(path, enforce_file_format=True, overwrite=True)
    return path


def half_step(bits: int) -> float:
    """Largest difference of a grey value that has been stored in so many bits; 0 where every one has a place."""
    top = (1 << bits) - 1
    return 0.0 if top % 255 == 0 else 0.5 * 255 / top


def classifier_of(recipe: str, tmp_path: Path) -> Classifier:
    """A classifier of which nothing but its preprocessing is asked."""
    shape = {"rows": ROWS, "columns": COLUMNS, "channels": 3 if recipe == "vgg16_imagenet" else 1}
    return Classifier(Package(tmp_path, Card.model_validate(card_values(recipe=recipe, input=shape))), None)


def standardised_bound(small: FloatArray, q: float) -> FloatArray:
    deviation = float(small.std())
    return np.asarray((2 * q + q * np.abs(small - small.mean()) / deviation) / (deviation - q), np.float32)


def columns_bound(small: FloatArray, q: float) -> FloatArray:
    norm = np.sqrt(np.square(small).sum(axis=0))
    return np.asarray((q + q * np.sqrt(len(small)) * small / norm) / (norm - q * np.sqrt(len(small))), np.float32)


BOUNDS: dict[str, Callable[[FloatArray, float], FloatArray]] = {
    "chest_xray_triage": lambda image, q: standardised_bound(
        resized(image[trim(image, ROWS, COLUMNS)], ROWS, COLUMNS), q
    ),
    "chest_ct_covid": lambda image, q: standardised_bound(resized(image, ROWS, COLUMNS), q),
    "unit_range": lambda _image, q: np.float32(q / 255) * np.ones((ROWS, COLUMNS), np.float32),
    "unit_columns": lambda image, q: columns_bound(resized(image, ROWS, COLUMNS), q),
    "vgg16_imagenet": lambda _image, q: np.float32(q) * np.ones((ROWS, COLUMNS), np.float32),
}
"""Of each recipe, how far an input may move when the grey values move by q; from the picture, (ROWS, COLUMNS)."""


def assert_the_same_input(
    picture: Path, tmp_path: Path, reader: PixelReader, wrapping: tuple[int, str, str], recipe: str
) -> None:
    pixels = np.asarray(Image.open(picture).convert("L"))
    bits, photometric, encoding = wrapping
    file = wrapped(pixels, tmp_path / "film.dcm", bits, photometric, encoding)
    of_picture, of_dicom = load_picture(picture), reader.read(file, "first").image
    q = half_step(bits)
    assert np.abs(of_dicom - of_picture).max() <= q + ROUNDING
    classifier = classifier_of(recipe, tmp_path)
    expected, found = classifier.prepare(of_picture), classifier.prepare(of_dicom)
    if q == 0:
        assert found.tobytes() == expected.tobytes()
        return
    bound = BOUNDS[recipe](of_picture, q)[:, :, np.newaxis]
    assert (np.abs(found - expected) <= bound + ROUNDING).all()
    assert not np.array_equal(found, expected)  # the bound is of something


@pytest.mark.parametrize("recipe", sorted(RECIPES))
@pytest.mark.parametrize("wrapping", WRAPPINGS, ids=lambda wrapping: "-".join(map(str, wrapping)))
def test_a_phantom_from_dicom_is_the_phantom_from_the_picture(
    recipe: str, wrapping: tuple[int, str, str], reader: PixelReader, tmp_path: Path
) -> None:
    Image.fromarray(golden_image(150, 210)).save(tmp_path / "film.png")
    assert_the_same_input(tmp_path / "film.png", tmp_path, reader, wrapping, recipe)


@pytest.mark.real_scans
@pytest.mark.parametrize("wrapping", WRAPPINGS, ids=lambda wrapping: "-".join(map(str, wrapping)))
@pytest.mark.parametrize("name", ["cxr_00001.jpg", "cxr_00002.jpg", "cxr_00385.jpg"])
def test_a_real_film_from_dicom_is_the_film_from_the_picture(
    name: str, wrapping: tuple[int, str, str], reader: PixelReader, tmp_path: Path, scans: Path
) -> None:
    assert_the_same_input(scans / "cxr" / "images" / name, tmp_path, reader, wrapping, "chest_xray_triage")


def test_16_bit_pictures_and_dicom_without_a_window_are_spread_alike(reader: PixelReader, tmp_path: Path) -> None:
    deep = golden_image(90, 70).astype(np.uint16) * 37 + 300
    Image.fromarray(deep).save(tmp_path / "film.png")
    file = save(film(deep, BitsStored=16, HighBit=15), tmp_path / "film.dcm")
    np.testing.assert_allclose(
        reader.read(file, "first").image, load_picture(tmp_path / "film.png"), atol=ROUNDING, rtol=0
    )


def test_training_prepares_what_the_worker_prepares(reader: PixelReader, tmp_path: Path) -> None:
    recipe = find_recipe("chest_xray_triage")
    Image.fromarray(golden_image(150, 210)).save(tmp_path / "film.png")
    wrapped(golden_image(150, 210), tmp_path / "film.dcm", 16, "MONOCHROME1", "jpeg2000")
    shape = recipe.input.model_dump()
    classifier = Classifier(Package(tmp_path, Card.model_validate(card_values(input=shape))), None)
    for name in ("film.png", "film.dcm"):
        path = tmp_path / name
        served = classifier.prepare(read_image(path, reader, "first", None)).tobytes()
        labelled = Film(path, "normal", "train", "p", "p", "here", "adult", "none")
        read = lambda file: read_image(file, reader, "first", None)  # noqa: E731
        [validated] = prepared_films(recipe, [labelled], read, 1)
        assert validated.tobytes() == served
        trained = film_inputs(recipe, "none", read)(labelled, np.random.default_rng(0))
        assert trained.tobytes() == served


DIGEST = """
import hashlib
import numpy as np
from models.golden import golden_image
from models.preprocessing import RECIPES, prepare
image = golden_image(211, 150).astype(np.float32)
for recipe in sorted(RECIPES):
    channels = 3 if recipe == "vgg16_imagenet" else 1
    for _ in range(2):
        print(recipe, hashlib.sha256(prepare(recipe, image, 64, 56, channels).tobytes()).hexdigest())
"""


def test_the_same_array_gives_the_same_bytes_in_every_process(tmp_path: Path) -> None:
    said = [
        subprocess.run([sys.executable, "-c", DIGEST], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    image = golden_image(211, 150).astype(np.float32)
    own = "".join(
        f"{recipe} {hashlib.sha256(classifier_of(recipe, tmp_path).prepare(image).tobytes()).hexdigest()}\n" * 2
        for recipe in sorted(RECIPES)
    )
    assert said == [own, own]
