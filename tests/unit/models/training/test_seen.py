"""Whether a network was taught the films that it is asked about."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from models.errors import PackageError
from models.training.dataset import Dataset
from models.training.seen import TRAINING_FILMS, note_of, seen_in_training, write_training_films

Films = Callable[[], Dataset]


def test_films_are_known_again_by_what_is_in_them(films: Films, tmp_path: Path) -> None:
    dataset = films()
    (tmp_path / "evaluation").mkdir()
    write_training_films(tmp_path, dataset)
    assert seen_in_training(tmp_path, dataset.split("test")) == 0
    assert seen_in_training(tmp_path, dataset.split("val")) == len(dataset.split("val"))
    assert seen_in_training(tmp_path, dataset.films) == len(dataset.films) - len(dataset.split("test"))
    taught = dataset.split("train")[0]
    other = tmp_path / "under another name.png"
    other.write_bytes(taught.path.read_bytes())
    assert seen_in_training(tmp_path, [replace(taught, path=other), *dataset.split("test")]) == 1
    written = (tmp_path / TRAINING_FILMS).read_text()
    assert not any(film.path.name in written or film.patient in written for film in dataset.films)


def test_a_package_that_does_not_say_its_films_leaves_it_open(films: Films, tmp_path: Path) -> None:
    assert seen_in_training(tmp_path, films().films) is None


@pytest.mark.parametrize("text", ["no JSON", "[]", json.dumps({"sha256": "abc"}), json.dumps({"sha256": [1]})])
def test_a_list_that_is_none_is_named(text: str, films: Films, tmp_path: Path) -> None:
    (tmp_path / "evaluation").mkdir()
    (tmp_path / TRAINING_FILMS).write_text(text)
    with pytest.raises(PackageError, match=f"{tmp_path / TRAINING_FILMS}: "):
        seen_in_training(tmp_path, films().films)


def test_what_is_said_of_it_depends_on_what_is_asked() -> None:
    assert note_of(0, 9, "test") is None
    assert note_of(3, 9, "train") is None
    assert note_of(None, 9, "val") is None
    assert str(note_of(3, 9, "all")).startswith("WARNING: of these 9 films the network was trained or validated on 3")
    assert "cannot be told" in str(note_of(None, 9, "test"))
