"""A folder for each class, on their own or under `train`, `val` and `test`."""

from collections.abc import Sequence
from pathlib import Path

from models.errors import DataError
from models.training.film import FoundFilm, Gathered, place
from models.training.forms.file_names import patient_of
from models.training.forms.film_files import REMEDY, SPLIT_FOLDERS, settled, split_of
from models.training.forms.label_names import LabelNames, folded

PATIENT_FOLDERS = 3
"""From so many folders in every class on, folders in a class are taken for patients."""


def class_of(path: Path, root: Path, names: LabelNames) -> Path | None:
    """Return the nearest folder above a film that is named for a label, None if there is none."""
    folder = path.parent
    while folder != root:
        if names.knows(folder.name):
            return folder
        folder = folder.parent
    return None


def gather(root: Path, files: Sequence[Path], notes: Sequence[str], names: LabelNames) -> Gathered:
    """Take labels from the folders that films lie in, capitals and usual other names (`CT_NonCOVID`) aside.

    A patient is told by the file's name, else by a folder between class and film, where every class has several such
    folders and no film outside them; else by nothing.

    Raises
    ------
    DataError
        If films lie in a folder that is named for no label.
    """
    classes: dict[Path, Path] = {}
    loose = 0
    for path in files:
        folder = class_of(path, root, names)
        if folder is not None:
            classes[path] = folder
        elif path.parent == root or folded(path.parent.name) in SPLIT_FOLDERS:
            loose += 1
        else:
            raise DataError(
                f"{path.parent}: films lie in it, and its name is none of {', '.join(names.labels)}, nor one of another"
                " label that this project knows; rename it, or take it out of the folder"
            )
    folders = _are_patients(classes)
    films = []
    for path, folder in classes.items():
        label = names.match(folder.name, place(path, root))
        if label is not None:
            patient = patient_of(path.name) or (path.relative_to(folder).parts[0] if folders else "")
            films.append(FoundFilm(path=path, label=label, split=split_of(path, root), patient_id=patient))
    said = [*notes, *names.notes()]
    if loose:
        said.append(f"Left out, as outside the folders of the classes: {loose:,}.")
    if folders:
        said.append("Folders within the classes were taken for patients.")
    return Gathered(root, settled(films, root), tuple(said), REMEDY)


def _are_patients(classes: dict[Path, Path]) -> bool:
    inside: dict[str, set[str]] = {}
    for path, folder in classes.items():
        parts = path.relative_to(folder).parts
        if len(parts) == 1:
            return False
        inside.setdefault(folded(folder.name), set()).add(parts[0])
    return all(len(found) >= PATIENT_FOLDERS for found in inside.values())
