"""What is kept of one report for the next: the bytes highdicom and pydicom would have made anew, and nothing else."""

from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.sr.codedict import codes

from tests.support.sr_gate import groups
from tests.support.study_results import ALGORITHM, finding, result_of, source
from worker.reporting import content, structured_report
from worker.reporting.content import NONE_SUCCEEDED, comments, condition_group, summary_group
from worker.reporting.encoded import Container, Form, element, encoded, frozen
from worker.reporting.structured_report import Algorithm, StudyResult, build, write

IMAGE = ("1.2.840.10008.5.1.4.1.1.1", "1.2.3.1")
NO_IMAGE = "1.2.840.10008.5.1.4.1.1.88.11"
KEPT = (
    content._condition_form, content._summary_form, content._frame, content._comments_form,
    structured_report._document, structured_report._equipment, structured_report._contribution,
)  # fmt: skip


@pytest.fixture(autouse=True)
def _nothing_kept() -> Iterator[None]:
    _forget()
    yield
    _forget()


def _forget() -> None:
    for kept in KEPT:
        kept.cache_clear()


def written(result: StudyResult, folder: Path) -> bytes:
    write(build(result), folder / "report.dcm")
    return (folder / "report.dcm").read_bytes()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"flagged": False, "probability": 0.03},
        {"probability": 0.499999},
        {"probability": 1 / 3, "flagged": False},
        {"probability": 1.0},
        {"probability": 1e-9, "flagged": False},
        {"rollup": "the mean of the highest 30 of 300 instances of the series"},
        {"rollup": "odd"},
        {"code_value": ""},
        {"algorithm": Algorithm("12.5", "12.5", "12.5")},  # it looks like the stand-in of a certainty
        {"algorithm": Algorithm("1.2.3.4.1", "1.2.3.4.2", "1.2.3.4.3")},  # and like those of UIDs
    ],
)
@pytest.mark.parametrize("images", [[IMAGE], []])
def test_a_filled_form_is_what_highdicom_makes_of_the_same_values(changes: dict[str, Any], images: Any) -> None:
    said = replace(finding("pneumonia", 0.9137, "1.2.3.1"), **changes)
    result = replace(result_of(source(**({} if images else {"SOPClassUID": NO_IMAGE}))), findings=(said,))
    for _ in range(2):  # made, and kept
        report = build(result)
        group, summary = groups(report)
        uid = group.ContentSequence[1].UID
        assert encoded(group) == encoded(condition_group(said, uid, content.certainty(said), images)[0])
        uid = summary.ContentSequence[1].UID
        urgent = content.CATEGORIES["urgent"]
        code = content.SUMMARIES[True, said.flagged]
        expected = summary_group(code, urgent, (ALGORITHM,), structured_report.software_version(), uid, images)[0]
        assert encoded(summary) == encoded(expected)
        texts = [item.TextValue for item in report.ContentSequence[-1].ContentSequence]
        assert encoded(report.ContentSequence[-1]) == encoded(comments(texts))


def test_contributing_equipment_is_what_highdicom_makes_of_it() -> None:
    (made,) = build(result_of(source())).ContributingEquipmentSequence
    expected = structured_report.contribution(ALGORITHM, made.DeviceUID, "20261120150500.250000+0000")
    assert encoded(made) == encoded(expected)


def test_whoever_changes_a_report_changes_no_other(tmp_path: Path) -> None:
    result = result_of(source())
    before = written(result, tmp_path)
    spoiled = build(result)
    spoiled.SeriesDescription = "changed"
    spoiled.ContributingEquipmentSequence[0].Manufacturer = "changed"
    spoiled.CodingSchemeIdentificationSequence.clear()
    for group in groups(spoiled):
        group.ContentSequence[0].TextValue = "changed"
        group.ContentSequence[0].ConceptNameCodeSequence[0].CodeMeaning = "changed"
        del group.ContentSequence[1]
    assert written(result, tmp_path) == before


def test_a_report_before_it_leaves_nothing_in_a_report(tmp_path: Path) -> None:
    first = result_of(source())
    others = [
        result_of(source(StudyInstanceUID="1.2.9", SOPInstanceUID="1.2.9.1", PatientName="Other^One"), "negative"),
        result_of(source(SpecificCharacterSet="ISO_IR 192", PatientName="Müller^Jürgen"), "failed"),
        replace(first, algorithms=(Algorithm("other", "2", "cd" * 32),), priority="none", iod="enhanced"),
        replace(first, findings=(finding("pneumonia", 0.7, "1.2.3.1"), finding("covid", 0.2, "1.2.3.1", rollup="a"))),
    ]
    alone = {}
    for number, result in enumerate((first, *others)):
        _forget()
        alone[number] = written(result, tmp_path)
    for _ in range(2):
        for number, result in enumerate((first, *others)):
            assert written(result, tmp_path) == alone[number]


@pytest.mark.parametrize("terms", [None, "ISO_IR 100", "GB18030", ["", "ISO 2022 IR 87"]])
def test_a_report_is_written_without_decoding_what_is_there_as_bytes(terms: Any, tmp_path: Path) -> None:
    report = build(result_of(source(**({} if terms is None else {"SpecificCharacterSet": terms}))))
    write(report, tmp_path / "1.dcm")
    assert isinstance(report.get_item("ContentSequence"), RawDataElement)
    assert groups(report)  # decoded now, and written anew from what that gave
    assert not isinstance(report.get_item("ContentSequence"), RawDataElement)
    write(report, tmp_path / "2.dcm")
    assert (tmp_path / "1.dcm").read_bytes() == (tmp_path / "2.dcm").read_bytes()


def test_what_is_kept_has_an_end() -> None:
    for number in range(content.KEPT + 5):
        content._summary_form(NONE_SUCCEEDED, None, (), str(number))
    assert content._summary_form.cache_info().currsize == content.KEPT


def test_an_element_is_written_as_pydicom_does() -> None:
    for keyword, value in {"StudyInstanceUID": "1.2.3", "TextValue": "odd", "FloatingPointValue": 0.1}.items():
        made = Dataset()
        setattr(made, keyword, value)
        assert element(keyword, value) == encoded(made)
        assert read_dataset(BytesIO(element(keyword, value)), False, True)[keyword].value == value


def test_places_are_found_at_any_depth_and_filled() -> None:
    unit = Dataset()
    unit.CodeValue, unit.CodingSchemeDesignator, unit.CodeMeaning = codes.UCUM.Percent[:3]
    measured = Dataset()
    measured.NumericValue, measured.FloatingPointValue, measured.MeasurementUnitsCodeSequence = "12.5", 12.5, [unit]
    item = Dataset()
    item.MeasuredValueSequence = [measured]
    form = Form(item, {"number": 12.5})
    assert form.names == {"number"}
    measured.NumericValue, measured.FloatingPointValue = "7.25", 7.25
    assert form.filled({"number": 7.25}) == encoded(item)


def test_an_item_of_a_container_stands_there_once_for_each_row() -> None:
    def container(*texts: str) -> Dataset:
        made = Dataset()
        made.ValueType = "CONTAINER"
        made.ContentSequence = []
        for text in texts:
            item = Dataset()
            item.TextValue = text
            made.ContentSequence.append(item)
        return made

    form = Container(container("first", "stand-in", "last"), {"text": "stand-in"})
    for texts in ((), ("one",), ("one", "two")):
        rows = [{"text": text} for text in texts]
        assert form.filled({}, rows) == encoded(container("first", *texts, "last"))


def test_frozen_elements_are_bytes() -> None:
    made = Dataset()
    made.Modality, made.PerformedProcedureCodeSequence = "SR", []
    found = frozen(made)
    assert all(isinstance(one, RawDataElement) for one in found.values())
    report = Dataset()
    report.update(found)
    assert report.Modality == "SR"
    assert list(report.PerformedProcedureCodeSequence) == []
    assert all(isinstance(one, RawDataElement) for one in found.values())
