"""A table as spreadsheets write it is read; a file that is none is refused with the reason."""

from pathlib import Path

import pytest
from PIL import Image

from models.errors import DataError
from models.golden import golden_image
from models.training.dataset import load_dataset

LABELS = ("normal", "covid")


@pytest.fixture
def films(tmp_path: Path) -> Path:
    for name in "abcdef":
        (tmp_path / f"{name}.png").write_text(name)
    return tmp_path


def table(separator: str, name: str = "p") -> str:
    rows = [("file", "label", "split", "patient_id")]
    splits = ("train", "train", "val", "val", "test", "test")
    rows += [(f"{x}.png", LABELS[i % 2], splits[i], f"{name}{i}") for i, x in enumerate("abcdef")]
    return "".join(separator.join(row) + "\n" for row in rows)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_commas_semicolons_and_tabs_separate(separator: str, films: Path) -> None:
    (films / "labels.csv").write_text(table(separator), encoding="utf-8-sig")
    dataset = load_dataset(films, LABELS)
    assert [film.patient_id for film in dataset.films] == [f"p{i}" for i in range(6)]
    assert dataset.counts()["test"] == {"normal": 1, "covid": 1}


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_another_encoding_is_named_with_its_remedy(encoding: str, films: Path) -> None:
    (films / "labels.csv").write_text(table(",", "M\u00fcller"), encoding=encoding)
    with pytest.raises(DataError, match=r"no text in UTF-8 .* at byte [\d,]+\); write it as UTF-8"):
        load_dataset(films, LABELS)


def test_a_film_in_place_of_the_data_is_called_one(tmp_path: Path) -> None:
    Image.fromarray(golden_image()).save(tmp_path / "film.png")
    with pytest.raises(DataError, match=r"film\.png: this is a film and no table; name the folder"):
        load_dataset(tmp_path / "film.png", LABELS)
