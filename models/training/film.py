"""A labelled film: as a form of data tells of it, and with the split it is to lie in."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from models.preprocessing import FloatArray

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")

UNKNOWN = "unknown"
"""Source or age group of a film of which nobody says it."""

ReadImage = Callable[[Path], FloatArray]
"""From a file to float32 (rows, columns), 0 black to 255 white; a reader of DICOM pixels is handed in by the caller."""


@dataclass(frozen=True)
class Film:
    """A film, its label, and where it belongs.

    `patient` is the key of whatever must not be torn apart by a split, the same for all films that share a patient or a
    group (a union of patient, publication and look-alike), directly or through other films: the first film's group,
    else its patient, else the file. `patient_id` is empty where nobody says whose film it is.
    """

    path: Path
    label: str
    split: Split
    patient: str
    patient_id: str
    source: str
    age_group: str
    licence: str


@dataclass(frozen=True)
class FoundFilm:
    """A film whose label is one of the network's; `split` is what the data says of it, None where it says nothing."""

    path: Path
    label: str
    split: Split | None = None
    patient_id: str = ""
    group_id: str = ""
    source: str = UNKNOWN
    age_group: str = UNKNOWN
    licence: str = "not stated"

    def key(self, root: Path) -> str:
        """Name whom the film is of, as far as the film itself tells: its group, else its patient, else the file."""
        return self.group_id or self.patient_id or place(self.path, root)

    def placed(self, split: Split, patient: str) -> Film:
        """Return the film in a split, under the key of all films that belong to it."""
        return Film(
            path=self.path,
            label=self.label,
            split=split,
            patient=patient,
            patient_id=self.patient_id,
            source=self.source,
            age_group=self.age_group,
            licence=self.licence,
        )


@dataclass(frozen=True)
class Gathered:
    """What a form of data gave.

    `root` is the folder that paths are told from, `remedy` what to do about a split that leaks, `split_notes` what
    there is to say where the split of the data is taken, `published` whether it is that of a published set, which its
    user cannot mend: then films with the same bytes in two splits are left out of one of them.
    """

    root: Path
    films: tuple[FoundFilm, ...]
    notes: tuple[str, ...]
    remedy: str
    split_notes: tuple[str, ...] = ()
    published: bool = False


def place(path: Path, root: Path) -> str:
    """Tell where a file lies in a data set's folder, for people and for keys."""
    try:
        return path.relative_to(root).as_posix()
    except ValueError:  # a table may name files elsewhere
        return path.as_posix()


def some(names: list[str], shown: int = 3) -> str:
    """List the first of many names."""
    more = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {more:,} more" if more > 0 else "")
