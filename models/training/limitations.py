"""What a card has to admit about the films its network was trained and measured on, worked out from them.

A network learns whatever tells the labels apart. Where a label comes from one hospital, or a disease is seen in one age
group alone, hospital and age tell them apart as well as the disease does (J. R. Zech et al., "Variable generalization
performance of a deep learning model to detect pneumonia in chest radiographs", PLoS Med 15(11), 2018).
"""

from collections import Counter
from collections.abc import Sequence
from typing import Literal

from models.training.dataset import UNKNOWN, Dataset, Film
from models.training.film import place

AGE_SPREAD = 0.2
"""An age group whose share in one label is this much above its share in another tells the two apart."""

SOURCES_LISTED = 5

Word = Literal["film", "slice"]
"""What an image is called: a chest film, or a slice of CT."""


def limitations(dataset: Dataset, word: Word = "film") -> tuple[str, ...]:
    """Say in full sentences what the make-up of a data set keeps a result from saying.

    Sources and ages are those of the training films, since it is there that the network learns them.

    Returns
    -------
    tuple of str
        Sources, ages, patients, whether the test is one of other hospitals, counts; only what is so in this data set.
    """
    train = [film for film in dataset.films if film.split == "train"]
    return (
        *_sources(dataset.labels, train, word),
        *_ages(dataset.labels, train, word),
        *_patients(dataset, word),
        *_test(dataset, train, word),
        _counts(dataset, word),
    )


def _sources(labels: Sequence[str], train: Sequence[Film], word: Word) -> list[str]:
    unsaid = sum(film.source == UNKNOWN for film in train)
    if unsaid == len(train):
        return [
            f"The data set does not say which source its {word}s come from, so nobody can tell whether the network"
            " recognises sources instead of diseases."
        ]
    said = []
    if unsaid:
        said.append(f"The data set does not say where {unsaid} of {len(train)} training {word}s come from.")
    of_label = {label: Counter(film.source for film in train if film.label == label) for label in labels}
    of_source = {source: {film.label for film in train if film.source == source} for source in _names(train)}
    if len(of_source) == 1 and not unsaid:
        return [f"Every training {word} comes from one source ({next(iter(of_source))}): nothing was learnt of others."]
    confounded = [
        f"every {label} {word} comes from one source ({next(iter(counts))})"
        for label, counts in of_label.items()
        if len(counts) == 1 and UNKNOWN not in counts
    ]
    confounded += [
        f"the source {source} holds {next(iter(held))} alone" for source, held in of_source.items() if len(held) == 1
    ]
    if confounded:
        said.append(f"Label and source are confounded in the training {word}s: {'; '.join(confounded)}.")
    listed = "; ".join(f"{label}: {_listed(counts)}" for label, counts in of_label.items() if counts)
    said.append(f"Training {word}s by label and source: {listed}.")
    return said


def _names(films: Sequence[Film]) -> list[str]:
    return sorted({film.source for film in films} - {UNKNOWN})


def _listed(counts: Counter[str]) -> str:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    more = len(ordered) - SOURCES_LISTED
    listed = ", ".join(f"{source} {count}" for source, count in ordered[:SOURCES_LISTED])
    return f"{listed} and {more} more" if more > 0 else listed


def _ages(labels: Sequence[str], train: Sequence[Film], word: Word) -> list[str]:
    ages = Counter(film.age_group for film in train)
    if set(ages) <= {UNKNOWN}:
        return [
            "The data set does not say how old the patients are, so nobody can tell whether the network recognises age"
            " instead of diseases."
        ]
    of_label = {label: Counter(film.age_group for film in train if film.label == label) for label in labels}
    shares = {
        age: {label: counts[age] / counts.total() for label, counts in of_label.items() if counts} for age in ages
    }
    telling = [age for age, of in shares.items() if max(of.values()) - min(of.values()) >= AGE_SPREAD]
    if len(ages) == 2 and len(telling) == 2:  # the shares of one are what those of the other leave
        telling = [min(ages, key=lambda age: (age == UNKNOWN, ages[age], age))]
    return [
        f"Label and age are confounded in the training {word}s; share of {_named(age)}{_all_from(train, age)}: "
        + ", ".join(f"{label} {share:.0%}".replace("%", " %") for label, share in shares[age].items())
        + "."
        for age in sorted(telling)
    ]


def _named(age: str) -> str:
    return "those whose age is not said" if age == UNKNOWN else f"the age group {age}"


def _all_from(train: Sequence[Film], age: str) -> str:
    """Name the source of an age group that comes from one of several."""
    sources = {film.source for film in train if film.age_group == age}
    several = len({film.source for film in train}) > 1
    return (
        f" (all of it from {next(iter(sources))})" if several and len(sources) == 1 and UNKNOWN not in sources else ""
    )


def _patients(dataset: Dataset, word: Word) -> list[str]:
    nobodys = sum(not film.patient_id and film.patient == place(film.path, dataset.root) for film in dataset.films)
    if not nobodys:
        return []
    return [
        f"Of {nobodys} of {len(dataset.films)} {word}s the data set does not say whose they are: a patient may lie in"
        " training and in test, and the figures be too good for it."
    ]


def _test(dataset: Dataset, train: Sequence[Film], word: Word) -> list[str]:
    tested = {film.source for film in dataset.films if film.split == "test"}
    if not tested or UNKNOWN in tested or not tested <= {film.source for film in train}:
        return []
    return [
        f"The test {word}s come from the sources of the training {word}s: the figures say nothing of {word}s from"
        " elsewhere."
    ]


def _counts(dataset: Dataset, word: Word) -> str:
    shown = {
        split: f"{sum(counts.values())} ({', '.join(f'{label} {count}' for label, count in counts.items())})"
        for split, counts in dataset.counts().items()
    }
    trained = shown["train"].replace(" (", f" {word}s (", 1)
    return (
        f"The network was trained on {trained}, temperature and thresholds were decided on {shown['val']}, and it was"
        f" measured on {shown['test']}: read the intervals, not the values."
    )
