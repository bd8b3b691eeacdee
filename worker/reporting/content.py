"""The content tree of a report: TID 1500, one measurement group a condition and one for the study as a whole.

highdicom builds the tree, so that relationships, value types and templates are right or refused. It takes its time
over that, so every part is built once and kept as a form that each report fills in: `encoded.py`. highdicom is imported
when the first report is made.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import UID

from worker.errors import ReportError
from worker.reporting.encoded import CONTENT_SEQUENCE, Container, Frozen, encoded, frozen, sequence
from worker.reporting.study_result import Algorithm, Evidence, ReportedFinding, StudyResult
from worker.uids import derived_uid, is_valid_uid

MANUFACTURER = "firstread"
PRIVATE_SCHEME = "99FIRSTREAD"
ROLL_UP = "firstread study roll-up"

TRIAGE_CATEGORY = Code("AITRIAGE", PRIVATE_SCHEME, "AI triage category")
CATEGORIES = {
    "immediate": Code("RID49480", "RADLEX", "ACR Category 1 Actionable Finding"),
    "urgent": Code("RID49481", "RADLEX", "ACR Category 2 Actionable Finding"),
    "routine": Code("RID49482", "RADLEX", "ACR Category 3 Actionable Finding"),
}
"""CID 7035: act within minutes, hours, days. There is no code for nothing to act on: `none` says no category."""

DETECTED = Code("260373001", "SCT", "Detected")
NOT_DETECTED = Code("260415000", "SCT", "Not detected")
PROCEDURE = Code("363679005", "SCT", "Imaging procedure")
QUALITATIVE_EVALUATIONS = Code("C0034375", "UMLS", "Qualitative Evaluations")
NONE_SUCCEEDED: Code = codes.DCM.NoAlgorithmsSucceededWithoutFindings
SUMMARIES: dict[tuple[bool, bool], Code] = {
    # (every instance succeeded, something was found): CID 6047
    (True, False): codes.DCM.AllAlgorithmsSucceededWithoutFindings,
    (True, True): codes.DCM.AllAlgorithmsSucceededWithFindings,
    (False, False): codes.DCM.NotAllAlgorithmsSucceededWithoutFindings,
    (False, True): codes.DCM.NotAllAlgorithmsSucceededWithFindings,
}
CAUTION = "AI triage - NOT FOR DIAGNOSIS. Not detected does not mean absent."
LISTED = 20
"""Instances named in one comment; of more, the number is said."""

_LO_LIMIT = 64
_SH_LIMIT = 16

KEPT = 256
"""Forms of a kind that are kept: as many as several models with all that they can say."""


TRACKING_UID, SOP_CLASS, SOP_INSTANCE = UID("1.2.3.4.1"), UID("1.2.3.4.2"), UID("1.2.3.4.3")
CERTAINTY, ROLLED_UP, COMMENT = 12.5, "(how it was rolled up)", "(a comment)"
"""What stands in a form where each report has its own."""

_IN_EVERY_GROUP = {"tracking_uid": TRACKING_UID, "sop_class": SOP_CLASS, "sop_instance": SOP_INSTANCE}


def content_tree(
    result: StudyResult, evidence: Sequence[Evidence], remarks: Iterable[str], *, device_uid: str, version: str
) -> Dataset:
    """Return the root content item of a report.

    Parameters
    ----------
    result
        What is to be said.
    evidence
        Its instances, each UID once.
    remarks
        Sentences to be read with the result, beside its own.
    device_uid
        UID of the device observer: this software with these algorithms.
    version
        Version of this software.
    """
    images = {
        instance.sop_instance_uid: instance for instance in evidence if can_refer_to(instance) and is_image(instance)
    }
    groups = [_filled_condition(result, finding, images) for finding in result.findings]
    groups.append(_filled_summary(result, images.values(), version))
    sentences = [CAUTION, *_means(result), *result.remarks, *remarks, *_failures(evidence), *_unnamed(evidence)]
    comments = _comments_form().filled({}, [{"comment": plain(sentence)} for sentence in sentences])
    root, before, measurements = _frame(device_uid)
    tree = Dataset()
    tree.update(root)
    tree.update(sequence("ContentSequence", [*before, measurements.around(groups), comments]))
    return tree


def can_refer_to(instance: Evidence) -> bool:
    """Say whether an instance can be referred to: a UID that is none to the letter makes a tree that many refuse."""
    return all(map(is_valid_uid, (instance.sop_class_uid, instance.sop_instance_uid, instance.series_instance_uid)))


def is_image(instance: Evidence) -> bool:
    """Say whether an IMAGE content item may refer to an instance: its SOP Class is one of images."""
    return _is_image_storage(instance.sop_class_uid)


@lru_cache(maxsize=KEPT)
def _is_image_storage(sop_class_uid: str) -> bool:
    return "Image Storage" in UID(sop_class_uid).name


def plain(text: str, limit: int | None = None) -> str:
    """Return our own text in the default character repertoire, so that any Specific Character Set carries it."""
    ascii_only = text.encode("ascii", "replace").decode()
    return "".join(c if c.isprintable() else " " for c in ascii_only).strip()[:limit]


def certainty(finding: ReportedFinding) -> float:
    """Return the probability in percent: two decimals, or as many as keep it on its side of the threshold.

    Raises
    ------
    ReportError
        When it is no probability.
    """
    if not (math.isfinite(finding.probability) and 0 <= finding.probability <= 1):
        raise ReportError(f"{finding.label}: the probability is {finding.probability}, not between 0 and 1")
    reached = finding.probability >= finding.threshold
    for decimals in range(2, 12):
        percent = round(finding.probability * 100, decimals)
        if (percent >= finding.threshold * 100) == reached:
            return percent
    return round(finding.probability * 100, 12)


def _filled_condition(result: StudyResult, finding: ReportedFinding, images: dict[str, Evidence]) -> bytes:
    always = replace(finding, probability=0.0, sop_instance_uid="", rollup=ROLLED_UP if finding.rollup else "")
    source = images.get(finding.sop_instance_uid)
    return _condition_form(always).filled(
        {
            "tracking_uid": derived_uid("tracking", result.study_instance_uid, finding.label, finding.algorithm.name),
            "certainty": certainty(finding),
            "rollup": plain(f"roll-up={finding.rollup}"),
        },
        [] if source is None else [_image(source)],
    )


@lru_cache(maxsize=KEPT)
def _condition_form(finding: ReportedFinding) -> Container:
    """Return the group of a condition, for every report in which it came out like this."""
    made = condition_group(finding, TRACKING_UID, CERTAINTY, [(SOP_CLASS, SOP_INSTANCE)])
    return Container(made[0], _IN_EVERY_GROUP | {"certainty": CERTAINTY, "rollup": f"roll-up={ROLLED_UP}"})


def condition_group(
    finding: ReportedFinding, tracking_uid: str, percent: float, images: Iterable[tuple[str, str]]
) -> Any:
    """Return the group of a condition as highdicom makes it, referring to images by SOP Class and Instance UID."""
    from highdicom.sr import Measurement, QualitativeEvaluation

    condition = _condition(finding)
    algorithm = finding.algorithm
    return _group(
        identifier=f"{finding.label} {algorithm.name}",
        uid=tracking_uid,
        finding_type=condition if finding.flagged else None,
        algorithm=_algorithm(
            algorithm.name,
            algorithm.version,
            [
                f"weights-sha256={algorithm.weights_sha256}",
                f"operating-threshold={finding.threshold:g}",
                *([f"roll-up={finding.rollup}"] if finding.rollup else []),
            ],
        ),
        measurements=[Measurement(codes.DCM.CertaintyOfFinding, percent, codes.UCUM.Percent)],
        evaluations=[QualitativeEvaluation(condition, DETECTED if finding.flagged else NOT_DETECTED)],
        images=images,
    )


def _filled_summary(result: StudyResult, images: Iterable[Evidence], version: str) -> bytes:
    uid = derived_uid("tracking", result.study_instance_uid, "study summary")
    form = _summary_form(_summary(result), CATEGORIES.get(result.priority), result.algorithms, version)
    return form.filled({"tracking_uid": uid}, [_image(image) for image in images])


@lru_cache(maxsize=KEPT)
def _summary_form(summary: Code, category: Code | None, algorithms: tuple[Algorithm, ...], version: str) -> Container:
    """Return the group of a study as a whole, for every report with such a summary."""
    made = summary_group(summary, category, algorithms, version, TRACKING_UID, [(SOP_CLASS, SOP_INSTANCE)])
    return Container(made[0], _IN_EVERY_GROUP)


def summary_group(
    summary: Code,
    category: Code | None,
    algorithms: tuple[Algorithm, ...],
    version: str,
    tracking_uid: str,
    images: Iterable[tuple[str, str]],
) -> Any:
    """Return the group of a study as a whole as highdicom makes it."""
    from highdicom.sr import QualitativeEvaluation

    evaluations = [QualitativeEvaluation(codes.DCM.CADProcessingAndFindingsSummary, summary)]
    if category is not None:
        evaluations.append(QualitativeEvaluation(TRIAGE_CATEGORY, category))
    return _group(
        identifier="study summary",
        uid=tracking_uid,
        finding_type=None,
        algorithm=_algorithm(ROLL_UP, version, [describe(algorithm) for algorithm in algorithms] or None),
        measurements=None,
        evaluations=evaluations,
        images=images,
    )


def _image(instance: Evidence) -> dict[str, str]:
    return {"sop_class": instance.sop_class_uid, "sop_instance": instance.sop_instance_uid}


@lru_cache(maxsize=KEPT)
def _frame(device_uid: str) -> tuple[Frozen, tuple[bytes, ...], Container]:
    """Return what is around the groups: the root without its items, the items before the measurements, these."""
    from highdicom.sr import (
        DeviceObserverIdentifyingAttributes,
        MeasurementReport,
        ObservationContext,
        ObserverContext,
    )

    observer = ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
            uid=device_uid, name=MANUFACTURER, manufacturer_name=MANUFACTURER, model_name=MANUFACTURER
        ),
    )
    report = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=observer),
        procedure_reported=PROCEDURE,
        imaging_measurements=[summary_group(NONE_SUCCEEDED, None, (), "0", TRACKING_UID, [])],
        title=codes.cid7021.ImagingMeasurementReport,
    )
    *before, measurements = report[0].ContentSequence
    root = frozen(report[0][:CONTENT_SEQUENCE])
    return root, tuple(encoded(item) for item in before), Container(measurements, {})


def describe(algorithm: Algorithm) -> str:
    """Return an algorithm in one line: what it is called, its version, the digest of its weights."""
    return f"{algorithm.name} {algorithm.version} weights-sha256={algorithm.weights_sha256}"


def _summary(result: StudyResult) -> Code:
    failed = any(instance.status == "failed" for instance in result.evidence)
    # One model may have read an instance that another failed on: then it is failed, and has findings all the same.
    classified = bool(result.findings) or any(instance.status == "classified" for instance in result.evidence)
    if not classified:
        return NONE_SUCCEEDED
    return SUMMARIES[not failed, any(finding.flagged for finding in result.findings)]


def _group(
    *,
    identifier: str,
    uid: str,
    finding_type: Any,
    algorithm: Any,
    measurements: Any,
    evaluations: Any,
    images: Iterable[tuple[str, str]],
) -> Any:
    from highdicom.sr import (
        MeasurementsAndQualitativeEvaluations,
        SourceImageForMeasurementGroup,
        TrackingIdentifier,
    )

    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=uid, identifier=plain(identifier)),
        finding_type=finding_type,
        algorithm_id=algorithm,
        measurements=measurements,
        qualitative_evaluations=evaluations,
        source_images=[SourceImageForMeasurementGroup(*image) for image in images],
    )


def _algorithm(name: str, version: str, parameters: Sequence[str] | None) -> Any:
    from highdicom.sr import AlgorithmIdentification

    return AlgorithmIdentification(
        name=plain(name),
        version=plain(version),
        parameters=None if parameters is None else [plain(parameter) for parameter in parameters],
        family=codes.DCM.ArtificialIntelligence,
        manufacturer=MANUFACTURER,
    )


def _condition(finding: ReportedFinding) -> Any:
    from highdicom.sr import CodedConcept

    meaning = plain(finding.code_meaning or finding.label, _LO_LIMIT)
    if finding.code_value and finding.code_scheme:
        return CodedConcept(plain(finding.code_value, _SH_LIMIT), plain(finding.code_scheme, _SH_LIMIT), meaning)
    return CodedConcept(plain(finding.label, _SH_LIMIT).upper(), PRIVATE_SCHEME, meaning)


@lru_cache(maxsize=1)
def _comments_form() -> Container:
    return Container(comments([COMMENT]), {"comment": COMMENT})


def comments(sentences: Iterable[str]) -> Dataset:
    """Return what a person should read with the result: TEXT in Qualitative Evaluations (TID 1500, rows 12 and 14)."""
    from highdicom.sr import CodedConcept, ContainerContentItem, ContentSequence, TextContentItem
    from highdicom.sr.enum import RelationshipTypeValues

    contains = RelationshipTypeValues.CONTAINS
    container: Dataset = ContainerContentItem(
        CodedConcept.from_code(QUALITATIVE_EVALUATIONS), relationship_type=contains
    )
    container.ContentSequence = ContentSequence(
        [TextContentItem(codes.DCM.Comment, plain(sentence), relationship_type=contains) for sentence in sentences]
    )
    return container


def _means(result: StudyResult) -> list[str]:
    """Say where a certainty is not that of the image beside it."""
    return [
        f"{finding.code_meaning or finding.label}: the certainty is {finding.rollup}; the image referred to is the "
        "highest of them."
        for finding in result.findings
        if finding.rollup
    ]


def _failures(evidence: Sequence[Evidence]) -> list[str]:
    by_reason: dict[str, list[str]] = {}
    for instance in evidence:
        if instance.status == "failed":
            by_reason.setdefault(instance.reason or "no reason was recorded", []).append(instance.sop_instance_uid)
    return [
        f"{len(uids)} of {len(evidence)} instances could not be read by the AI: {reason} ({_listed(uids)})"
        for reason, uids in by_reason.items()
    ]


def _unnamed(evidence: Sequence[Evidence]) -> list[str]:
    uids = [instance.sop_instance_uid for instance in evidence if not can_refer_to(instance)]
    if not uids:
        return []
    return [f"{len(uids)} of {len(evidence)} instances cannot be referred to: UIDs against PS3.5 9.1 ({_listed(uids)})"]


def _listed(uids: list[str]) -> str:
    more = f" and {len(uids) - LISTED} more" if len(uids) > LISTED else ""
    return f"SOP Instance UID {', '.join(uids[:LISTED])}{more}"
