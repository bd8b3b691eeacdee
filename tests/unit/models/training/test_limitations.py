"""What a card admits follows from the films it was trained on, and from nothing that was true of other films."""

from pathlib import Path

import pytest

from models.registry import Registry
from models.training.dataset import Dataset, Film, Split, load_dataset
from models.training.limitations import limitations
from models.training.recipes import CHEST_XRAY_TRIAGE, TRAINING_RECIPES
from tests.support.pictures import pictures

LABELS = ("normal", "pneumonia", "tuberculosis")


def dataset(*groups: tuple[Split, str, str, str, int], labels: tuple[str, ...] = LABELS) -> Dataset:
    """Films by (split, label, source, age group, how many)."""
    films = [
        Film(Path(f"{group}_{index}.png"), label, split, f"{group}_{index}", "", source, age_group, "CC0")
        for group, (split, label, source, age_group, count) in enumerate(groups)
        for index in range(count)
    ]
    return Dataset(Path("films"), labels, tuple(films))


def text(*groups: tuple[Split, str, str, str, int]) -> str:
    return "\n".join(limitations(dataset(*groups)))


def even(split: Split, source: str, count: int, age_group: str = "adult") -> list[tuple[Split, str, str, str, int]]:
    return [(split, label, source, age_group, count) for label in LABELS]


def test_films_are_counted_by_split_and_label() -> None:
    said = text(*even("train", "a", 5), ("val", "normal", "a", "adult", 2), ("test", "tuberculosis", "b", "adult", 3))
    assert "trained on 15 films (normal 5, pneumonia 5, tuberculosis 5)" in said
    assert "decided on 2 (normal 2, pneumonia 0, tuberculosis 0)" in said
    assert "measured on 3 (normal 0, pneumonia 0, tuberculosis 3)" in said


def test_a_label_of_one_source_and_a_source_of_one_label_are_named() -> None:
    said = text(
        ("train", "normal", "here", "adult", 4),
        ("train", "pneumonia", "here", "adult", 4),
        ("train", "pneumonia", "clinic", "adult", 2),
        ("train", "tuberculosis", "mission", "adult", 6),
        ("test", "tuberculosis", "here", "adult", 1),
    )
    assert "every normal film comes from one source (here)" in said
    assert "every tuberculosis film comes from one source (mission)" in said
    assert "every pneumonia film" not in said
    assert "the source clinic holds pneumonia alone" in said
    assert "the source mission holds tuberculosis alone" in said
    assert "the source here holds" not in said
    assert "pneumonia: here 4, clinic 2" in said


def test_films_that_are_not_confounded_are_not_said_to_be() -> None:
    said = text(*even("train", "a", 5), *even("train", "b", 5), *even("test", "a", 2))
    assert "confounded" not in said
    assert "tbx11k" not in said


def test_one_source_is_said_once() -> None:
    said = text(*even("train", "here", 5), *even("test", "here", 2))
    assert "Every training film comes from one source (here)" in said
    assert "confounded" not in said


def test_a_source_that_is_not_stated_is_no_source() -> None:
    said = text(*even("train", "unknown", 5))
    assert "does not say which source" in said
    assert "one source (unknown)" not in said
    partly = text(*even("train", "unknown", 5), *even("train", "here", 2))
    assert "15 of 21 training films" in partly
    assert "Every training film" not in partly


def test_a_test_of_the_same_sources_says_nothing_of_others() -> None:
    same = "The test films come from the sources of the training films"
    both = [*even("train", "a", 5), *even("train", "b", 5)]
    assert same in text(*both, *even("test", "a", 2))
    assert same not in text(*both, *even("test", "elsewhere", 2))


def test_age_that_tells_labels_apart_is_named() -> None:
    said = text(
        ("train", "normal", "a", "child", 5),
        ("train", "normal", "a", "adult", 5),
        ("train", "pneumonia", "a", "child", 1),
        ("train", "pneumonia", "a", "adult", 9),
        ("train", "tuberculosis", "a", "adult", 20),
    )
    assert "age group child: normal 50 %, pneumonia 10 %, tuberculosis 0 %" in said
    assert "age group adult" not in said
    assert "age group" not in text(*even("train", "a", 5, "child"), *even("train", "a", 5, "adult"))


def test_an_age_group_of_one_source_is_named_with_it() -> None:
    said = text(("train", "normal", "school", "child", 5), *even("train", "clinic", 5))
    assert "age group child (all of it from school): normal 50 %, pneumonia 0 %" in said


def test_age_that_is_not_stated_is_said() -> None:
    assert "does not say how old" in text(*even("train", "a", 5, "unknown"))


def test_an_age_that_is_not_said_is_no_age_group() -> None:
    two = text(("train", "normal", "a", "child", 9), ("train", "pneumonia", "a", "unknown", 2))
    assert "share of the age group child: normal 100 %, pneumonia 0 %" in two
    assert "not said" not in two
    three = text(
        ("train", "normal", "a", "child", 5),
        ("train", "normal", "a", "adult", 5),
        ("train", "pneumonia", "a", "unknown", 5),
    )
    assert "share of those whose age is not said: normal 0 %, pneumonia 100 %" in three


def test_slices_are_called_slices() -> None:
    groups = [*even("train", "a", 5), ("train", "normal", "b", "child", 5), *even("test", "a", 2)]
    unknown = even("train", "unknown", 5, "unknown")
    for chosen in (groups, unknown, even("train", "a", 5), [*groups, *unknown]):
        films, slices = limitations(dataset(*chosen)), limitations(dataset(*chosen), "slice")
        assert "film" not in " ".join(slices)
        assert slices == tuple(sentence.replace("film", "slice") for sentence in films)


def test_two_labels_of_a_source_each() -> None:
    said = "\n".join(
        limitations(
            dataset(
                ("train", "non-covid", "clinic", "adult", 4),
                ("train", "covid", "hospital", "adult", 6),
                ("test", "covid", "hospital", "adult", 1),
                labels=("non-covid", "covid"),
            ),
            "slice",
        )
    )
    assert "every non-covid slice comes from one source (clinic); every covid slice comes from one source" in said
    assert "trained on 10 slices (non-covid 4, covid 6)" in said


def test_films_of_nobody_are_said(tmp_path: Path) -> None:
    pictures(tmp_path, *(f"{label}/{i}.png" for label in LABELS for i in range(10)))
    said = " ".join(limitations(load_dataset(tmp_path, LABELS)))
    assert "Of 30 of 30 films the data set does not say whose they are" in said
    assert "whose they are" not in text(*even("train", "a", 5))


def test_many_sources_are_not_all_listed() -> None:
    said = text(*(group for number in range(9) for group in even("train", f"clinic{number}", 9 - number)))
    assert "clinic4 5 and 4 more" in said
    assert "clinic5" not in said


def test_no_recipe_speaks_of_the_films_of_one_collection() -> None:
    for recipe in TRAINING_RECIPES.values():
        said = " ".join(recipe.limitations)
        for word in ("collection", "children", "report text", "310", "thousand", "COVID"):
            assert word not in said


@pytest.mark.real_scans
def test_what_is_said_of_real_slices(scans: Path) -> None:
    said = " ".join(limitations(load_dataset(scans / "ct", ("non-covid", "covid")), "slice"))
    assert "The data set does not say how old the patients are" in said
    assert "The test slices come from the sources of the training slices" in said
    assert "film" not in said


@pytest.mark.real_scans
def test_the_shipped_card_says_what_would_be_written_today(scans: Path) -> None:
    card = Registry().find("chest_xray_triage").card
    films = load_dataset(scans / "cxr", CHEST_XRAY_TRIAGE.label_names)
    written = (*CHEST_XRAY_TRIAGE.limitations, *limitations(films))
    assert card.limitations[: len(written)] == written
    assert [line.split()[0] for line in card.limitations[len(written) :]] == ["Labels"]
