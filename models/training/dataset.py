"""Labelled films, split by patient, never by image: a `labels.csv`, CoronaHack, labels in names or in folders."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from models.errors import DataError
from models.training.arrange import arranged
from models.training.film import SPLITS, UNKNOWN, Film, Gathered, ReadImage, Split, place
from models.training.forms import class_folders, coronahack, file_names, labels_csv
from models.training.forms.film_files import film_files
from models.training.forms.label_names import LabelNames

__all__ = ["SPLITS", "UNKNOWN", "Dataset", "Film", "Held", "ReadImage", "Split", "load_dataset"]

NEEDED = (
    f"a data set is a folder with the films and {labels_csv.COLUMNS}; or CoronaHack's {coronahack.TABLE} and its"
    " folders; or films in folders named for their labels, under train, val and test or not; or films whose names end"
    " in _0 (no finding) and _1 (the finding)"
)


class Held(NamedTuple):
    """How much a label has in a split."""

    images: int
    patients: int


@dataclass(frozen=True)
class Dataset:
    """Labelled films, checked: files are there, labels are known, no patient crosses splits.

    `notes` say in sentences what was counted, left out or decided as the films were found.
    """

    root: Path
    labels: tuple[str, ...]
    films: tuple[Film, ...]
    notes: tuple[str, ...] = ()

    def split(self, name: Split) -> tuple[Film, ...]:
        """Return the films of one split.

        Raises
        ------
        DataError
            If there are none.
        """
        films = tuple(film for film in self.films if film.split == name)
        if not films:
            raise DataError(f"{self.root}: no film has split={name}")
        return films

    def counts(self) -> dict[str, dict[str, int]]:
        """Images by split and label."""
        counted = Counter((film.split, film.label) for film in self.films)
        return {split: {label: counted[split, label] for label in self.labels} for split in SPLITS}

    def balance(self) -> dict[Split, dict[str, Held]]:
        """Images and patients by split and label: whether a class is rare, and whether few patients make it up."""
        images = Counter((film.split, film.label) for film in self.films)
        patients = Counter((split, label) for split, label, _ in {(f.split, f.label, f.patient) for f in self.films})
        return {
            split: {label: Held(images[split, label], patients[split, label]) for label in self.labels}
            for split in SPLITS
        }

    def targets(self, films: Sequence[Film]) -> list[int]:
        """Position of each film's label."""
        position = {label: index for index, label in enumerate(self.labels)}
        return [position[film.label] for film in films]

    def class_weights(self, split: Split = "train") -> dict[int, float]:
        """Weights under which every class counts the same: images / (classes x images of the class).

        Raises
        ------
        DataError
            If a class has no image in the split.
        """
        counts = self.counts()[split]
        absent = [label for label, count in counts.items() if count == 0]
        if absent:
            raise DataError(f"{self.root}: no image of {', '.join(absent)} in split={split}")
        total = sum(counts.values())
        return {index: total / (len(counts) * count) for index, count in enumerate(counts.values())}

    def oversampled(self, random: np.random.Generator) -> list[int]:
        """Draw the films of the smaller classes again until every class has as many as the largest.

        Parameters
        ----------
        random
            Decides which films are drawn once more than others; the same state, the same draw.

        Returns
        -------
        list of int
            Positions in `split("train")`, class by class: every film at least once, and no film more than once more
            than another of its class. To be shuffled by the caller.

        Raises
        ------
        DataError
            If a class has no film in training.
        """
        self.class_weights()
        targets = np.asarray(self.targets(self.split("train")))
        most = int(np.bincount(targets).max())
        drawn: list[int] = []
        for index in range(len(self.labels)):
            films = np.flatnonzero(targets == index)
            times, over = divmod(most, len(films))
            drawn += [int(film) for film in np.tile(films, times)]
            drawn += [int(film) for film in random.choice(films, over, replace=False)]
        return drawn

    def fingerprint(self) -> str:
        """SHA-256 over the films' paths in the folder, labels and splits, in their order.

        The same for a copy of the folder elsewhere; another one as soon as a film, a label or a split is another. A
        broken-off training is carried on with the same films only.
        """
        digest = hashlib.sha256("\0".join(self.labels).encode())
        for film in self.films:
            row = f"\n{place(film.path, self.root)}\0{film.label}\0{film.split}"
            digest.update(row.encode("utf-8", "surrogateescape"))
        return digest.hexdigest()


def load_dataset(
    root: Path, labels: Sequence[str], *, seed: int = 0, folds: int | None = None, fold: int = 0
) -> Dataset:
    """Find out the form of a data set, read it, and refuse what would make a result untrue.

    The split is the one that the data gives; where it gives none, one is made by patient.

    Parameters
    ----------
    root
        A folder, or its table. With a `labels.csv`: see `forms.labels_csv`; with CoronaHack's metadata anywhere below:
        `forms.coronahack`; with films in folders named for labels: `forms.class_folders`; with names that end in `_0`
        and `_1`: `forms.file_names`.
    labels
        Labels of the network in the order of its outputs. A film whose label this project knows and the network does
        not is left out, and counted in the notes.
    seed
        Decides a split made here.
    folds
        Cut the patients into so many folds instead of taking or making a split: `fold` tests, the next one validates.
    fold
        Which fold tests, from 0.

    Returns
    -------
    Dataset
        Its films in the order of the table, or of their paths.

    Raises
    ------
    DataError
        If there is no such data set, a table is not what it should be, a label or split is unknown, a patient, a group
        or a file's content lies in more than one split, or the folds cannot be.
    """
    gathered = _gather(root, LabelNames(labels))
    if not gathered.films:
        raise DataError(f"{root}: no film has a label of the network, which are {', '.join(labels)}")
    films, notes = arranged(gathered, seed=seed, folds=folds, fold=fold)
    return Dataset(gathered.root, tuple(labels), films, (*gathered.notes, *notes))


def _gather(root: Path, names: LabelNames) -> Gathered:
    if root.is_file():
        if coronahack.is_metadata(root):
            return coronahack.gather(root.parent, root, *film_files(root.parent), names)
        return labels_csv.gather(root, names)
    if not root.is_dir():
        raise DataError(f"{root}: there is no such folder; {NEEDED}")
    if (root / labels_csv.TABLE).exists():
        return labels_csv.gather(root / labels_csv.TABLE, names)
    files, notes = film_files(root)
    tables = sorted(root.rglob(coronahack.TABLE))
    if len(tables) > 1:
        raise DataError(f"{root}: there are {len(tables)} tables of CoronaHack below it; name the one to be used")
    if tables:
        return coronahack.gather(root, tables[0], files, notes, names)
    if any(class_folders.class_of(path, root, names) for path in files) and not all(map(file_names.is_nih, files)):
        return class_folders.gather(root, files, notes, names)
    if any(file_names.LABELLED.fullmatch(path.stem) for path in files):
        return file_names.gather(root, files, notes, names)
    raise DataError(f"{root}: of {len(files):,} films in it, nobody says what they are of; {NEEDED}")
