"""What training, evaluation and `models predict` read of a CT is what the worker reads of it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset

from models.card import Window
from models.errors import ImageError
from models.registry import SHIPPED, Package, read_package
from tests.support.images import image
from tests.support.objects import save
from worker.commands.model_files import FileOpener, FilmReader
from worker.config import Settings
from worker.inference.pixels import PixelReader

LUNG = Window(centre=-600, width=1500)


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Settings:
    monkeypatch.setenv("FIRSTREAD_CONFIG", str(tmp_path / "firstread.toml"))
    return Settings(data_dir=tmp_path / "data")


@pytest.fixture
def package(tmp_path: Path) -> Package:
    """A package whose card wants CT in a lung window."""
    folder = tmp_path / "our_ct" / "2.0.0"
    shutil.copytree(SHIPPED / "chest_xray_triage" / "2.0.0", folder)
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps(card | {"name": "our_ct", "window": LUNG.model_dump()}))
    return read_package(folder)


def slice_() -> Dataset:
    stored = np.array([[0, 49, 424, 1174, 4000]], np.uint16)
    return image(stored, bits=12, Modality="CT", RescaleSlope=1, RescaleIntercept=-1024, WindowCenter=40,
                 WindowWidth=400)  # fmt: skip


def test_a_ct_is_read_in_the_window_by_every_reader(settings: Settings, package: Package, tmp_path: Path) -> None:
    path = save(slice_(), tmp_path / "slice.dcm")
    with PixelReader(seconds=30, memory_bytes=1 << 30) as worker:
        shown = worker.read(path, "first", LUNG).image
        mediastinal = worker.read(path, "first").image
    assert not np.array_equal(shown, mediastinal)
    with FilmReader(settings, "first", LUNG) as films:
        assert np.array_equal(films.read(path), shown)
    with FilmReader(settings, "first", None) as films:
        assert np.array_equal(films.read(path), mediastinal)
    with FileOpener(settings, package) as opener:
        [(chosen, opened)] = opener.open(path)
        assert chosen is package
        assert np.array_equal(opened, shown)


def test_a_picture_is_never_windowed(settings: Settings, tmp_path: Path) -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(grey).save(tmp_path / "slice.png")
    with FilmReader(settings, "first", LUNG) as films:
        assert np.array_equal(films.read(tmp_path / "slice.png"), grey)


def test_a_text_that_is_called_a_picture_is_named_as_none(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "film.png").write_text("no film" * 100)
    with (
        FilmReader(settings, "first", None) as reader,
        pytest.raises(ImageError, match="for all its name this is neither a PNG nor a JPEG picture"),
    ):
        reader.read(tmp_path / "film.png")
