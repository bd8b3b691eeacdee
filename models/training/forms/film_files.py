"""Which files under a folder are films."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from models.errors import DataError
from models.training.film import FoundFilm, Split, place, some
from models.training.forms.label_names import folded

PICTURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")
DICOM_ENDINGS = frozenset(("", ".dcm", ".dicom", ".dic", ".ima"))
FIRST_GROUPS = (b"\x02\x00", b"\x08\x00", b"\x00\x02", b"\x00\x08")

SPLIT_FOLDERS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}

REMEDY = "put all of a patient's films under one of train, val and test, or let folds be made"
"""What to do where the folders of the splits tear a patient apart."""

NO_FILMS = frozenset(("mask", "masks"))
"""Folders of drawings over films, in published sets beside the films themselves."""


def film_files(root: Path) -> tuple[list[Path], list[str]]:
    """List the films under a folder, sorted, and say what was passed over.

    A film begins as a PNG, a JPEG or a DICOM file does, whatever its name (PS3.10 7.1: `DICM` after 128 bytes; a file
    without a preamble begins with group 0002 or 0008 and is taken where its name is not another kind's). Hidden files
    and folders are not looked at, nor are links that lead out of the folder, nor a DICOMDIR.

    Returns
    -------
    tuple
        Files, and sentences.
    """
    films: list[Path] = []
    others: list[str] = []
    masks = 0
    links: list[str] = []
    home = root.resolve()
    for path in _files(root):
        if path.is_symlink() and not path.resolve().is_relative_to(home):
            links.append(place(path, root))
        elif path.is_dir():
            continue  # a link to a folder in here, whose files are met there
        elif NO_FILMS & {folded(part) for part in path.relative_to(root).parts[:-1]}:
            masks += 1
        elif is_film(path):
            films.append(path)
        elif path.suffix != ".csv":
            others.append(place(path, root))
    notes = []
    if others:
        notes.append(f"Left out as neither PNG, JPEG nor DICOM: {len(others):,} ({some(others)}).")
    if links:
        notes.append(f"Links that lead out of the folder, not followed: {len(links):,} ({some(links)}).")
    if masks:
        notes.append(f"Left out as masks: {masks:,}.")
    return films, notes


def _files(root: Path) -> Iterator[Path]:
    for folder, inside, names in os.walk(root, onerror=_refuse):
        inside[:] = sorted(name for name in inside if not name.startswith(".") and name != "__MACOSX")
        here = Path(folder)
        yield from (here / name for name in inside if (here / name).is_symlink())
        yield from (here / name for name in sorted(names) if not name.startswith("."))


def _refuse(error: OSError) -> None:
    raise DataError(f"{error.filename}: {error.strerror}; films may lie in it")


def is_film(path: Path) -> bool:
    """Say whether a file begins as a film does; False where it cannot be read."""
    try:
        with path.open("rb") as stream:
            start = stream.read(132)
    except OSError:
        return False
    if start.startswith(PICTURES):
        return True
    if path.name.upper() == "DICOMDIR":
        return False
    return start[128:] == b"DICM" or (path.suffix.lower() in DICOM_ENDINGS and start.startswith(FIRST_GROUPS))


def split_of(path: Path, root: Path) -> Split | None:
    """Return the split whose folder a film lies in, None if it lies in none."""
    for part in reversed(path.relative_to(root).parts[:-1]):
        if folded(part) in SPLIT_FOLDERS:
            return SPLIT_FOLDERS[folded(part)]
    return None


def settled(films: Sequence[FoundFilm], root: Path) -> tuple[FoundFilm, ...]:
    """Return films with the splits of their folders, or with none where there is but a folder of training films.

    Raises
    ------
    DataError
        If some films lie in a folder of a split and others in none.
    """
    splits = {film.split for film in films}
    if splits == {"train"}:
        return tuple(replace(film, split=None) for film in films)
    outside = [place(film.path, root) for film in films if film.split is None]
    if outside and len(splits) > 1:
        raise DataError(
            f"{root}: {len(outside):,} films lie in none of the folders train, val and test, while others do:"
            f" {some(outside)}"
        )
    return tuple(films)
