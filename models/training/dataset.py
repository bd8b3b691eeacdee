"""Labelled films: a `labels.csv` beside them, split by patient, never by image."""

import csv
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from models.errors import DataError
from models.preprocessing import FloatArray

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")

UNKNOWN = "unknown"
"""Source or age group of a film whose row says none."""

NEEDED = (
    "a data set is a folder with the films and a labels.csv with the columns file, label, split (train, val or test)"
    " and patient_id or group_id; source, age_group and licence are used where they are there"
)

ReadImage = Callable[[Path], FloatArray]
"""From a file to float32 (rows, columns), 0 black to 255 white; a reader of DICOM pixels is handed in by the caller."""


@dataclass(frozen=True)
class Film:
    """One row of `labels.csv`.

    `patient` is the key of whatever must not be torn apart by a split: the column `group_id` where there is one (a
    union of patient, publication and look-alike), else `patient_id`.
    """

    path: Path
    label: str
    split: Split
    patient: str
    patient_id: str
    source: str
    age_group: str
    licence: str


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
            place = Path(os.path.relpath(film.path, self.root)).as_posix()
            digest.update(f"\n{place}\0{film.label}\0{film.split}".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()


def load_dataset(root: Path, labels: Sequence[str]) -> Dataset:
    """Read `labels.csv` and refuse what would make a result untrue.

    Needed columns: `file` (relative to the folder), `label`, `split` (train, val or test) and `patient_id` or
    `group_id`. Used where they are there: `source`, `age_group`, `licence`.

    Parameters
    ----------
    root
        Folder with `labels.csv`.
    labels
        Labels of the network in the order of its outputs.

    Raises
    ------
    DataError
        If the table, a column or a file is missing, a label or split is unknown, a file stands twice, or a patient or
        group lies in more than one split.
    """
    table = root / "labels.csv"
    if not root.is_dir():
        raise DataError(f"{root}: there is no such folder; {NEEDED}")
    if not table.exists():
        raise DataError(f"{root}: there is no labels.csv in it; {NEEDED}")
    try:
        with table.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except OSError as error:
        raise DataError(f"{table}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table}: {error}") from None
    if not rows:
        raise DataError(f"{table}: no rows; {NEEDED}")
    missing = {"file", "label", "split"} - rows[0].keys()
    if missing:
        raise DataError(f"{table}: no column {', '.join(sorted(missing))}; {NEEDED}")
    if not {"patient_id", "group_id"} & rows[0].keys():
        raise DataError(f"{table}: without a column patient_id or group_id nobody can tell whether a patient leaks")
    films = tuple(_film(root, table, number, row, labels) for number, row in enumerate(rows, start=2))
    _refuse_twice(table, films)
    _refuse_crossing(table, films)
    return Dataset(root, tuple(labels), films)


def _film(root: Path, table: Path, number: int, row: dict[str, str], labels: Sequence[str]) -> Film:
    where = f"{table}, line {number}"
    if row["label"] not in labels:
        raise DataError(f"{where}: label {row['label']!r} is none of {', '.join(labels)}")
    splits: dict[str, Split] = {split: split for split in SPLITS}
    if row["split"] not in splits:
        raise DataError(f"{where}: split {row['split']!r} is none of {', '.join(SPLITS)}")
    path = root / row["file"]
    if not path.is_file():
        raise DataError(f"{where}: there is no file {path}")
    patient_id = row.get("patient_id") or ""
    patient = row.get("group_id") or patient_id
    if not patient:
        raise DataError(f"{where}: neither patient_id nor group_id is filled")
    return Film(
        path=path,
        label=row["label"],
        split=splits[row["split"]],
        patient=patient,
        patient_id=patient_id,
        source=row.get("source") or UNKNOWN,
        age_group=row.get("age_group") or UNKNOWN,
        licence=row.get("licence") or "not stated",
    )


def _refuse_twice(table: Path, films: Iterable[Film]) -> None:
    twice = [path for path, count in Counter(film.path for film in films).items() if count > 1]
    if twice:
        raise DataError(f"{table}: {len(twice)} files stand twice, the first is {twice[0]}")


def _refuse_crossing(table: Path, films: Iterable[Film]) -> None:
    for column in ("patient", "patient_id"):
        splits: dict[str, set[str]] = {}
        for film in films:
            key = getattr(film, column)
            if key:
                splits.setdefault(key, set()).add(film.split)
        crossing = sorted(key for key, found in splits.items() if len(found) > 1)
        if crossing:
            shown = ", ".join(f"{key} ({' and '.join(sorted(splits[key]))})" for key in crossing[:3])
            raise DataError(
                f"{table}: {len(crossing)} patients or groups lie in more than one split: {shown}; what is learnt of a"
                " patient in training must not be asked again in the test: put all of a patient's films in one split"
            )
