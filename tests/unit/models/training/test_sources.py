"""Leaving a source out: nothing of it, and nobody of it, is seen before the test."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from models.errors import DataError
from models.training.dataset import Dataset, Film, Split
from models.training.sources import leave_one_source_out

ROWS: list[tuple[str, Split, str, str]] = [
    ("normal", "train", "p1", "near"), ("normal", "val", "p2", "near"), ("normal", "test", "p3", "near"),
    ("covid", "train", "p4", "near"), ("covid", "val", "p5", "near"), ("covid", "test", "p6", "near"),
    ("normal", "train", "p7", "far"), ("normal", "val", "p8", "far"), ("covid", "test", "p9", "far"),
    ("covid", "train", "p10", "far"), ("covid", "val", "p11", "far"),
]  # fmt: skip


def dataset(rows: Sequence[tuple[str, Split, str, str]]) -> Dataset:
    films = tuple(
        Film(Path(f"{i}.png"), label, split, patient, patient, source, "unknown", "CC0")
        for i, (label, split, patient, source) in enumerate(rows)
    )
    return Dataset(Path("films"), ("normal", "covid"), films)


def test_every_film_of_the_source_is_tested_and_none_is_learnt() -> None:
    found, notes = leave_one_source_out(dataset(ROWS))
    assert (sorted(found), notes) == (["far", "near"], ())
    near = found["near"]
    assert {film.source for film in near.split("test")} == {"near"}
    assert len(near.split("test")) == 6
    assert {film.source for film in near.split("train") + near.split("val")} == {"far"}
    assert "Tested on all films of near" in near.notes[-1]


def test_other_films_of_its_patients_are_not_learnt_either() -> None:
    shared = [*ROWS, ("covid", "train", "p6", "far")]
    found, _ = leave_one_source_out(dataset(shared))  # type: ignore[arg-type]
    near = found["near"]
    assert not {film.patient for film in near.split("train")} & {film.patient for film in near.split("test")}


def test_a_source_that_alone_has_a_label_is_named_and_kept() -> None:
    rows = [*ROWS[:6], ("normal", "train", "p7", "far"), ("normal", "val", "p8", "far")]
    found, notes = leave_one_source_out(dataset(rows))  # type: ignore[arg-type]
    assert list(found) == ["far"]
    assert notes == ("near cannot be left out: without it no film of covid is left to learn from.",)


def test_one_source_cannot_be_left_out() -> None:
    with pytest.raises(DataError, match="two or more; known: near"):
        leave_one_source_out(dataset(ROWS[:6]))
    with pytest.raises(DataError, match="no source can be left out"):
        leave_one_source_out(dataset([*ROWS[:6], ("normal", "test", "p9", "far"), ("normal", "val", "p2", "far")]))
