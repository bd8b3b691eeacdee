"""A study's result as a DICOM Structured Report: build it, write it durably.

The content follows TID 1500 (PS3.16) and the AI Results profile of IHE; `content.py` makes the tree, `identity.py` the
patient and study. The document around them is made here and not by highdicom's SOP classes, because those take the time
of day and attributes of the source unseen, and refuse sources whose SOP Class, character set or attributes they do not
know. The same result makes the same bytes: times are the result's, UIDs are derived.
"""

import contextlib
import os
from collections.abc import Iterable
from datetime import datetime
from functools import cache, lru_cache
from pathlib import Path

from pydicom.charset import convert_encodings, default_encoding
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import (
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    EnhancedSRStorage,
    ExplicitVRLittleEndian,
)
from pydicom.valuerep import DT

from worker.errors import ReportError
from worker.files import sync_directory
from worker.reporting.content import (
    KEPT,
    MANUFACTURER,
    PRIVATE_SCHEME,
    can_refer_to,
    content_tree,
    describe,
    plain,
)
from worker.reporting.encoded import Form, Frozen, element, frozen, items, sequence
from worker.reporting.identity import identity, read_header, time_zone
from worker.reporting.software import implementation_version_name, software_version
from worker.reporting.study_result import Algorithm, Evidence, Iod, Priority, ReportedFinding, StudyResult
from worker.uids import IMPLEMENTATION_CLASS_UID, derived_uid, is_uid, is_valid_uid

__all__ = [
    "Algorithm", "Evidence", "Iod", "Priority", "ReportedFinding", "StudyResult", "build", "report_uid", "series_uid",
    "sop_class_uid", "write",
]  # fmt: skip

SERIES_NUMBER = 9001
A_MOMENT = "20000101000000.000000+0000"
"""Stands in a form where each report has its own."""
CONTRIBUTED_AT = "%Y%m%d%H%M%S.%f%z"
SERIES_DESCRIPTION = "AI triage - NOT FOR DIAGNOSIS"
SOP_CLASSES = {
    "comprehensive_3d": Comprehensive3DSRStorage,
    "comprehensive": ComprehensiveSRStorage,
    "enhanced": EnhancedSRStorage,
}


def sop_class_uid(iod: Iod) -> str:
    """Return the SOP Class UID of a kind of SR document."""
    return str(SOP_CLASSES[iod])


def report_uid(result: StudyResult) -> str:
    """Return the SOP Instance UID of a report: of its study, its sources, the weights and the generation."""
    sources = sorted({instance.sop_instance_uid for instance in result.evidence})
    algorithms = sorted(describe(algorithm) for algorithm in result.algorithms)
    return derived_uid("report", result.study_instance_uid, result.generation, *sources, *algorithms)


def series_uid(study_instance_uid: str) -> str:
    """Return the Series Instance UID of a study's reports; a new version of this software opens a new series.

    All objects of a series are made by the same equipment (PS3.3 A.1.2.5), and the version is one of its attributes.
    """
    return derived_uid("report series", study_instance_uid, software_version())


def build(result: StudyResult) -> Dataset:
    """Make the report of a study.

    Returns
    -------
    pydicom.Dataset
        A complete document, with its file meta information, ready for `write`.

    Raises
    ------
    ReportError
        When no report can be made: no instance, a header that cannot be read, a finding without source, a probability
        out of range.
    """
    _check(result)
    evidence = _distinct(result)
    source, remarks = identity(_header(result, evidence))
    device_uid = derived_uid("device", software_version(), *sorted(describe(a) for a in result.algorithms))
    moment = result.created_at.astimezone(time_zone(source)) if time_zone(source) else result.created_at

    report = Dataset()
    report.update(source)
    _add_document(report, result, evidence, moment)
    _add_equipment(report, result, device_uid, moment)
    try:
        tree = content_tree(result, evidence, remarks, device_uid=device_uid, version=software_version())
    except (ValueError, TypeError) as error:  # highdicom refuses what would be invalid
        raise ReportError(f"study {result.study_instance_uid}: no valid report can be made: {error}") from error
    report.update(tree)
    report.file_meta = _file_meta(report)
    # What is there as bytes is then written as it is.
    terms = source.get("SpecificCharacterSet")
    report.set_original_encoding(False, True, convert_encodings(terms) if terms else default_encoding)
    return report


def write(dataset: Dataset, path: Path) -> None:
    """Write a report so that it is there, whole, or not at all: 0600, fsynced under its final name.

    Raises
    ------
    OSError
        When it cannot be stored.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            dataset.save_as(file, enforce_file_format=True)
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            part.unlink()
        raise
    sync_directory(path.parent)


def _distinct(result: StudyResult) -> list[Evidence]:
    """Return the instances, each UID once: the classified one where two share it."""
    distinct: dict[str, Evidence] = {}
    for instance in result.evidence:
        known = distinct.get(instance.sop_instance_uid)
        if known is None or (known.status, instance.status) == ("failed", "classified"):
            distinct[instance.sop_instance_uid] = instance
    return list(distinct.values())


def _check(result: StudyResult) -> None:
    where = f"study {result.study_instance_uid}"
    if not is_uid(result.study_instance_uid):
        raise ReportError(f"{result.study_instance_uid!r} is no Study Instance UID; a stand-in is needed")
    if result.created_at.tzinfo is None:
        raise ReportError(f"{where}: the time of the result has no time zone")
    if not result.evidence:
        raise ReportError(f"{where}: a report needs an instance that it is about")
    known = {instance.sop_instance_uid for instance in result.evidence}
    for finding in result.findings:
        if finding.sop_instance_uid not in known:
            raise ReportError(
                f"{where}: the finding {finding.label!r} comes from instance {finding.sop_instance_uid}, which is not "
                "among the evidence"
            )
    if result.predecessor is not None and not all(map(is_valid_uid, result.predecessor)):
        raise ReportError(f"{where}: the predecessor of the report has no valid UIDs")


def _header(result: StudyResult, evidence: list[Evidence]) -> Dataset:
    """Return the header that says whose study it is: of a classified instance, else of the first that has one."""
    problems = []
    for instance in sorted(evidence, key=lambda instance: instance.status == "failed"):
        try:
            header = instance.header if isinstance(instance.header, Dataset) else read_header(instance.header)
        except OSError as error:
            problems.append(str(error))
        else:
            if len(header):
                return header
    if len(problems) == len(evidence):
        raise ReportError(f"study {result.study_instance_uid}: no source of it can be read: {'; '.join(problems)}")
    return Dataset()


def _add_document(report: Dataset, result: StudyResult, evidence: list[Evidence], moment: datetime) -> None:
    """Add SOP Common, SR Document Series and SR Document General (PS3.3 C.12.1, C.17.1, C.17.2)."""
    report.update(_document(sop_class_uid(result.iod)))
    report.SOPInstanceUID = report_uid(result)
    report.StudyInstanceUID = result.study_instance_uid
    report.SeriesInstanceUID = series_uid(result.study_instance_uid)
    report.InstanceNumber = result.generation
    date, time = moment.strftime("%Y%m%d"), moment.strftime("%H%M%S.%f")
    report.InstanceCreationDate, report.InstanceCreationTime = date, time
    report.ContentDate, report.ContentTime = date, time
    references = [(i.sop_class_uid, i.sop_instance_uid, i.series_instance_uid) for i in evidence if can_refer_to(i)]
    if references:
        report.update(_references("CurrentRequestedProcedureEvidenceSequence", result.study_instance_uid, references))
    if result.predecessor is not None:
        report.update(_references("PredecessorDocumentsSequence", result.study_instance_uid, [result.predecessor]))


@cache
def _document(sop_class: str) -> Frozen:
    """Return what every report of a kind says of itself."""
    document = Dataset()
    document.SOPClassUID = sop_class
    document.Modality = "SR"
    document.SeriesNumber = SERIES_NUMBER
    document.SeriesDescription = SERIES_DESCRIPTION
    document.ReferencedPerformedProcedureStepSequence = []
    document.PerformedProcedureCodeSequence = []
    document.CompletionFlag = "COMPLETE"
    document.PreliminaryFlag = "PRELIMINARY"
    document.VerificationFlag = "UNVERIFIED"
    return frozen(document)


def _references(keyword: str, study_instance_uid: str, instances: Iterable[tuple[str, str, str]]) -> Frozen:
    """Return a hierarchical SOP instance reference (PS3.3 C.17.2.1) to (SOP Class, SOP Instance, Series) UIDs."""
    by_series: dict[str, list[bytes]] = {}
    for class_uid, instance_uid, series_instance_uid in instances:
        reference = element("ReferencedSOPClassUID", class_uid) + element("ReferencedSOPInstanceUID", instance_uid)
        by_series.setdefault(series_instance_uid, []).append(reference)
    series = items(
        element("ReferencedSOPSequence", items(references)) + element("SeriesInstanceUID", series_instance_uid)
        for series_instance_uid, references in by_series.items()
    )
    study = element("ReferencedSeriesSequence", series) + element("StudyInstanceUID", study_instance_uid)
    return sequence(keyword, [study])


def _add_equipment(report: Dataset, result: StudyResult, device_uid: str, moment: datetime) -> None:
    """Add Enhanced General Equipment (PS3.3 C.7.5.2), and each algorithm as equipment (IHE AIR 6.5.3.1)."""
    report.update(_equipment(device_uid, software_version()))
    algorithms = result.algorithms or (Algorithm(MANUFACTURER, software_version(), ""),)
    at = {"at": moment.strftime(CONTRIBUTED_AT)}
    made_by = [_contribution(algorithm, device_uid).filled(at) for algorithm in algorithms]
    report.update(sequence("ContributingEquipmentSequence", made_by))


@lru_cache(maxsize=KEPT)
def _equipment(device_uid: str, version: str) -> Frozen:
    equipment = Dataset()
    equipment.Manufacturer = MANUFACTURER
    equipment.ManufacturerModelName = MANUFACTURER
    equipment.SoftwareVersions = version
    equipment.DeviceSerialNumber = device_uid.rpartition(".")[2]  # what tells one set of weights from another
    scheme = Dataset()
    scheme.CodingSchemeDesignator = PRIVATE_SCHEME
    scheme.CodingSchemeName = "firstread"
    scheme.CodingSchemeResponsibleOrganization = MANUFACTURER
    equipment.CodingSchemeIdentificationSequence = [scheme]
    return frozen(equipment)


@lru_cache(maxsize=KEPT)
def _contribution(algorithm: Algorithm, device_uid: str) -> Form:
    """Return an algorithm as contributing equipment, for every report that it has a part in."""
    return Form(contribution(algorithm, device_uid, A_MOMENT), {"at": DT(A_MOMENT)})


def contribution(algorithm: Algorithm, device_uid: str, at: str) -> Dataset:
    """Return an algorithm as contributing equipment as highdicom makes it."""
    from highdicom import ContributingEquipment

    made: Dataset = ContributingEquipment(
        manufacturer=MANUFACTURER,
        purpose_of_reference=codes.DCM.ProcessingEquipment,
        manufacturer_model_name=plain(algorithm.name, 64),
        software_versions=plain(algorithm.version, 64),
        contribution_datetime=at,
    )
    made.DeviceUID = device_uid
    return made


def _file_meta(report: Dataset) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = report.SOPClassUID
    meta.MediaStorageSOPInstanceUID = report.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
    meta.ImplementationVersionName = implementation_version_name()
    return meta
