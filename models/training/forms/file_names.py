"""What the name of a film's file says: of the patient, and of the label where it ends in `_0` or `_1`."""

import re
from collections.abc import Sequence
from pathlib import Path

from models.errors import DataError
from models.training.film import UNKNOWN, FoundFilm, Gathered
from models.training.forms.film_files import REMEDY, settled, split_of
from models.training.forms.label_names import LabelNames, known

LABELLED = re.compile(r"(?P<film>.+)_(?P<label>[01])")

NIH = {"CHNCXR": "shenzhen", "MCUCXR": "montgomery"}
"""How names of the two tuberculosis sets of the U.S. National Library of Medicine begin (S. Jaeger et al., "Two public
chest X-ray datasets for computer-aided screening of pulmonary diseases", Quant Imaging Med Surg 4(6), 2014); their 0 is
normal, their 1 tuberculosis, and each film is another patient's."""

_PATIENT = re.compile(
    r"(person\d+(?:_(?:virus|bacteria))?|(?:NORMAL2-)?IM-\d+|patient[-_ ]?\d+)(?=[-_. ]|$)", re.IGNORECASE
)


def is_nih(path: Path) -> bool:
    """Say whether a film is named as those of the two sets are, with a label."""
    return path.name[:6].upper() in NIH and LABELLED.fullmatch(path.stem) is not None


def patient_of(name: str) -> str:
    """Return the patient that a file's name tells of, empty if it tells of none.

    `person12_virus_45.jpeg` and `NORMAL2-IM-0123-0001.jpeg` are those of Kermany et al. (Cell 172(5), 2018). Persons
    with viral, persons with bacterial pneumonia and the two series of normal films are each numbered from the start, so
    what stands before the number belongs to the patient.
    """
    match = _PATIENT.match(name)
    return match[0] if match else ""


def gather(root: Path, files: Sequence[Path], notes: Sequence[str], names: LabelNames) -> Gathered:
    """Take labels from file names: `CHNCXR_0001_0.png` is without finding, `CHNCXR_0327_1.png` with.

    0 is the network's label for no finding, 1 its finding. Which finding 1 stands for is known in the tuberculosis sets
    alone; elsewhere the network has to have one finding only. What stands before `_0` and `_1` is the patient, unless
    it begins with one.

    Raises
    ------
    DataError
        If the network has several findings and the names do not say which is meant.
    """
    films = []
    nameless = 0
    for path in files:
        match = LABELLED.fullmatch(path.stem)
        if match is None:
            nameless += 1
            continue
        label = _label(path, match, names)
        if label is None:
            continue
        films.append(
            FoundFilm(
                path=path,
                label=label,
                split=split_of(path, root),
                patient_id=patient_of(match["film"]) or match["film"],
                source=NIH.get(path.name[:6].upper(), UNKNOWN),
            )
        )
    said = [*notes, *names.notes(), "Labels were taken from the file names, and every name for a patient of its own."]
    if nameless:
        said.append(f"Left out, as their names end in neither _0 nor _1: {nameless:,}.")
    return Gathered(root, settled(films, root), tuple(said), REMEDY)


def _label(path: Path, match: re.Match[str], names: LabelNames) -> str | None:
    nothing = next((label for label in names.labels if known(label) == "normal"), names.labels[0])
    if match["label"] == "0":
        return nothing
    findings = [label for label in names.labels if label != nothing]
    if is_nih(path) and (len(findings) > 1 or known(findings[0]) is not None):
        return names.match("tuberculosis", str(path))
    if len(findings) != 1:
        raise DataError(
            f"{path}: _1 means a finding, and the network has {len(findings)} ({', '.join(findings)}); say which in a"
            " labels.csv, or sort the films into folders by label"
        )
    return findings[0]
