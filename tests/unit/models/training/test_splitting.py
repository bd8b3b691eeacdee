"""No patient crosses splits or folds, whatever the films; labels and sources are spread evenly."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import DataError
from models.training.film import FoundFilm, Split
from models.training.splitting import by_folds, by_shares, parties, with_validation

LABELS = ("normal", "pneumonia", "covid")
ids = st.sampled_from(("", *"abcdefgh"))
films_of_anybody = st.lists(
    st.builds(
        FoundFilm,
        path=st.just(Path("film.png")),
        label=st.sampled_from(LABELS),
        split=st.sampled_from(("train", "test")),
        patient_id=ids,
        group_id=ids,
        source=st.sampled_from(("here", "there")),
    ),
    min_size=1,
    max_size=60,
)


def films(**patients: tuple[str, str, int]) -> list[FoundFilm]:
    """Films by patient: (label, source, how many)."""
    return [
        FoundFilm(Path(f"{patient}_{index}.png"), label, patient_id=patient, source=source)
        for patient, (label, source, count) in patients.items()
        for index in range(count)
    ]


def crossing(films: Sequence[FoundFilm], splits: Sequence[Split]) -> list[str]:
    held = defaultdict(set)
    for film, split in zip(films, splits, strict=True):
        for key in (
            f"patient {film.patient_id}" * bool(film.patient_id),
            f"group {film.group_id}" * bool(film.group_id),
        ):
            held[key].add(split)
    held.pop("", None)
    return [key for key, found in held.items() if len(found) > 1]


@given(films=films_of_anybody, seed=st.integers(0, 9), data=st.data())
def test_no_patient_or_group_or_copy_crosses_splits(films: list[FoundFilm], seed: int, data: st.DataObject) -> None:
    same = data.draw(st.lists(st.lists(st.integers(0, len(films) - 1), min_size=2, max_size=3), max_size=3))
    splits = by_shares(films, same, seed)
    assert crossing(films, splits) == []
    assert all(len({splits[index] for index in group}) == 1 for group in same)
    assert splits == by_shares(films, same, seed)


@given(films=films_of_anybody, seed=st.integers(0, 9), folds=st.integers(3, 6))
def test_no_patient_or_group_crosses_folds(films: list[FoundFilm], seed: int, folds: int) -> None:
    of_label = Counter(label for party in parties(films) for label in {films[index].label for index in party.films})
    if min(of_label.values()) < folds:
        with pytest.raises(DataError, match="more than the"):
            by_folds(films, (), seed, folds, 0)
        return
    cut = [by_folds(films, (), seed, folds, fold) for fold in range(folds)]
    rarest = Counter(party.label for party in parties(films))
    for splits in cut:
        assert crossing(films, splits) == []
        tested = {film.label for film, split in zip(films, splits, strict=True) if split == "test"}
        assert {label for label, count in rarest.items() if count >= folds} <= tested
    assert all(sum(splits[index] == "test" for splits in cut) == 1 for index in range(len(films)))
    assert all(sum(splits[index] == "val" for splits in cut) == 1 for index in range(len(films)))


@given(films=films_of_anybody, seed=st.integers(0, 9))
def test_a_validation_part_leaves_the_test_as_it_is(films: list[FoundFilm], seed: int) -> None:
    splits = with_validation(films, (), seed)
    assert [split == "test" for split in splits] == [film.split == "test" for film in films]
    training = [index for index, film in enumerate(films) if film.split == "train"]
    assert crossing([films[index] for index in training], [splits[index] for index in training]) == []


def test_every_label_and_source_is_in_every_split_by_its_share() -> None:
    patients = {f"p{i}": (LABELS[i % 3], "here" if i % 2 else "there", 1 + i % 4) for i in range(600)}
    found = films(**patients)
    splits = by_shares(found, (), 5)
    held = Counter(zip([film.label for film in found], [film.source for film in found], splits, strict=True))
    all_of = Counter((film.label, film.source) for film in found)
    for (label, source), count in all_of.items():
        for split, share in (("train", 0.70), ("val", 0.15), ("test", 0.15)):
            assert held[label, source, split] == pytest.approx(share * count, abs=4)


def test_three_patients_of_a_label_are_one_in_each_split() -> None:
    found = films(a=("covid", "x", 1), b=("covid", "y", 9), c=("covid", "z", 2))
    splits = by_shares(found, (), 0)
    assert splits[1] == "train"  # the patient with most
    assert {splits[0], splits[-1]} == {"val", "test"}
    for few in (3, 4, 5):
        found = films(**{f"p{i}": ("covid", "x", 1) for i in range(few)})
        assert set(by_shares(found, (), 0)) == {"train", "val", "test"}


def test_another_seed_is_another_split() -> None:
    found = films(**{f"p{i}": ("normal", "here", 1) for i in range(40)})
    assert by_shares(found, (), 0) != by_shares(found, (), 1)
    assert by_folds(found, (), 0, 4, 0) != by_folds(found, (), 1, 4, 0)


def test_folds_are_even() -> None:
    found = films(**{f"p{i}": (LABELS[i % 3], "here", 1) for i in range(90)})
    for fold in range(5):
        splits = by_folds(found, (), 0, 5, fold)
        tested = Counter(film.label for film, split in zip(found, splits, strict=True) if split == "test")
        assert tested == dict.fromkeys(LABELS, 6)


@pytest.mark.parametrize(
    ("folds", "fold", "words"),
    [
        (2, 0, "2 folds are too few"),
        (-1, 0, "too few"),
        (4, 0, "4 folds are more than the 3 patients with covid: take 3 or fewer"),
        (3, 3, "no fold 3: 3 folds are numbered 0 to 2"),
        (3, -1, "no fold -1"),
    ],
)
def test_folds_that_cannot_be_are_refused(folds: int, fold: int, words: str) -> None:
    found = films(**{f"n{i}": ("normal", "", 2) for i in range(9)}, **{f"c{i}": ("covid", "", 2) for i in range(3)})
    with pytest.raises(DataError, match=words):
        by_folds(found, (), 0, folds, fold)
    assert len(by_folds(found, (), 0, 3, 2)) == 24
