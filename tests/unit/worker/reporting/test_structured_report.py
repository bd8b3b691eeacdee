import stat
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import Comprehensive3DSRStorage, ComprehensiveSRStorage, EnhancedSRStorage

from tests.support.sr_gate import groups, name
from tests.support.study_results import ALGORITHM, CREATED_AT, finding, result_of, source
from worker.errors import ReportError
from worker.reporting.structured_report import (
    Algorithm,
    Evidence,
    ReportedFinding,
    StudyResult,
    build,
    report_uid,
    write,
)


def evidence(uid: str, status: Any = "classified", **changes: Any) -> Evidence:
    values = {
        "sop_class_uid": "1.2.840.10008.5.1.4.1.1.1", "sop_instance_uid": uid, "series_instance_uid": "1.2.3.2",
        "status": status, "reason": "" if status == "classified" else "bits are missing", "header": source(),
    }  # fmt: skip
    return Evidence(**(values | changes))


def item(group: Dataset, code: str) -> Dataset:
    (found,) = [entry for entry in group.ContentSequence if name(entry) == code]
    return found


def has(group: Dataset, code: str) -> bool:
    return any(name(entry) == code for entry in group.ContentSequence)


def value(entry: Dataset) -> str:
    return str(entry.ConceptCodeSequence[0].CodeValue)


def comments(report: Dataset) -> list[str]:
    (container,) = [entry for entry in report.ContentSequence if name(entry) == "C0034375"]
    return [entry.TextValue for entry in container.ContentSequence]


def evidence_uids(report: Dataset) -> list[str]:
    (study,) = report.CurrentRequestedProcedureEvidenceSequence
    return [
        i.ReferencedSOPInstanceUID for series in study.ReferencedSeriesSequence for i in series.ReferencedSOPSequence
    ]


def test_a_positive_says_the_finding_its_certainty_and_what_it_is_of() -> None:
    report = build(result_of(source()))
    first, second, _, _ = groups(report)
    assert value(item(first, "121071")) == "233604007"
    assert value(item(first, "233604007")) == "260373001"
    measured = item(first, "111012").MeasuredValueSequence[0]
    assert float(measured.NumericValue) == 91.37
    assert measured.MeasurementUnitsCodeSequence[0].CodeValue == "%"
    assert item(first, "121112").ReferencedSOPSequence[0].ReferencedSOPInstanceUID == "1.2.3.1"
    assert not has(second, "121071")  # a condition that was not found is no finding
    assert value(item(second, "840539006")) == "260415000"


@pytest.mark.parametrize(
    ("states", "flagged", "code"),
    [
        (["classified"], False, "111241"),
        (["classified"], True, "111242"),
        (["classified", "failed"], False, "111243"),
        (["classified", "failed"], True, "111244"),
        (["failed", "failed"], None, "111245"),
    ],
)
def test_the_summary_says_what_ran_and_whether_something_was_found(
    states: list[str], flagged: bool | None, code: str
) -> None:
    instances = tuple(evidence(f"1.2.3.{number}", state) for number, state in enumerate(states, start=1))
    found = () if flagged is None else (finding("pneumonia", 0.9 if flagged else 0.1, "1.2.3.1"),)
    report = build(replace(result_of(source()), evidence=instances, findings=found))
    summary = groups(report)[-1]
    assert value(item(summary, "111017")) == code
    assert evidence_uids(report) == [i.sop_instance_uid for i in instances]
    failed = states.count("failed")
    assert any(f"{failed} of {len(states)}" in text and "bits are missing" in text for text in comments(report)) == (
        failed > 0
    )


@pytest.mark.parametrize(
    ("priority", "code"), [("immediate", "RID49480"), ("urgent", "RID49481"), ("routine", "RID49482"), ("none", None)]
)
def test_the_triage_category_is_a_code_or_none(priority: Any, code: str | None) -> None:
    summary = groups(build(replace(result_of(source()), priority=priority)))[-1]
    assert has(summary, "AITRIAGE") == (code is not None)
    if code:
        assert value(item(summary, "AITRIAGE")) == code


def test_a_mean_over_slices_says_of_how_many_and_that_the_image_is_the_highest() -> None:
    words = "the mean of the highest 30 of 300 instances of the series"
    report = build(replace(result_of(source()), findings=(finding("covid", 0.62, "1.2.3.1", rollup=words),)))
    (group, _) = groups(report)
    texts = [entry.TextValue for entry in group.ContentSequence if entry.ValueType == "TEXT"]
    assert f"roll-up={words}" in texts
    assert f"COVID-19: the certainty is {words}; the image referred to is the highest of them." in comments(report)
    plain = build(result_of(source()))
    assert not any("roll-up=" in str(entry.get("TextValue", "")) for entry in groups(plain)[0].ContentSequence)
    assert not any("the certainty is" in comment for comment in comments(plain))


@pytest.mark.parametrize(
    ("probability", "threshold", "percent"),
    [
        (0.9137, 0.5, 91.37),
        (0.0, 0.5, 0.0),
        (1.0, 0.5, 100.0),
        (0.499999, 0.5, 49.9999),  # 50.00 would look reached
        (0.12344, 0.123441, 12.34),
    ],
)
def test_rounding_never_crosses_the_threshold(probability: float, threshold: float, percent: float) -> None:
    changed = replace(finding("pneumonia", probability, "1.2.3.1"), threshold=threshold)
    (group, _) = groups(build(replace(result_of(source()), findings=(changed,))))
    assert float(item(group, "111012").MeasuredValueSequence[0].NumericValue) == pytest.approx(percent, abs=1e-9)
    assert (percent >= threshold * 100) == (probability >= threshold)


def test_what_made_it_is_named_in_the_group_and_as_equipment() -> None:
    second = Algorithm("other", "2.0.0", "cd" * 32)
    result = replace(
        result_of(source()),
        algorithms=(ALGORITHM, second),
        findings=(finding("pneumonia", 0.9, "1.2.3.1"), finding("covid", 0.9, "1.2.3.1", algorithm=second)),
    )
    report = build(result)
    texts = [entry.TextValue for entry in groups(report)[1].ContentSequence if entry.ValueType == "TEXT"]
    assert {"other", "2.0.0", "weights-sha256=" + "cd" * 32, "operating-threshold=0.5"} <= set(texts)
    made_by = [(e.ManufacturerModelName, e.SoftwareVersions) for e in report.ContributingEquipmentSequence]
    assert made_by == [("chest_xray", "1.0.0"), ("other", "2.0.0")]
    observers = [entry.UID for entry in report.ContentSequence if name(entry) == "121012"]
    assert {e.DeviceUID for e in report.ContributingEquipmentSequence} == set(observers)
    assert report.ContributingEquipmentSequence[0].PurposeOfReferenceCodeSequence[0].CodeValue == "109102"


def test_the_document_says_what_it_is_not() -> None:
    report = build(result_of(source()))
    assert (report.CompletionFlag, report.PreliminaryFlag, report.VerificationFlag) == (
        "COMPLETE",
        "PRELIMINARY",
        "UNVERIFIED",
    )
    assert report.SeriesDescription == "AI triage - NOT FOR DIAGNOSIS"
    assert report.SeriesNumber == 9001
    assert any("NOT FOR DIAGNOSIS" in text for text in comments(report))


@pytest.mark.parametrize(
    ("iod", "sop_class"),
    [
        ("comprehensive_3d", Comprehensive3DSRStorage),
        ("comprehensive", ComprehensiveSRStorage),
        ("enhanced", EnhancedSRStorage),
    ],
)
def test_the_kind_of_document_changes_nothing_else(iod: Any, sop_class: str) -> None:
    report = build(replace(result_of(source()), iod=iod))
    assert report.SOPClassUID == report.file_meta.MediaStorageSOPClassUID == sop_class
    assert report.SOPInstanceUID == build(result_of(source())).SOPInstanceUID


def test_the_same_result_makes_the_same_bytes(tmp_path: Path) -> None:
    for number in (1, 2):
        write(
            build(result_of(source(PatientName="王^小东", SpecificCharacterSet="GB18030"))), tmp_path / f"{number}.dcm"
        )
    assert (tmp_path / "1.dcm").read_bytes() == (tmp_path / "2.dcm").read_bytes()


@pytest.mark.parametrize(
    "changes",
    [
        {"generation": 2},
        {"study_instance_uid": "1.2.3.9"},
        {"evidence": (evidence("1.2.3.1"), evidence("1.2.3.8"))},
        {"algorithms": (replace(ALGORITHM, weights_sha256="ef" * 32),)},
    ],
)
def test_another_result_is_another_object(changes: dict[str, Any]) -> None:
    result = result_of(source())
    assert report_uid(replace(result, **changes)) != report_uid(result)


def test_tracking_stays_over_generations() -> None:
    first = build(result_of(source()))
    second = build(replace(result_of(source()), generation=2))
    uids = [[item(group, "112040").UID for group in groups(report)] for report in (first, second)]
    assert uids[0] == uids[1]
    assert len(set(uids[0])) == len(uids[0])
    assert first.SeriesInstanceUID == second.SeriesInstanceUID
    assert (first.InstanceNumber, second.InstanceNumber) == (1, 2)


def test_a_later_generation_names_the_one_before() -> None:
    first = build(result_of(source()))
    before = (first.SOPClassUID, first.SOPInstanceUID, first.SeriesInstanceUID)
    second = build(replace(result_of(source()), generation=2, predecessor=before))
    (study,) = second.PredecessorDocumentsSequence
    (series,) = study.ReferencedSeriesSequence
    (document,) = series.ReferencedSOPSequence
    assert study.StudyInstanceUID == second.StudyInstanceUID
    assert (document.ReferencedSOPClassUID, document.ReferencedSOPInstanceUID, series.SeriesInstanceUID) == before


def test_times_are_those_of_the_result_in_the_zone_of_the_source() -> None:
    report = build(result_of(source()))
    assert (report.ContentDate, report.ContentTime) == ("20261120", "150500.250000")
    there = build(result_of(source(TimezoneOffsetFromUTC="-0800")))
    assert (there.ContentDate, there.ContentTime) == ("20261120", "070500.250000")
    assert str(there.ContributingEquipmentSequence[0].ContributionDateTime) == "20261120070500.250000-0800"
    here = replace(result_of(source()), created_at=CREATED_AT.astimezone(timezone(timedelta(hours=2))))
    assert build(here).ContentTime == "170500.250000"


def test_the_patient_is_taken_from_what_was_classified() -> None:
    unread = evidence("1.2.3.8", "failed", header=source(PatientID="OTHER"))
    report = build(replace(result_of(source()), evidence=(unread, evidence("1.2.3.1"))))
    assert report.PatientID == "P1"


def test_a_header_that_cannot_be_read_gives_way_to_the_next(tmp_path: Path) -> None:
    lost = evidence("1.2.3.8", header=tmp_path / "lost.dcm")
    report = build(replace(result_of(source()), evidence=(lost, evidence("1.2.3.1"))))
    assert report.PatientID == "P1"
    with pytest.raises(ReportError, match=r"lost\.dcm"):
        build(replace(result_of(source()), findings=(), evidence=(lost,)))


def test_a_source_that_says_nothing_gets_a_report_all_the_same(tmp_path: Path) -> None:
    garbage = tmp_path / "garbage.dcm"
    garbage.write_bytes(b"no data set")
    failed = evidence("1.2.3.1", "failed", header=garbage)
    report = build(replace(result_of(source(), "failed"), evidence=(failed,)))
    assert (report.PatientID, report.StudyInstanceUID) == ("", "1.2.3.3")


def test_one_uid_twice_is_one_reference() -> None:
    twice = (evidence("1.2.3.1", "failed"), evidence("1.2.3.1"))
    report = build(replace(result_of(source()), evidence=twice))
    assert evidence_uids(report) == ["1.2.3.1"]


def test_an_instance_whose_uid_is_none_is_named_but_not_referred_to() -> None:
    odd = evidence("1.02.3")
    result = replace(result_of(source()), evidence=(odd,), findings=(finding("pneumonia", 0.9, "1.02.3"),))
    report = build(result)
    assert "CurrentRequestedProcedureEvidenceSequence" not in report
    assert not has(groups(report)[0], "121112")
    assert any("1.02.3" in text for text in comments(report))


def test_an_object_that_is_no_image_is_evidence_only() -> None:
    plan = evidence("1.2.3.1", sop_class_uid="1.2.840.10008.5.1.4.1.1.481.5")
    report = build(replace(result_of(source()), evidence=(plan,)))
    assert evidence_uids(report) == ["1.2.3.1"]
    assert not has(groups(report)[-1], "121112")


def test_remarks_are_said_and_ours_is_plain_text() -> None:
    report = build(replace(result_of(source(AccessionNumber="x" * 20)), remarks=("Größe\nunbekannt",)))
    assert "Gr??e unbekannt" in comments(report)
    assert any("Accession Number" in text for text in comments(report))


def test_a_long_list_of_failures_is_cut() -> None:
    instances = tuple(evidence(f"1.2.3.{number}", "failed") for number in range(1, 31))
    report = build(replace(result_of(source(), "failed"), evidence=instances))
    (said,) = [text for text in comments(report) if "30 of 30" in text]
    assert said.endswith("and 10 more)")
    assert len(evidence_uids(report)) == 30


def test_a_label_without_code_gets_a_private_one() -> None:
    known = finding("pneumonia", 0.9, "1.2.3.1")
    own = replace(known, label="odd thing of a long name", code_scheme="", code_value="", code_meaning="")
    group = groups(build(replace(result_of(source()), findings=(own,))))[0]
    concept = item(group, "121071").ConceptCodeSequence[0]
    assert (concept.CodingSchemeDesignator, concept.CodeMeaning) == ("99FIRSTREAD", "odd thing of a long name")
    assert len(concept.CodeValue) <= 16


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"study_instance_uid": "../x"}, "no Study Instance UID"),
        ({"created_at": datetime(2026, 1, 1)}, "no time zone"),  # noqa: DTZ001
        ({"evidence": (), "findings": ()}, "needs an instance"),
        ({"findings": (finding("covid", 0.5, "9.9"),)}, "not among the evidence"),
        ({"findings": (finding("covid", 1.5, "1.2.3.1"),)}, "not between 0 and 1"),
        ({"findings": (finding("covid", float("nan"), "1.2.3.1"),)}, "not between 0 and 1"),
        ({"predecessor": ("1.2", "x", "1.2")}, "predecessor"),
    ],
)
def test_what_cannot_be_said_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ReportError, match=words):
        build(replace(result_of(source()), **changes))


def test_a_report_is_written_whole_and_private(tmp_path: Path) -> None:
    path = tmp_path / "report.dcm"
    report = build(result_of(source()))
    write(report, path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.dcm"]
    assert dcmread(path).SOPInstanceUID == report.SOPInstanceUID


def test_a_report_that_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("worker.reporting.structured_report.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write(build(result_of(source())), tmp_path / "report.dcm")
    assert list(tmp_path.iterdir()) == []


def test_the_values_are_frozen() -> None:
    for kind in (Algorithm, Evidence, ReportedFinding, StudyResult):
        assert kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
