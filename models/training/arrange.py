"""From the films that a form of data gave to films that each lie in a split, and no patient in two."""

from collections.abc import Iterable, Sequence

from models.errors import DataError
from models.training.copies import identical
from models.training.film import SPLITS, Film, FoundFilm, Gathered, Split, place, some
from models.training.splitting import SHARES, VAL_SHARE, by_folds, by_shares, parties, with_validation

KEPT_FIRST: Sequence[Split | None] = ("test", "val", "train", None)
"""Of films with the same bytes in two splits of a published set, that of the test stays: the test is what is quoted."""


def arranged(
    gathered: Gathered, *, seed: int, folds: int | None, fold: int
) -> tuple[tuple[Film, ...], tuple[str, ...]]:
    """Take the split that the data gives, or make one, or folds.

    Returns
    -------
    tuple
        The films, in their order, without those that had to be left out; and sentences about both.

    Raises
    ------
    DataError
        If the given split tears a patient, a group or a file's content apart, or the folds cannot be.
    """
    given = any(film.split for film in gathered.films)
    same = identical([film.path for film in gathered.films])
    if folds is None and given:
        films, notes = _as_given(gathered, same, seed)
    else:
        films, notes = _split_here(gathered, same, seed, folds, fold)
    unsaid = sum(not film.patient_id and not film.group_id for film in gathered.films)
    if unsaid:
        notes.append(
            f"Films of which nobody says whose they are: {unsaid:,}; each counts as a patient of its own; nobody can"
            " tell whether a patient lies in two splits."
        )
    return films, tuple(notes)


def _as_given(gathered: Gathered, same: Sequence[Sequence[int]], seed: int) -> tuple[tuple[Film, ...], list[str]]:
    films = gathered.films
    _refuse_crossing(gathered)
    notes = list(gathered.split_notes)
    if gathered.published:
        films, same, more = _without_torn(films, same)
        notes += more
    _refuse_copies(gathered, films, same)
    films, joined, more = _without_copies(films, same)
    notes += more
    given = {film.split for film in films}
    splits = [film.split or "train" for film in films]
    if "val" not in given and {"train", "test"} <= given:
        splits = with_validation(films, joined, seed)
        notes.append(
            f"No validation part is given: {VAL_SHARE:.0%} of the training films were taken for one, by patient"
            f" (seed {seed})."
        )
    return _placed(gathered, films, joined, splits), notes


def _split_here(
    gathered: Gathered, same: Sequence[Sequence[int]], seed: int, folds: int | None, fold: int
) -> tuple[tuple[Film, ...], list[str]]:
    films, joined, notes = _without_copies(gathered.films, same)
    if folds is None:
        splits = by_shares(films, joined, seed)
        shares = ", ".join(f"{share:.0%} {split}" for split, share in zip(SPLITS, SHARES, strict=True))
        notes.append(f"The data gives no split; one was made by patient, label and source: {shares} (seed {seed}).")
    else:
        splits = by_folds(films, joined, seed, folds, fold)
        notes.append(f"Of {folds} folds made by patient, fold {fold} tests and fold {(fold + 1) % folds} validates.")
        if any(film.split for film in films):
            notes.append("The split given in the data was not used.")
    return _placed(gathered, films, joined, splits), notes + _rare(films, splits)


def _without_copies(
    films: Sequence[FoundFilm], same: Sequence[Sequence[int]]
) -> tuple[tuple[FoundFilm, ...], list[list[int]], list[str]]:
    """Keep the first of films with the same bytes, and none where they contradict each other.

    Returns
    -------
    tuple
        The films that stay; positions among them of films that belong together, also by copies that went; sentences.
    """
    copies = {index for group in same for index in group[1:]}
    contradicting, notes = _contradicting(films, same)
    copies -= contradicting
    if copies:
        notes.append(f"Left out, as another film has the same bytes: {len(copies):,}.")
    together = [party.films for party in parties(films, same)]
    return *_without(films, together, copies | contradicting), notes


def _without_torn(
    films: Sequence[FoundFilm], same: Sequence[Sequence[int]]
) -> tuple[tuple[FoundFilm, ...], list[list[int]], list[str]]:
    """Leave a published set's training films out whose bytes lie in its test too, and the others of their patients.

    Returns
    -------
    tuple
        The films that stay; positions among them of films with the same bytes; sentences.
    """
    contradicting, notes = _contradicting(films, same)
    torn: set[int] = set()
    for party in parties(films, same):
        kept = min((films[index].split for index in party.films), key=KEPT_FIRST.index)
        torn.update(index for index in party.films if films[index].split != kept)
    torn -= contradicting
    if torn:
        notes.append(
            f"Left out, as a film with the same bytes puts their patients into the test set too: {len(torn):,}."
        )
    return *_without(films, same, torn | contradicting), notes


def _contradicting(films: Sequence[FoundFilm], same: Iterable[Sequence[int]]) -> tuple[set[int], list[str]]:
    found = {index for group in same if len({films[index].label for index in group}) > 1 for index in group}
    return found, [f"Left out, as films with the same bytes have different labels: {len(found):,}."] if found else []


def _without(
    films: Sequence[FoundFilm], groups: Iterable[Sequence[int]], left_out: set[int]
) -> tuple[tuple[FoundFilm, ...], list[list[int]]]:
    """Leave films out, and tell of groups of positions what is left of them."""
    stay = [index for index in range(len(films)) if index not in left_out]
    position = {index: number for number, index in enumerate(stay)}
    rest = [[position[index] for index in group if index in position] for group in groups]
    return tuple(films[index] for index in stay), [group for group in rest if group]


def _placed(
    gathered: Gathered, films: Sequence[FoundFilm], joined: Iterable[Sequence[int]], splits: Sequence[Split]
) -> tuple[Film, ...]:
    """Put films into their splits, those of a party under one key, and no two parties under the same."""
    keys: dict[int, str] = {}
    used: set[str] = set()
    for party in parties(films, joined):
        first = films[party.films[0]]
        key = first.key(gathered.root)
        if key in used:  # a group may be called what a patient is called
            key = f"{key} ({place(first.path, gathered.root)})"
        used.add(key)
        keys |= dict.fromkeys(party.films, key)
    return tuple(film.placed(split, keys[index]) for index, (film, split) in enumerate(zip(films, splits, strict=True)))


def _rare(films: Sequence[FoundFilm], splits: Sequence[Split]) -> list[str]:
    held = {(film.label, split) for film, split in zip(films, splits, strict=True)}
    return [
        f"{label} has too few patients to be in every split: none is in {split}."
        for label in sorted({film.label for film in films})
        for split in SPLITS
        if (label, split) not in held
    ]


def _refuse_crossing(gathered: Gathered) -> None:
    splits: dict[tuple[str, str], set[str]] = {}
    for film in gathered.films:
        for key in (("group", film.group_id), ("patient", film.patient_id)):
            if key[1]:
                splits.setdefault(key, set()).add(str(film.split))
    crossing = [f"{key[1]} ({' and '.join(sorted(found))})" for key, found in sorted(splits.items()) if len(found) > 1]
    if crossing:
        raise DataError(
            f"{gathered.root}: patients or groups that lie in more than one split: {len(crossing):,}, {some(crossing)};"
            f" what is learnt of a patient in training must not be asked again in the test: {gathered.remedy}"
        )


def _refuse_copies(gathered: Gathered, films: Sequence[FoundFilm], same: Iterable[Sequence[int]]) -> None:
    torn = []
    for group in same:
        of_split = {
            films[index].split: f"{place(films[index].path, gathered.root)} ({films[index].split})" for index in group
        }
        if len(of_split) > 1:
            torn.append(" and ".join(of_split.values()))
    if torn:
        raise DataError(
            f"{gathered.root}: films that lie in more than one split, under several names with the same bytes:"
            f" {len(torn):,}, {some(torn)}; leave all but one of each out, or {gathered.remedy}"
        )
