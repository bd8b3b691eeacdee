"""CoronaHack, the Kaggle set of articles 002 and 004: a table of metadata beside folders `train` and `test`."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from models.errors import DataError
from models.training.film import UNKNOWN, FoundFilm, Gathered, Split, some
from models.training.forms.file_names import patient_of
from models.training.forms.film_files import split_of
from models.training.forms.label_names import LabelNames
from models.training.forms.labels_csv import Row, read_rows

TABLE = "Chest_xray_Corona_Metadata.csv"
NAME, LABEL, SPLIT, VIRUS = "X_ray_image_name", "Label", "Dataset_type", "Label_2_Virus_category"

MOVED_SHARE = 0.2
"""Share of the COVID-19 films that goes to the test set, which has none; article 002: "20% of 58 which are 11"."""

_FIGURE = re.compile(
    r"(?:[-_.](?:day\d+|fig[-\w]*|g\d+\w*|gr\d+|fx\d+|lrg|main|pdf|html|webp|[a-z]\d?|\d{1,3}))+$", re.IGNORECASE
)

_SPLITS: dict[str, Split] = {"TRAIN": "train", "TEST": "test"}


def patient(name: str) -> str:
    """Return whose film it is, as far as its name tells.

    Most films are Kermany's, of numbered persons (see `patient_of`). That viral and bacterial persons are numbered
    apart follows from the table: 979 of the numbers would else be those of persons with both kinds of pneumonia, and
    170 of them would lie in `TRAIN` and `TEST`, while with the kind beside the number none does. The same holds for
    `IM-` and `NORMAL2-IM-`: 94 against none. So the published split leaks no patient that a name could tell of.

    The others are Cohen's, named for a publication and its figures: all of a publication count as one patient, since
    figures a, b and c are often days of one. Some are named at random, and nobody can tell.
    """
    return patient_of(name) or _FIGURE.sub("", Path(name).stem)


def is_metadata(table: Path) -> bool:
    """Say whether a table is this one, by its headings."""
    return NAME in read_rows(table)[0]


def gather(root: Path, table: Path, files: Sequence[Path], notes: Sequence[str], names: LabelNames) -> Gathered:
    """Join the table with the files by name, and make the ternary label of article 002.

    COVID-19 is what the virus category says; the rest is normal or (in the table's spelling) "Pnemonia". For a network
    without a label for COVID-19 those films stay the pneumonia that the table calls them, as in article 004, and stay
    in the training set. For one with, a fifth of them is moved to the test set, whole publications, counted from the
    table's end: article 002 took the last 11 rows and so tore four films of one publication apart.

    Raises
    ------
    DataError
        If a column is missing, a label or a split is unknown, or a name stands twice.
    """
    rows = read_rows(table)
    missing = {NAME, LABEL, SPLIT, VIRUS} - rows[0].keys()
    if missing:
        raise DataError(f"{table}: no column {', '.join(sorted(missing))}")
    covid = names.label("covid")
    paths: dict[str, list[Path]] = {}
    for path in files:
        paths.setdefault(path.name, []).append(path)
    films: list[FoundFilm] = []
    rowless = set(paths)
    fileless: list[str] = []
    as_pneumonia = 0
    for number, row in enumerate(rows, start=2):
        split = _split(row, f"{table}, line {number}")
        name = row[NAME]
        if name not in paths:
            fileless.append(name)
            continue
        if name not in rowless:
            raise DataError(f"{table}, line {number}: {name} stands twice")
        rowless.remove(name)
        is_covid = row[VIRUS].strip().upper() == "COVID-19"
        label = names.match("covid" if is_covid and covid else row[LABEL], f"{table}, line {number}")
        if label is not None:
            as_pneumonia += is_covid and not covid
            films.append(_film(_file(paths[name], root, split), label, split))
    said = [*notes, *names.notes()]
    if fileless:
        said.append(f"Rows of the table without a file, left out: {len(fileless):,} ({some(fileless)}).")
    if rowless:
        said.append(f"Files without a row in the table, left out: {len(rowless):,} ({some(sorted(rowless))}).")
    if as_pneumonia:
        said.append(f"Films of COVID-19 that count as the pneumonia that the table calls them: {as_pneumonia:,}.")
    moved = ""
    if covid:
        films, moved = _with_tested(films, covid)
    unnamed = sum(not patient_of(film.path.name) for film in films)
    if unnamed:
        said.append(
            f"Films named for a publication or at random: {unnamed:,}; those of a publication are held together, of"
            " the others nobody can tell whether a patient lies in two splits."
        )
    remedy = "leave the films of these patients out of one of the two, or let folds be made"
    return Gathered(root, tuple(films), tuple(said), remedy, (moved,) if moved else (), published=True)


def _split(row: Row, where: str) -> Split:
    split = _SPLITS.get(row[SPLIT].strip().upper())
    if split is None:
        raise DataError(f"{where}: {SPLIT} {row[SPLIT]!r} is neither TRAIN nor TEST")
    return split


def _file(paths: Sequence[Path], root: Path, split: Split) -> Path:
    """Of files of one name, that in the folder of the split: a film moved by hand may have left a copy behind."""
    return next((path for path in paths if split_of(path, root) == split), paths[0])


def _film(path: Path, label: str, split: Split) -> FoundFilm:
    kermany = bool(patient_of(path.name))
    return FoundFilm(
        path=path,
        label=label,
        split=split,
        patient_id=patient(path.name),
        source="kermany" if kermany else "cohen",
        age_group="paediatric" if kermany else UNKNOWN,
    )


def _with_tested(films: list[FoundFilm], covid: str) -> tuple[list[FoundFilm], str]:
    """Move a fifth of the COVID-19 films to a test set that has none, and say so."""
    positions = [index for index, film in enumerate(films) if film.label == covid]
    if len({films[index].split for index in positions}) != 1 or films[positions[0]].split != "train":
        return films, ""
    quota = int(MOVED_SHARE * len(positions))
    moved: set[int] = set()
    for patient_id in dict.fromkeys(films[index].patient_id for index in reversed(positions)):
        theirs = {index for index in positions if films[index].patient_id == patient_id}
        if len(moved | theirs) <= quota:
            moved |= theirs
    if not moved:
        return films, ""
    changed = [replace(film, split="test") if index in moved else film for index, film in enumerate(films)]
    return changed, f"Films of COVID-19 moved to the test set, which had none: {len(moved):,} of {len(positions):,}."
