"""The example scans: chest phantoms as a day's worklist would bring them, good, odd and broken.

Every PatientName begins with PHANTOM. Drawn from formulas, like nobody's chest: what a classifier says of them has no
meaning. Each object carries what is expected of its study, so that the demonstration can check itself.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, TypedDict

from pydicom import Dataset, dcmwrite
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from worker.demo.film import Pattern, frontal
from worker.demo.objects import Identifiers, StudyFacts, ct_series, radiograph, text_report
from worker.demo.other_views import axial, lateral

FILM_PIXELS = 1024
CT_PIXELS = 512
CT_SLICES = 6
LOOKS = 20261121
"""Seed of what the phantoms look like, where none is given."""

COMPLETE = frozenset({"complete"})
FAILED = frozenset({"failed"})
NOT_ELIGIBLE = frozenset({"not_eligible"})
CT_MODEL = "chest_ct_covid"
"""Where a model of this name is installed, the CT study goes to it; else nothing reads it."""


@dataclass(frozen=True)
class Phantom:
    """One file, and what `ai_status` its study may end with."""

    path: Path
    study_instance_uid: str
    sop_instance_uid: str
    expected: frozenset[str]


@dataclass(frozen=True)
class Film:
    """A frontal film to be made: what it shows and how it is stored."""

    name: str
    pattern: Pattern
    portable: bool
    modality: Literal["DX", "CR"]
    view: Literal["PA", "AP"]
    bits: int
    photometric: Literal["MONOCHROME1", "MONOCHROME2"]
    transfer_syntax: UID


FILMS = (  # each is called after what was drawn, never after what a model might make of it
    Film("PLAIN CHEST", Pattern.CLEAR, False, "DX", "PA", 14, "MONOCHROME2", ExplicitVRLittleEndian),
    Film("SHADOW RIGHT BASE", Pattern.LOBAR_OPACITY, False, "CR", "PA", 12, "MONOCHROME1", ImplicitVRLittleEndian),
    Film("VEIL BOTH SIDES", Pattern.GROUND_GLASS, True, "DX", "AP", 14, "MONOCHROME2", JPEG2000Lossless),
    Film("RING RIGHT TOP", Pattern.UPPER_LOBE, False, "DX", "PA", 16, "MONOCHROME1", JPEGLSLossless),
    Film("SPOT LEFT BEDSIDE", Pattern.NODULE, True, "CR", "AP", 12, "MONOCHROME2", RLELossless),
)


class SideView(TypedDict):
    """How lateral films are stored."""

    modality: Literal["DX"]
    view: Literal["LL"]
    bits: int
    photometric: Literal["MONOCHROME2"]
    transfer_syntax: UID


SIDE_VIEW = SideView(
    modality="DX", view="LL", bits=12, photometric="MONOCHROME2", transfer_syntax=ExplicitVRLittleEndian
)


def generate(
    directory: Path,
    *,
    models: Collection[str] = (),
    seed: int | None = None,
    moment: datetime | None = None,
    film_pixels: int = FILM_PIXELS,
    ct_pixels: int = CT_PIXELS,
) -> Iterator[Phantom]:
    """Write the phantoms, one file after the other.

    Parameters
    ----------
    directory
        Where; made where it is missing.
    models
        Names of the installed models: what is expected of a study depends on whether there is one for it.
    seed
        The same seed and moment give the same bytes; without one the UIDs are fresh and the looks the usual ones.
    moment
        Date and time of the studies, local; default: now.
    film_pixels, ct_pixels
        Rows and columns of the films (a multiple of 8) and of the CT slices.
    """
    directory.mkdir(parents=True, exist_ok=True)
    now = moment or datetime.now().astimezone()
    day = _Day(directory, Identifiers(seed), now, LOOKS if seed is None else seed, film_pixels)
    side_view = lateral(film_pixels, day.looks)
    for film in FILMS:
        study = day.study(film.name)
        yield day.write(day.frontal_view(study, film), COMPLETE)
        if film is FILMS[0]:  # a second view of the same chest: the study is complete all the same
            yield day.write(radiograph(study, day.identifiers, side_view, **SIDE_VIEW), COMPLETE)
    yield day.write(radiograph(day.study("LATERAL ONLY"), day.identifiers, side_view, **SIDE_VIEW), NOT_ELIGIBLE)
    slices = [axial(ct_pixels, day.looks, level / (CT_SLICES - 1)) for level in range(CT_SLICES)]
    for ds in ct_series(day.study("CHEST CT"), day.identifiers, slices):
        yield day.write(ds, COMPLETE if CT_MODEL in models else NOT_ELIGIBLE)
    yield day.write(text_report(day.study("TEXT ONLY"), day.identifiers, "A note, not an image."), NOT_ELIGIBLE)
    cut_short = day.write(day.frontal_view(day.study("CUT SHORT"), FILMS[0]), FAILED)
    with cut_short.path.open("r+b") as file:  # the sender lost the end: fewer pixels than the data set says
        file.truncate(cut_short.path.stat().st_size * 6 // 10)
    yield cut_short


class _Day:
    """What the phantoms of one run share."""

    def __init__(self, directory: Path, identifiers: Identifiers, moment: datetime, looks: int, pixels: int) -> None:
        self.identifiers = identifiers
        self.looks = looks
        self._directory = directory
        self._moment = moment
        self._pixels = pixels
        self._studies = 0
        self._files = 0

    def study(self, name: str) -> StudyFacts:
        """Begin a study."""
        self._studies += 1
        description = "CT CHEST" if name == "CHEST CT" else "CHEST"
        return StudyFacts(name, self._studies, description, self._moment, self.identifiers.uid())

    def frontal_view(self, study: StudyFacts, film: Film) -> Dataset:
        """Make a frontal film; each pattern on a chest of its own."""
        look = self.looks + list(Pattern).index(film.pattern) + 10 * film.portable
        return radiograph(
            study,
            self.identifiers,
            frontal(self._pixels, look, film.pattern, portable=film.portable),
            modality=film.modality,
            view=film.view,
            bits=film.bits,
            photometric=film.photometric,
            transfer_syntax=film.transfer_syntax,
        )

    def write(self, ds: Dataset, expected: frozenset[str]) -> Phantom:
        """Write a file (PS3.10), its name the order and the kind."""
        self._files += 1
        path = self._directory / f"{self._files:02d}-{ds.Modality.lower()}.dcm"
        dcmwrite(path, ds, enforce_file_format=True)
        return Phantom(path, ds.StudyInstanceUID, ds.SOPInstanceUID, expected)
