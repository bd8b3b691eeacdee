"""What is sent: objects of the sizes that modalities send, explicit VR little endian, or scans of one's own.

A synthetic object is a head and its pixels. Every object has UIDs of its own: they are written over placeholders of the
same length, so that an object of 8 MB is made as fast as its head is copied.
"""

from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
from pydicom.errors import InvalidDicomError
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from tests.support.objects import film, prefix
from worker.demo.film import Pattern, frontal
from worker.errors import SettingsError

ROOT = "1.2.826.0.1.3680043.10.1553."
"""Of the UIDs made here; `uid` puts ten digits behind it."""
KINDS = {"instance": 1, "study": 2, "series": 3}
_PATIENT = "BENCH00000"


@dataclass(frozen=True)
class Sendable:
    """An object as it goes over the network: its data set is `head` and then `pixels`."""

    sop_instance_uid: str
    study_instance_uid: str
    head: bytes
    pixels: bytes


@dataclass(frozen=True)
class Load:
    """Objects of one kind.

    Attributes
    ----------
    head, pixels
        The data set of all of them; in `head` the placeholders of `uid(…, 0)`.
    """

    name: str
    sop_class_uid: str
    head: bytes
    pixels: bytes

    @property
    def size(self) -> int:
        """Bytes of a data set."""
        return len(self.head) + len(self.pixels)

    def sendable(self, number: int) -> Sendable:
        """Return object `number`, a study of its own."""
        head = self.head.replace(_PATIENT.encode(), f"BENCH{number % 100_000:05d}".encode())
        for kind in KINDS:
            head = head.replace(uid(kind, 0).encode(), uid(kind, number).encode())
        return Sendable(uid("instance", number), uid("study", number), head, self.pixels)

    def write(self, folder: Path, count: int, *, first: int = 1) -> list[Path]:
        """Write DICOM files; objects are numbered from `first`."""
        folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for number in range(first, first + count):
            one = self.sendable(number)
            meta = prefix(ExplicitVRLittleEndian, self.sop_class_uid, one.sop_instance_uid, "BENCH")
            path = folder / f"{self.name}{number:06d}.dcm"
            path.write_bytes(meta + one.head + one.pixels)
            paths.append(path)
        return paths


def uid(kind: str, number: int) -> str:
    """Return a UID of fixed length."""
    return f"{ROOT}{KINDS[kind]}{number:09d}"


@cache
def radiograph(side: int = 2048) -> Load:
    """A chest film, CR: 2048 by 2048 pixels of 16 bits are 8.4 MB."""
    drawn = frontal(min(side, 512), 1, Pattern.CLEAR) * 4095
    pixels = np.kron(np.round(drawn), np.ones((max(side // 512, 1),) * 2)).astype(np.uint16)
    changes = {"SOPClassUID": ComputedRadiographyImageStorage, "Modality": "CR", "PresentationIntentType": None}
    return _load("CR", pixels, **changes)


@cache
def slice_of_ct(side: int = 512) -> Load:
    """A slice of a chest CT: 512 by 512 pixels of 16 bits are 0.52 MB."""
    pixels = (np.add.outer(np.arange(side), np.arange(side)) % 4096).astype(np.uint16)
    changes = {"SOPClassUID": CTImageStorage, "Modality": "CT", "PresentationIntentType": None, "ViewPosition": None,
               "RescaleSlope": 1, "RescaleIntercept": -1024}  # fmt: skip
    return _load("CT", pixels, **changes)


def _load(name: str, pixels: np.ndarray, **attributes: object) -> Load:
    uids = {
        "SOPInstanceUID": uid("instance", 0),
        "StudyInstanceUID": uid("study", 0),
        "SeriesInstanceUID": uid("series", 0),
    }
    ds = film(pixels, PatientID=_PATIENT, InstanceNumber=1, **uids, **attributes)
    buffer = BytesIO()
    pydicom.dcmwrite(buffer, ds, implicit_vr=False, little_endian=True)
    encoded = buffer.getvalue()
    return Load(name, ds.SOPClassUID, encoded[: -len(ds.PixelData)], ds.PixelData)


def scans_in(folder: Path, limit: int) -> list[Path]:
    """Return DICOM images of one's own, as they lie there, uncompressed ones: any sender can send those.

    Raises
    ------
    SettingsError
        There is none.
    """
    found: list[Path] = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            ds = pydicom.dcmread(path, stop_before_pixels=True)
        except (InvalidDicomError, OSError):
            continue  # something else that lies beside them
        if "Rows" in ds and ds.file_meta.TransferSyntaxUID in {ExplicitVRLittleEndian, ImplicitVRLittleEndian}:
            found.append(path)
        if len(found) == limit:
            break
    if not found:
        raise SettingsError(f"{folder} holds no uncompressed DICOM image (explicit or implicit VR little endian)")
    return found
