"""The form of our own: a table `labels.csv` beside the films."""

import csv
from pathlib import Path

from models.errors import DataError
from models.training.film import SPLITS, UNKNOWN, FoundFilm, Gathered, Split, some
from models.training.forms.film_files import is_film
from models.training.forms.label_names import LabelNames

TABLE = "labels.csv"

COLUMNS = (
    "a labels.csv with the columns file, label, split (train, val or test; without it one is made) and patient_id or"
    " group_id; source, age_group and licence are used where they are there"
)

Row = dict[str, str]


SEPARATORS = ",;\t"
"""What may stand between cells; spreadsheets write semicolons where the comma is the decimal sign."""


def read_rows(table: Path) -> list[Row]:
    """Read a table with a line of headings, in which commas, semicolons or tabs separate.

    Raises
    ------
    DataError
        If it cannot be read, is a film or no UTF-8, or has no rows.
    """
    if is_film(table):
        raise DataError(f"{table}: this is a film and no table; name the folder that holds the films, or their table")
    try:
        with table.open(encoding="utf-8-sig", newline="") as stream:  # a spreadsheet may write a byte order mark
            headings = stream.readline()
            stream.seek(0)
            rows: list[Row] = list(csv.DictReader(stream, restval="", delimiter=max(SEPARATORS, key=headings.count)))
    except OSError as error:
        raise DataError(f"{table}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"{table}: this is no text in UTF-8 ({error.reason} at byte {error.start:,}); write it as UTF-8, which a"
            ' spreadsheet offers as "CSV UTF-8"'
        ) from None
    except csv.Error as error:
        raise DataError(f"{table}: {error}") from None
    if not rows:
        raise DataError(f"{table}: no rows")
    return rows


def gather(table: Path, names: LabelNames) -> Gathered:
    """Read `labels.csv`.

    Needed columns: `file` (relative to the table), `label`, and `patient_id` or `group_id`: a table is where whoever
    knows the patients can say so. Used where they are there: `split`, `source`, `age_group`, `licence`.

    Raises
    ------
    DataError
        If a column or a file is missing, a label or split is unknown, no patient is named, or a file stands twice.
    """
    rows = read_rows(table)
    missing = {"file", "label"} - rows[0].keys()
    if missing:
        raise DataError(f"{table}: no column {', '.join(sorted(missing))}; needed is {COLUMNS}")
    if not {"patient_id", "group_id"} & rows[0].keys():
        raise DataError(f"{table}: without a column patient_id or group_id nobody can tell whether a patient leaks")
    split_given = any(row.get("split") for row in rows)
    found = [_film(table, number, row, names, split_given) for number, row in enumerate(rows, start=2)]
    films = tuple(film for film in found if film is not None)
    if len({film.path for film in films}) < len(films):
        _refuse_twice(table, films)
    remedy = "put all of a patient's films in one split, or take the column split away and one by patient is made"
    return Gathered(table.parent, films, tuple(names.notes()), remedy)


def _film(table: Path, number: int, row: Row, names: LabelNames, split_given: bool) -> FoundFilm | None:
    where = f"{table}, line {number}"
    label = names.match(row["label"], where)
    if label is None:
        return None
    path = table.parent / row["file"]
    if not path.is_file():
        raise DataError(f"{where}: there is no file {path}")
    patient_id, group_id = row.get("patient_id") or "", row.get("group_id") or ""
    if not patient_id and not group_id:
        raise DataError(f"{where}: neither patient_id nor group_id is filled")
    return FoundFilm(
        path=path,
        label=label,
        split=_split(row["split"], where) if split_given else None,
        patient_id=patient_id,
        group_id=group_id,
        source=row.get("source") or UNKNOWN,
        age_group=row.get("age_group") or UNKNOWN,
        licence=row.get("licence") or "not stated",
    )


def _split(text: str, where: str) -> Split:
    for split in SPLITS:
        if text == split:
            return split
    raise DataError(f"{where}: split {text!r} is none of {', '.join(SPLITS)}")


def _refuse_twice(table: Path, films: tuple[FoundFilm, ...]) -> None:
    seen: set[Path] = set()
    twice = []
    for film in films:
        if film.path in seen:
            twice.append(str(film.path))
        seen.add(film.path)
    raise DataError(f"{table}: {len(twice)} files stand twice: {some(twice)}")
