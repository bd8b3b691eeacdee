"""Splits by patient, never by image: 70/15/15, a validation part of the training films, or folds."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from models.errors import DataError
from models.training.film import SPLITS, FoundFilm, Split

SHARES = (0.70, 0.15, 0.15)
"""Shares of train, val and test where the data gives no split."""

VAL_SHARE = 0.15
"""Share of the training films that becomes the validation part where the data gives train and test alone."""

LEAST_FOLDS = 3
"""One to test, one to validate, one to learn from."""


@dataclass(frozen=True)
class Party:
    """Films that belong together, by position; `label` is the rarest that they hold."""

    films: tuple[int, ...]
    label: str
    source: str


def parties(films: Sequence[FoundFilm], same: Iterable[Sequence[int]] = ()) -> list[Party]:
    """Put together what no split may tear apart: films of a patient, of a group, and of what either is joined to.

    Parameters
    ----------
    films
        A film without patient and group is on its own.
    same
        Positions of films that are known to be of one patient for another reason, as files with the same bytes are.

    Returns
    -------
    list of Party
        In the order of their first films.
    """
    above = list(range(len(films)))

    def top(index: int) -> int:
        while above[index] != index:
            above[index] = above[above[index]]
            index = above[index]
        return index

    def join(one: int, other: int) -> None:
        low, high = sorted((top(one), top(other)))
        above[high] = low

    first: dict[tuple[str, str], int] = {}
    for index, film in enumerate(films):
        for key in (("patient", film.patient_id), ("group", film.group_id)):
            if key[1]:
                join(index, first.setdefault(key, index))
    for together in same:
        for index in together:
            join(index, together[0])
    held: dict[int, list[int]] = defaultdict(list)
    for index in range(len(films)):
        held[top(index)].append(index)
    images = Counter(film.label for film in films)
    return [_party(films, inside, images) for inside in held.values()]


def _party(films: Sequence[FoundFilm], inside: Sequence[int], images: Counter[str]) -> Party:
    rarest = min(inside, key=lambda index: (images[films[index].label], films[index].label, films[index].source))
    return Party(tuple(inside), films[rarest].label, films[rarest].source)


def deal(dealt: Sequence[Party], shares: Sequence[float], random: np.random.Generator) -> list[int]:
    """Deal parties out to parts, every label and source in the shares wanted, as near as whole parties allow.

    Within a label, source after source and the large parties first, each goes to the part that lacks most films of the
    label. A label with as many parties as there are parts is in each of them.

    Returns
    -------
    list of int
        The part of each party.
    """
    part = [0] * len(dealt)
    chance = random.permutation(len(dealt))
    ties = random.permutation(len(shares))
    for label in sorted({party.label for party in dealt}):
        of_source = Counter[str]()
        for party in dealt:
            if party.label == label:
                of_source[party.source] += len(party.films)
        order = sorted(
            (index for index, party in enumerate(dealt) if party.label == label),
            key=lambda index: (
                -of_source[dealt[index].source],
                dealt[index].source,
                -len(dealt[index].films),
                chance[index],
            ),
        )
        lacks = [0.0] * len(shares)
        for index in order:
            size = len(dealt[index].films)
            lacks = [lack + share * size for lack, share in zip(lacks, shares, strict=True)]
            part[index] = max(range(len(shares)), key=lambda one: (round(lacks[one], 9), ties[one]))
            lacks[part[index]] -= size
        _fill(dealt, order, part, len(shares))
    return part


def _fill(dealt: Sequence[Party], order: Sequence[int], part: list[int], parts: int) -> None:
    """Give a part that got no party of a label the smallest of the part with most."""
    if len(order) < parts:
        return
    for empty in range(parts):
        held = Counter(part[index] for index in order)
        if not held[empty]:
            fullest = max(range(parts), key=lambda one: held[one])
            smallest = min((index for index in order if part[index] == fullest), key=lambda i: len(dealt[i].films))
            part[smallest] = empty


def by_shares(films: Sequence[FoundFilm], same: Iterable[Sequence[int]], seed: int) -> list[Split]:
    """Split films 70/15/15."""
    together = parties(films, same)
    return _spread(len(films), together, deal(together, SHARES, np.random.default_rng(seed)), SPLITS)


def with_validation(films: Sequence[FoundFilm], same: Iterable[Sequence[int]], seed: int) -> list[Split]:
    """Keep a given train and test, and make a validation part of the patients of train."""
    training = [index for index, film in enumerate(films) if film.split == "train"]
    position = {index: number for number, index in enumerate(training)}
    within = [[position[index] for index in group if index in position] for group in same]
    together = parties([films[index] for index in training], [group for group in within if group])
    parts = deal(together, (1 - VAL_SHARE, VAL_SHARE), np.random.default_rng(seed))
    chosen = dict(zip(training, _spread(len(training), together, parts, ("train", "val")), strict=True))
    return [chosen.get(index) or film.split or "train" for index, film in enumerate(films)]


def by_folds(
    films: Sequence[FoundFilm], same: Iterable[Sequence[int]], seed: int, folds: int, fold: int
) -> list[Split]:
    """Split films into folds of which one tests, the next validates, and the others train.

    The folds of a seed are the same whichever of them tests, so every patient is tested once.

    Raises
    ------
    DataError
        If there are fewer than three folds, more than patients of a label, or no such fold.
    """
    if folds < LEAST_FOLDS:
        raise DataError(f"{folds} folds are too few: one tests, one validates, and the others train, so 3 or more")
    if not 0 <= fold < folds:
        raise DataError(f"there is no fold {fold}: {folds} folds are numbered 0 to {folds - 1}")
    together = parties(films, same)
    patients = Counter(label for party in together for label in {films[index].label for index in party.films})
    label, fewest = min(patients.items(), key=lambda item: (item[1], item[0]))
    if folds > fewest:
        raise DataError(f"{folds} folds are more than the {fewest} patients with {label}: take {fewest} or fewer")
    names: list[Split] = ["train"] * folds
    names[(fold + 1) % folds] = "val"
    names[fold] = "test"
    return _spread(len(films), together, deal(together, (1 / folds,) * folds, np.random.default_rng(seed)), names)


def _spread(films: int, together: Sequence[Party], parts: Sequence[int], names: Sequence[Split]) -> list[Split]:
    splits: list[Split] = ["train"] * films
    for party, part in zip(together, parts, strict=True):
        for index in party.films:
            splits[index] = names[part]
    return splits
