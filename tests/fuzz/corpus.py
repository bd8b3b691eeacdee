"""The seeds of fuzzing: small objects of every kind, made here. Each names a patient who must never be named again."""

import io
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from jpeg_ls import encode as encode_jpeg_ls
from openjpeg.utils import encode_array
from PIL import Image
from pydicom import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from tests.support.images import compressed, image, lut
from tests.support.objects import save

NAME = "Zzyzx^Quoted"
PATIENT_ID = "QQ-SECRET-77"
SOP_INSTANCE, STUDY = "2.25.7000000000000000001", "2.25.7000000000000000002"
"""Replaced in each case by a number of its own, of the same length."""

SIDE = 32
"""The smallest image that an encoder of JPEG 2000 takes with its usual levels, pixels."""

RAMP = (np.arange(SIDE * SIDE) % 256).astype(np.uint8).reshape(SIDE, SIDE)
SAID: dict[str, Any] = {
    "PatientName": NAME,
    "PatientID": PATIENT_ID,
    "SOPInstanceUID": SOP_INSTANCE,
    "StudyInstanceUID": STUDY,
    "SeriesInstanceUID": "2.25.3",
}


def jpeg(values: np.ndarray) -> bytes:
    picture = io.BytesIO()
    Image.fromarray(values).save(picture, "JPEG")
    return picture.getvalue()


def rle(values: np.ndarray) -> bytes:
    """One segment, every byte a literal run of its own row (PS3.5 G.3)."""
    rows = b"".join(bytes([len(row) - 1]) + row.tobytes() for row in values)
    return (1).to_bytes(4, "little") + (64).to_bytes(4, "little") + bytes(56) + rows


def _items() -> Dataset:
    ds = image(RAMP.astype(np.uint16) * 60, bits=12, VOILUTSequence=[lut(range(0, 4096, 64))], **SAID)
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "1", "99X", "chest"
    outer = Dataset()
    outer.RequestedProcedureCodeSequence = [code]
    ds.RequestAttributesSequence = [outer, outer]
    return ds


def _enhanced() -> Dataset:
    group = Dataset()
    value = Dataset()
    value.RescaleIntercept, value.RescaleSlope, value.RescaleType = "-1024", "1", "HU"
    group.PixelValueTransformationSequence = [value]
    frames = np.stack([RAMP, RAMP])
    ds = image(RAMP, **SAID, NumberOfFrames=2, PerFrameFunctionalGroupsSequence=[group, group], Modality="CT")
    ds.PixelData = frames.tobytes()
    return ds


def _japanese() -> Dataset:
    return image(RAMP, **(SAID | {"SpecificCharacterSet": ["", "ISO 2022 IR 87"], "StudyDescription": "胸部"}))


def _palette() -> Dataset:
    ds = image(RAMP, **SAID, PhotometricInterpretation="PALETTE COLOR")
    for colour in ("Red", "Green", "Blue"):
        ds.add_new(f"{colour}PaletteColorLookupTableDescriptor", "US", [64, 0, 16])
        ds.add_new(f"{colour}PaletteColorLookupTableData", "OW", (np.arange(64, dtype="<u2") * 1000).tobytes())
    return ds


FRAMES: dict[str, Callable[[], tuple[str, bytes]]] = {
    "rle": lambda: (RLELossless, rle(RAMP)),
    "jpeg": lambda: (JPEGBaseline8Bit, jpeg(RAMP)),
    "jpeg-ls": lambda: (JPEGLSLossless, bytes(encode_jpeg_ls(RAMP))),
    "jpeg-2000": lambda: (JPEG2000Lossless, encode_array(RAMP)),
}
"""One compressed frame of each kind: transfer syntax and bytes."""

_NATIVE: dict[str, tuple[Callable[[], Dataset], str]] = {
    "explicit": (_items, ExplicitVRLittleEndian),
    "implicit": (_items, ImplicitVRLittleEndian),
    "big endian": (_items, ExplicitVRBigEndian),
    "deflated": (_items, DeflatedExplicitVRLittleEndian),
    "enhanced": (_enhanced, ExplicitVRLittleEndian),
    "character sets": (_japanese, ExplicitVRLittleEndian),
    "palette": (_palette, ExplicitVRLittleEndian),
}


@cache
def seeds() -> Sequence[bytes]:
    """Every seed, as the listener would have stored it."""
    made: list[bytes] = []
    with TemporaryDirectory() as directory:
        path = Path(directory) / "seed.dcm"
        for make, syntax in _NATIVE.values():
            made.append(save(make(), path, syntax).read_bytes())
        made += [wrapped(*frame(), path) for frame in FRAMES.values()]
    return tuple(made)


@cache
def frames() -> Sequence[tuple[str, bytes]]:
    """Every compressed frame with its transfer syntax."""
    return tuple(make() for make in FRAMES.values())


def wrapped(syntax: str, frame: bytes, path: Path) -> bytes:
    """Return an object with this compressed frame."""
    return compressed([frame], path, syntax, Rows=SIDE, Columns=SIDE, **SAID).read_bytes()
