"""DICOM objects for tests, and how the listener would have stored them."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite, write_file_meta_info
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

from worker.intake.header_parsing import texts_of
from worker.intake.spool import Spool


def film(image: np.ndarray | None = None, **attributes: Any) -> Dataset:
    """A small DX chest film; `attributes` replace, and None removes."""
    pixels = np.linspace(0, 4095, 64 * 48).reshape(64, 48).astype(np.uint16) if image is None else image
    ds = Dataset()
    ds.SOPClassUID = DigitalXRayImageStorageForPresentation
    ds.SOPInstanceUID = generate_uid(prefix=None)
    ds.StudyInstanceUID = generate_uid(prefix=None)
    ds.SeriesInstanceUID = generate_uid(prefix=None)
    ds.PatientID, ds.PatientName, ds.AccessionNumber = "P1", "Doe^Jane", "A1"
    ds.PatientBirthDate, ds.PatientSex, ds.StudyID, ds.ReferringPhysicianName = "19600101", "F", "1", ""
    ds.Modality, ds.BodyPartExamined, ds.ViewPosition = "DX", "CHEST", "PA"
    ds.StudyDate, ds.StudyTime, ds.StudyDescription, ds.SeriesNumber = "20261120", "101500", "Chest PA", 1
    ds.PresentationIntentType = "FOR PRESENTATION"
    ds.Rows, ds.Columns = pixels.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = 1, "MONOCHROME2", 0
    bits = 8 * pixels.dtype.itemsize
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = bits, min(bits, 12), min(bits, 12) - 1
    ds.PixelData = pixels.tobytes()
    for keyword, value in attributes.items():
        if value is None:
            delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)
    return ds


def save(ds: Dataset, path: Path, transfer_syntax: str = ExplicitVRLittleEndian, **meta: str) -> Path:
    """Write a DICOM file as the listener does: our file meta information, then the data set."""
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = meta.get("sop_class", ds.get("SOPClassUID", "1.2.3"))
    ds.file_meta.MediaStorageSOPInstanceUID = meta.get("sop_instance", ds.get("SOPInstanceUID", "1.2.3.4"))
    ds.file_meta.TransferSyntaxUID = transfer_syntax
    ds.file_meta.SourceApplicationEntityTitle = meta.get("calling", "MODALITY")
    dcmwrite(path, ds, enforce_file_format=True, overwrite=True)
    return path


def prefix(syntax: str, sop_class: str = "1.2.3", sop_instance: str = "1.2.3.4", calling: str = "MODALITY") -> bytes:
    """Preamble, DICM and our file meta information, for any bytes to follow as the data set."""
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\0\1"
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = sop_class, sop_instance
    meta.TransferSyntaxUID, meta.ImplementationClassUID = syntax, "1.2.3"
    meta.SourceApplicationEntityTitle = calling
    out = BytesIO()
    out.write(b"\0" * 128 + b"DICM")
    write_file_meta_info(out, meta)
    return out.getvalue()


def header_texts(ds: Dataset) -> dict[str, list[str]]:
    """The whole header as intake knows it."""
    return texts_of(ds, [element.keyword for element in ds])


def spool_object(spool: Spool, ds: Dataset, **meta: str) -> str:
    """Put an object among the arrivals; returns its spool name."""
    with spool.receive() as incoming:
        name = incoming.name
        path = spool.directory / f"{name}.tmp"
        save(ds, path, **meta)
        incoming.write(path.read_bytes())
        path.unlink()
        incoming.commit()
    return name


def spool_bytes(spool: Spool, data: bytes) -> str:
    """Put any bytes among the arrivals."""
    with spool.receive() as incoming:
        incoming.write(data)
        incoming.commit()
        return incoming.name
