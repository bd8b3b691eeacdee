"""A network's input made in the child is, to the bit, what the image read through the child would have become."""

import threading
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image
from pydicom import Dataset

from models.card import Card, Input, Window
from models.preprocessing import prepare
from tests.support.fakes import card as fake_card
from tests.support.images import image, lut
from tests.support.objects import save
from tests.support.stand_in_child import write_stand_in
from worker.errors import PixelError
from worker.inference.pixels import PixelReader, Prepared
from worker.inference.preview import Preview

RNG = np.random.default_rng(8)
FILM = RNG.normal(2000, 600, (700, 460)).clip(0, 4095).astype(np.uint16)
WIDE = RNG.integers(0, 256, (90, 400), np.uint8)
HOUNSFIELD = RNG.integers(-1024, 1500, (200, 200)).astype(np.int16)
LUNG = Window(centre=-600, width=1500)


def card(recipe: str = "chest_xray_triage", channels: int = 1, side: int = 64, **changes: Any) -> Card:
    return fake_card().model_copy(
        update={"recipe": recipe, "input": Input(rows=side, columns=side, channels=channels), **changes}
    )


OBJECTS: dict[str, Dataset] = {
    "window": image(FILM, bits=12, WindowCenter=2000, WindowWidth=1001),
    "no window": image(FILM, bits=12),
    "inverse": image(FILM, bits=12, PhotometricInterpretation="MONOCHROME1"),
    "padding": image(FILM, bits=12, PixelPaddingValue=int(FILM.min())),
    "table": image(FILM, bits=12, ModalityLUTSequence=[lut(RNG.integers(0, 4096, 4096).tolist())]),
    "signed": image(HOUNSFIELD, Modality="CT", RescaleSlope=1, RescaleIntercept=0),
    "8 bits": image(WIDE),
    "colour": image(RNG.integers(0, 256, (300, 200, 3), np.uint8)),
    "32 bits": image(RNG.integers(0, 1 << 30, (120, 100)).astype(np.uint32)),
    "one grey": image(np.full((50, 50), 7, np.uint16), bits=12),
    "tall": image(RNG.integers(0, 4096, (900, 80)).astype(np.uint16), bits=12),
}


@pytest.mark.parametrize("name", sorted(OBJECTS))
@pytest.mark.parametrize(
    ("recipe", "channels"), [("chest_xray_triage", 1), ("chest_ct_covid", 3), ("vgg16_imagenet", 3)]
)
def test_it_is_what_the_image_would_have_become(
    reader: PixelReader, tmp_path: Path, name: str, recipe: str, channels: int
) -> None:
    path = save(OBJECTS[name], tmp_path / "object.dcm")
    for window in (None, LUNG):
        asked = card(recipe, channels, window=window)
        frame = reader.read(path, "first", window)
        prepared = reader.prepared(path, asked)
        assert prepared.image.tobytes() == prepare(recipe, frame.image, 64, 64, channels).tobytes()
        assert prepared.image.shape == (64, 64, channels)
        assert (prepared.frames, prepared.note, prepared.windowed) == (frame.frames, frame.note, frame.windowed)


def test_the_input_is_the_callers_own(reader: PixelReader, tmp_path: Path) -> None:
    path = save(OBJECTS["window"], tmp_path / "object.dcm")
    first = reader.prepared(path, card()).image
    kept = first.copy()
    first[:] = 0
    assert np.array_equal(reader.prepared(path, card()).image, kept)


def test_what_is_wrong_with_an_object_is_said_as_when_it_is_read(reader: PixelReader, tmp_path: Path) -> None:
    path = save(image(FILM, NumberOfFrames=2), tmp_path / "object.dcm")
    with pytest.raises(PixelError) as read:
        reader.read(path, "first")
    with pytest.raises(PixelError) as prepared:
        reader.prepared(path, card())
    assert str(prepared.value) == str(read.value)


def test_a_recipe_that_is_not_there_is_named(reader: PixelReader, tmp_path: Path) -> None:
    path = save(OBJECTS["8 bits"], tmp_path / "object.dcm")
    with pytest.raises(PixelError, match="no preprocessing recipe 'magic'"):
        reader.prepared(path, card("magic"))


def picture(preview: Preview | None) -> np.ndarray:
    assert preview is not None
    with Image.open(BytesIO(preview.png())) as opened:
        return np.asarray(opened)


@pytest.mark.parametrize("name", sorted(OBJECTS))
def test_the_preview_is_the_image_in_whole_levels(reader: PixelReader, tmp_path: Path, name: str) -> None:
    path = save(OBJECTS[name], tmp_path / "object.dcm")
    shown = picture(reader.preview(reader.prepared(path, card(), with_preview=True)))
    assert np.array_equal(shown, np.rint(reader.read(path, "first").image))


@pytest.mark.parametrize("shape", [(2048, 2048), (2048, 1300), (1300, 2048)])
def test_the_preview_of_a_film_is_the_mean_of_its_pixels(
    reader: PixelReader, tmp_path: Path, shape: tuple[int, int]
) -> None:
    film = RNG.normal(2000, 600, shape).clip(0, 4095).astype(np.uint16)
    path = save(image(film, bits=12, WindowCenter=2000, WindowWidth=1001), tmp_path / "object.dcm")
    displayed = reader.read(path, "first").image
    plain = reader.prepared(path, card())
    prepared = reader.prepared(path, card(), with_preview=True)
    assert prepared.image.tobytes() == plain.image.tobytes()
    rows, columns = (side // 2 for side in shape)
    expected = displayed.reshape(rows, 2, columns, 2).mean(axis=(1, 3))
    found = picture(reader.preview(prepared))
    assert found.shape == (rows, columns)
    assert abs(found - expected).max() <= 0.51


def test_a_preview_is_never_that_of_another_object(reader: PixelReader, tmp_path: Path) -> None:
    dark, bright = (save(image(np.full((8, 8), level, np.uint8)), tmp_path / f"{level}.dcm") for level in (10, 200))
    first = reader.prepared(dark, card(), with_preview=True)
    second = reader.prepared(bright, card(), with_preview=True)
    assert reader.preview(first) is None
    assert reader.preview(second) is None  # asked for the first, the child let go of the second
    third = reader.prepared(dark, card(), with_preview=True)
    assert picture(reader.preview(third)).mean() == 10
    assert reader.preview(third) is None
    unasked = reader.prepared(dark, card())
    assert reader.preview(unasked) is None


def test_a_child_that_died_leaves_no_preview_and_no_blame(tmp_path: Path) -> None:
    path = save(OBJECTS["window"], tmp_path / "object.dcm")
    with PixelReader(seconds=20, memory_bytes=1 << 30) as reader:
        prepared = reader.prepared(path, card(), with_preview=True)
        (child,) = [one for one in psutil.Process().children() if one.pid == prepared.job.child.pid]
        child.kill()
        assert reader.preview(prepared) is None
        again = reader.prepared(path, card(), with_preview=True)
        assert again.job.child is not prepared.job.child
        assert reader.preview(prepared) is None
        assert np.array_equal(again.image, prepared.image)


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Prepared]]:
    readers: list[PixelReader] = []

    def make(body: str) -> tuple[PixelReader, Prepared]:
        path = save(OBJECTS["8 bits"], tmp_path / "object.dcm")
        monkeypatch.setattr("sys.executable", write_stand_in(tmp_path, body))
        readers.append(PixelReader(seconds=2, memory_bytes=1 << 30, max_pixels=64))
        return readers[0], readers[0].prepared(path, card(), with_preview=True)

    yield make
    readers[0].close()


@pytest.mark.parametrize("said", [
    "rows=0, columns=4, bytes=9", "rows=4, columns=5000, bytes=9", "rows=4, columns=4, bytes=0",
    "rows=4, columns=4, bytes=1 << 40", "rows='many', columns=4, bytes=9", "bytes=9",
    "failure='memory', reason=''", "failure='surprise', reason='KeyError'",
])  # fmt: skip
def test_a_child_that_says_nonsense_of_a_preview_is_not_believed(stand_in: Any, said: str) -> None:
    reader, prepared = stand_in(f"say(job=0); say(job=job(), **shown()); say(job=job(), {said}); time.sleep(60)")
    assert reader.preview(prepared) is None


def test_nobody_waits_for_ever_for_a_preview(stand_in: Any) -> None:
    reader, prepared = stand_in("say(job=0); say(job=job(), **shown()); time.sleep(60)")
    assert reader.preview(prepared) is None


def test_threads_get_their_own_objects(reader: PixelReader, tmp_path: Path) -> None:
    levels = (10, 90, 170, 250)
    paths = {level: save(image(np.full((8, 8), level, np.uint8)), tmp_path / f"{level}.dcm") for level in levels}
    found: dict[int, set[float]] = {level: set() for level in levels}

    def work(level: int) -> None:
        for _ in range(10):
            found[level].add(float(reader.prepared(paths[level], card("unit_range")).image.mean() * 255))

    threads = [threading.Thread(target=work, args=(level,)) for level in levels]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert {level: {round(one) for one in seen} for level, seen in found.items()} == {one: {one} for one in levels}
