"""DICOM objects around drawn pixels: DX, CR and CT images and a text report, each valid by its IOD (DICOM PS3.3 A)."""

import random
import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    BasicTextSRStorage,
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from worker.demo.canvas import Image

MANUFACTURER = "firstread phantom generator"
IMPLEMENTATION = UID("2.25.302043790172249692526321623266752743501")
NATIVE = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)


class Identifiers:
    """Unique identifiers: fresh ones (UUIDs), or, with a seed, the same each time (DICOM PS3.5 B.2)."""

    def __init__(self, seed: int | None) -> None:
        self._random = None if seed is None else random.Random(seed)  # noqa: S311 - not a secret

    def uid(self) -> UID:
        """Return the next one."""
        if self._random is None:
            return UID(f"2.25.{uuid.uuid4().int}")
        return UID(f"2.25.{uuid.UUID(int=self._random.getrandbits(128), version=4).int}")


@dataclass(frozen=True)
class StudyFacts:
    """What all objects of one study share."""

    name: str
    number: int
    description: str
    moment: datetime
    study_uid: UID

    @property
    def birth_date(self) -> str:
        """An adult's (DICOM DA)."""
        return f"{self.moment.year - 30 - 5 * self.number}0115"


def radiograph(
    study: StudyFacts,
    identifiers: Identifiers,
    film: Image,
    *,
    modality: Literal["DX", "CR"],
    view: Literal["PA", "AP", "LL"],
    bits: int,
    photometric: Literal["MONOCHROME1", "MONOCHROME2"],
    transfer_syntax: UID,
) -> Dataset:
    """Make a DX (for presentation, PS3.3 A.26) or CR image (A.2).

    Parameters
    ----------
    film
        Brightness as displayed, 0 to 1, float32 (rows, columns).
    bits
        Bits stored, 9 to 16, of 16 allocated.
    photometric
        MONOCHROME1 is stored inverted: its smallest value is white.
    transfer_syntax
        How the pixels are encoded.
    """
    sop_class = DigitalXRayImageStorageForPresentation if modality == "DX" else ComputedRadiographyImageStorage
    ds = _start(study, identifiers, sop_class, modality)
    largest = (1 << bits) - 1
    stored = np.round(film * largest).astype(np.uint16)
    inverted = photometric == "MONOCHROME1"
    _pixels(ds, largest - stored if inverted else stored, bits, photometric)
    ds.ImageType = ["ORIGINAL", "PRIMARY", ""] if modality == "DX" else ["ORIGINAL", "PRIMARY"]
    ds.SeriesDescription = "CHEST LATERAL" if view == "LL" else f"CHEST {view}"
    ds.BodyPartExamined, ds.ViewPosition, ds.PatientOrientation = (
        "CHEST",
        view,
        ["L", "F"] if view != "LL" else ["A", "F"],
    )
    ds.KVP, ds.ImagerPixelSpacing = ("125" if view != "AP" else "90"), [0.4, 0.4]
    ds.WindowCenter, ds.WindowWidth = largest // 2 + 1, largest + 1
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = 0, 1, "US"
    if modality == "DX":
        ds.PresentationIntentType = "FOR PRESENTATION"
        ds.PixelIntensityRelationship = "LOG"
        ds.PixelIntensityRelationshipSign = 1 if inverted else -1
        ds.PresentationLUTShape = "INVERSE" if inverted else "IDENTITY"
        ds.BurnedInAnnotation, ds.ImageLaterality, ds.DetectorType = "NO", "U", "DIRECT"
        ds.AnatomicRegionSequence = Sequence([_code("51185008", "SCT", "Chest")])
        ds.ViewCodeSequence = Sequence([_code(*_VIEWS[view])])
        ds.ViewCodeSequence[0].ViewModifierCodeSequence = Sequence()
        ds.AcquisitionContextSequence = Sequence()
        ds.PositionerType = "NONE"
    if transfer_syntax not in NATIVE:
        ds.compress(transfer_syntax, generate_instance_uid=False)
    else:
        ds.file_meta.TransferSyntaxUID = transfer_syntax
    return ds


_VIEWS = {
    "PA": ("399348003", "SCT", "postero-anterior"),
    "AP": ("399348003", "SCT", "antero-posterior"),
    "LL": ("399198007", "SCT", "left lateral"),
}


def ct_series(study: StudyFacts, identifiers: Identifiers, slices: list[npt.NDArray[np.int16]]) -> list[Dataset]:
    """Make a CT series (PS3.3 A.3): one object a slice, Hounsfield units by the rescale intercept."""
    series, frame = identifiers.uid(), identifiers.uid()
    objects = []
    for number, hounsfield in enumerate(slices, start=1):
        ds = _start(study, identifiers, CTImageStorage, "CT")
        ds.SeriesInstanceUID, ds.FrameOfReferenceUID, ds.PositionReferenceIndicator = series, frame, ""
        ds.SeriesDescription, ds.BodyPartExamined, ds.ProtocolName = "CHEST AXIAL", "CHEST", "CHEST ROUTINE"
        ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        ds.InstanceNumber, ds.AcquisitionNumber, ds.KVP = number, 1, "120"
        _pixels(ds, (hounsfield + 1024).astype(np.uint16), 12, "MONOCHROME2")
        ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = -1024, 1, "HU"
        ds.WindowCenter, ds.WindowWidth = [-600, 40], [1500, 400]
        spacing = 400 / hounsfield.shape[0]
        ds.PixelSpacing, ds.SliceThickness = [spacing, spacing], 5
        ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        ds.ImagePositionPatient = [-200, -200, -30 * number]
        ds.PatientPosition = "HFS"
        objects.append(ds)
    return objects


def text_report(study: StudyFacts, identifiers: Identifiers, text: str) -> Dataset:
    """Make a Basic Text SR (PS3.3 A.35.1): a DICOM object that is no image."""
    ds = _start(study, identifiers, BasicTextSRStorage, "SR")
    ds.SeriesDescription = "REQUEST NOTE"
    ds.ReferencedPerformedProcedureStepSequence = Sequence()
    ds.PerformedProcedureCodeSequence = Sequence()
    ds.CompletionFlag, ds.VerificationFlag = "PARTIAL", "UNVERIFIED"
    ds.ContentDate, ds.ContentTime = ds.StudyDate, ds.StudyTime
    ds.ValueType, ds.ContinuityOfContent = "CONTAINER", "SEPARATE"
    ds.ConceptNameCodeSequence = Sequence([_code("18748-4", "LN", "Diagnostic Imaging Report")])
    item = Dataset()
    item.RelationshipType, item.ValueType = "CONTAINS", "TEXT"
    item.ConceptNameCodeSequence = Sequence([_code("121106", "DCM", "Comment")])
    item.TextValue = text
    ds.ContentSequence = Sequence([item])
    return ds


def _start(study: StudyFacts, identifiers: Identifiers, sop_class: UID, modality: str) -> Dataset:
    """Begin an object: patient, study, series, equipment, SOP common."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.ImplementationClassUID = IMPLEMENTATION
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.SOPClassUID, ds.SOPInstanceUID = sop_class, identifiers.uid()
    ds.PatientName, ds.PatientID = f"PHANTOM^{study.name}", f"PHANTOM-{study.number:04d}"
    ds.PatientBirthDate, ds.PatientSex = study.birth_date, "MF"[study.number % 2]
    date, time = study.moment.strftime("%Y%m%d"), study.moment.strftime("%H%M%S")
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.StudyID = study.study_uid, identifiers.uid(), f"{study.number}"
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = date
    ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = time
    ds.AccessionNumber, ds.StudyDescription = f"DEMO{study.number:04d}", study.description
    ds.ReferringPhysicianName = ""
    ds.Modality, ds.SeriesNumber, ds.InstanceNumber = modality, 1, 1
    ds.Manufacturer, ds.ManufacturerModelName, ds.SoftwareVersions = MANUFACTURER, "chest phantom", "1"
    ds.DeviceSerialNumber, ds.InstitutionName = "0", "PHANTOM - NOT A PATIENT"
    return ds


def _pixels(ds: Dataset, stored: npt.NDArray[np.uint16], bits: int, photometric: str) -> None:
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, photometric
    ds.Rows, ds.Columns = stored.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, bits, bits - 1, 0
    ds.LossyImageCompression = "00"
    ds.PixelData = stored.astype("<u2").tobytes()
    ds["PixelData"].VR = "OW"


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item
