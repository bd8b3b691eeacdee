"""Results of studies for the reporting tests, as if the source had been classified or had failed."""

import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pydicom
from pydicom.dataset import Dataset

from worker.reporting.study_result import Algorithm, Evidence, ReportedFinding, StudyResult
from worker.uids import derived_uid, is_uid

ALGORITHM = Algorithm("chest_xray", "1.0.0", "ab" * 32)
CREATED_AT = datetime(2026, 11, 20, 15, 5, 0, 250000, tzinfo=UTC)
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
CODES = {
    "pneumonia": ("SCT", "233604007", "Pneumonia"),
    "covid": ("SCT", "840539006", "COVID-19"),
    "tuberculosis": ("SCT", "56717001", "Tuberculosis"),
}

Variant = Literal["positive", "negative", "failed"]


def finding(label: str, probability: float, sop_instance_uid: str, **changes: Any) -> ReportedFinding:
    """A finding of the algorithm of these tests, flagged from a half on."""
    scheme, value, meaning = CODES[label]
    values = {
        "label": label, "code_scheme": scheme, "code_value": value, "code_meaning": meaning,
        "probability": probability, "threshold": 0.5, "flagged": probability >= 0.5,
        "sop_instance_uid": sop_instance_uid, "algorithm": ALGORITHM,
    }  # fmt: skip
    return ReportedFinding(**(values | changes))


def source(**attributes: Any) -> Dataset:
    """The header of a chest film."""
    header = Dataset()
    header.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    header.SOPInstanceUID = "1.2.3.1"
    header.SeriesInstanceUID = "1.2.3.2"
    header.StudyInstanceUID = "1.2.3.3"
    header.PatientID = "P1"
    header.PatientName = "Phantom^One"
    header.StudyDate = "20261119"
    for keyword, value in attributes.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # bad values are what is tested
            setattr(header, keyword, value)
    return header


def result_of(
    header: Dataset, variant: Variant = "positive", *, read: Path | Dataset | None = None, **changes: Any
) -> StudyResult:
    """The result of a study of one instance; `read` is where the report is to take the header from."""
    instance = str(header.get("SOPInstanceUID", ""))
    instance = instance if is_uid(instance) else derived_uid("test instance")  # as intake stands in
    series = str(header.get("SeriesInstanceUID", ""))
    evidence = Evidence(
        sop_class_uid=str(header.get("SOPClassUID", "") or SECONDARY_CAPTURE),
        sop_instance_uid=instance,
        series_instance_uid=series if is_uid(series) else derived_uid("test series"),
        status="failed" if variant == "failed" else "classified",
        reason="the pixels cannot be decoded" if variant == "failed" else "",
        header=header if read is None else read,
    )
    pneumonia = 0.9137 if variant == "positive" else 0.1
    found = (
        finding("pneumonia", pneumonia, instance),
        finding("covid", 0.03, instance),
        finding("tuberculosis", 0.2, instance),
    )
    study = str(header.get("StudyInstanceUID", ""))
    values = {
        "study_instance_uid": study if is_uid(study) else derived_uid("test study"),
        "generation": 1,
        "priority": "urgent" if variant == "positive" else "none",
        "findings": () if variant == "failed" else found,
        "evidence": (evidence,),
        "created_at": CREATED_AT,
        "predecessor": None,
        "algorithms": (ALGORITHM,),
    }
    return StudyResult(**(values | changes))


def read(path: Path) -> Dataset:
    """Read a header, every value looked at; an empty one where the file has none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True, force=True)
        except Exception:  # noqa: BLE001 - pydicom raises anything over such files
            return Dataset()
        for tag in list(header.keys()):
            if tag.group in (0x0008, 0x0010, 0x0020):
                header.get(tag)
        return header
