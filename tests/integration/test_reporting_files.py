"""Reports of every awkward file there is, and of wrapped films, before the public validators."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset

from tests.conftest import SCANS
from tests.support import sr_gate
from tests.support.films import wrap_films
from tests.support.study_results import Variant, read, result_of
from worker.reporting.structured_report import build, write

FILES = sorted((SCANS / "dicom" / "files").glob("*")) if SCANS.is_dir() else []

TEMPLATE_SAMPLES: tuple[tuple[str, Variant], ...] = (
    ("pylibjpeg-data__966_fixed.dcm", "positive"),
    ("pydicom__chrKoreanMulti.dcm", "failed"),
    ("orthanc-tests__TEST_1_study_1234.dcm", "negative"),
)
"""A film, a header whose pixels are missing, a slice: what the slow validator is shown."""

REPAIRED = {"StudyDate", "AccessionNumber"}
"""What may differ from a source that breaks the rules: its remark or its form of today is tested elsewhere."""

pytestmark = [pytest.mark.real_scans, pytest.mark.peer(*sr_gate.TOOLS)]


@cache
def header_of(path: Path) -> Dataset:
    return read(path)


def report_of(path: Path, variant: Variant, target: Path) -> Path:
    write(build(result_of(header_of(path), variant, read=path)), target)
    return target


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name[:60])
def test_a_report_of_any_file_is_valid_and_belongs_to_it(path: Path, tmp_path: Path) -> None:
    source = header_of(path)
    for variant in ("positive", "negative", "failed"):
        report = report_of(path, variant, tmp_path / f"{variant}.dcm")
        assert report.read_bytes() == report_of(path, variant, tmp_path / "again.dcm").read_bytes()
        assert sr_gate.content(report) == []
        assert variant == "negative" or sr_gate.light(report) == []
    document = pydicom.dcmread(tmp_path / "positive.dcm")
    for keyword in ("PatientID", "PatientName", "AccessionNumber", "StudyDate"):
        same = (document.get(keyword) or "") == (source.get(keyword) or "")
        assert same or (keyword in REPAIRED and not is_allowed(source, keyword)), keyword


def is_allowed(source: Dataset, keyword: str) -> bool:
    value = str(source.get(keyword))
    return len(value) == 8 and value.isdigit() if keyword == "StudyDate" else len(value) <= 16


@pytest.mark.parametrize(
    "path",
    [p for p in FILES if p.name.startswith("pydicom__chr") and "SQEncoding" not in p.name],
    ids=lambda path: path.name,
)
def test_names_in_every_character_set_are_those_of_the_source(path: Path, tmp_path: Path) -> None:
    report = report_of(path, "positive", tmp_path / "report.dcm")
    assert sr_gate.same_entities(report, path, tmp_path) == []
    name = header_of(path).PatientName
    assert str(name)
    assert pydicom.dcmread(report).PatientName == name


def test_the_templates_are_followed(scans: Path, tmp_path: Path) -> None:
    reports = []
    for name, variant in TEMPLATE_SAMPLES:
        target = tmp_path / f"{variant}-{name}.dcm"
        reports.append(report_of(scans / "dicom" / "files" / name, variant, target))
    assert sr_gate.failures(sr_gate.templates(reports, tmp_path).items()) == {}


def test_the_gate_can_fail(scans: Path, tmp_path: Path) -> None:
    path = report_of(scans / "dicom" / "files" / TEMPLATE_SAMPLES[0][0], "positive", tmp_path / "report.dcm")
    broken = pydicom.dcmread(path)
    broken.PatientSex = "MALE"
    broken.PreliminaryFlag = "FINAL"
    del sr_gate.groups(broken)[0].ContentSequence[1]
    broken.save_as(path)
    assert any("PatientSex" in finding for finding in sr_gate.light(path))
    assert len(sr_gate.content(path)) == 2


@pytest.mark.parametrize("iod", ["comprehensive_3d", "comprehensive", "enhanced"])
def test_wrapped_films_in_every_kind_of_document(scans: Path, tmp_path: Path, iod: str) -> None:
    films = wrap_films(scans, tmp_path, 4)
    for film in films:
        header = pydicom.dcmread(film, stop_before_pixels=True)
        report = tmp_path / f"{film.stem}-sr.dcm"
        write(build(replace(result_of(header, read=film), iod=iod)), report)
        assert sr_gate.light(report) == []
        assert sr_gate.content(report) == []
        assert sr_gate.same_entities(report, film, tmp_path) == []
