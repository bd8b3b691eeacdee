"""Fifty real films: pushed by dcmtk, classified, reported to two PACS that no one here wrote."""

from pathlib import Path

import pydicom
import pytest

from tests.conftest import RedisServer
from tests.support import sr_gate
from tests.support.films import wrap_films
from tests.support.peers import Orthanc, Storescp
from tests.support.stack import Stack

pytestmark = [pytest.mark.real_scans, pytest.mark.peer("storescu", "storescp", "Orthanc", "DicomSRValidator")]
COUNT = 50


def test_fifty_films_become_fifty_valid_reports_at_two_pacs(
    scans: Path, tmp_path: Path, redis_server: RedisServer
) -> None:
    films = wrap_films(scans, tmp_path / "films", COUNT)
    with Storescp(tmp_path / "pacs") as dcmtk, Orthanc(tmp_path / "orthanc") as orthanc:
        with Stack(tmp_path / "data", redis_server.url, pacs=f"{dcmtk.peer},{orthanc.peer}") as stack:
            stack.start()
            assert stack.storescu(*films) == 0
            stack.wait(lambda: stack.settled(COUNT), 180, "classification")
            stack.wait(lambda: len(dcmtk.held()) == COUNT, 180, "reports at dcmtk")
            stack.wait(lambda: len(orthanc.instances()) == COUNT, 180, "reports at Orthanc")
            studies = stack.studies()
            assert [study["ai_status"] for study in studies] == ["complete"] * COUNT
            reports = {study["study_instance_uid"]: study["reports"] for study in studies}
            assert {len(of_study) for of_study in reports.values()} == {1}
            assert {d["status"] for of in reports.values() for d in of[0]["deliveries"]} == {"delivered"}
            done = stack.run("reconcile", "--verify", "--json")
            assert done.returncode == 0, done.stdout
            stored = sorted((stack.data_dir / "reports").rglob("*.dcm"))

        sources = {str(pydicom.dcmread(film, stop_before_pixels=True).StudyInstanceUID): film for film in films}
        pairs = [(path, sources[str(pydicom.dcmread(path).StudyInstanceUID)]) for path in stored]
        assert len(pairs) == COUNT
        scratch = tmp_path / "scratch"
        scratch.mkdir()
        findings = [(report, sr_gate.light(report) + sr_gate.content(report)) for report, _ in pairs]
        findings += [(report, sr_gate.same_entities(report, film, scratch)) for report, film in pairs]
        findings += sr_gate.templates([report for report, _ in pairs], scratch).items()
        assert sr_gate.failures(findings) == {}
        held = {str(pydicom.dcmread(path).SOPInstanceUID) for path in dcmtk.held()}
        assert held == {report[0]["sop_instance_uid"] for report in reports.values()}
        assert held == set(orthanc.instances())
