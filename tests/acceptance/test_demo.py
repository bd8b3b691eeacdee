"""`firstread demo --exit` as a stranger runs it: it ends well, and what it claims is so."""

import os
import re
import sqlite3
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import Comprehensive3DSRStorage

from models.registry import Registry
from worker.demo.phantoms import generate

pytestmark = pytest.mark.timeout(240)


def run_demo(firstread: list[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*firstread, "demo", "--exit", *arguments],
        capture_output=True, text=True, timeout=200, check=False, env={**os.environ, "COLUMNS": "200"},
    )  # fmt: skip


def study_states(data_dir: Path) -> Counter[tuple[str, str]]:
    with sqlite3.connect(data_dir / "firstread.db") as connection:
        rows = connection.execute("SELECT patient_name, ai_status FROM study").fetchall()
    connection.close()
    return Counter(rows)


def has_a_ct_model() -> bool:
    """Whether a CT model is among the shipped ones."""
    return "chest_ct_covid" in {package.card.name for package in Registry().packages()}


def running(data_dir: Path) -> list[str]:
    """Processes whose environment names the data directory."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes()
        except OSError:
            continue
        if f"FIRSTREAD_DATA_DIR={data_dir}\0".encode() in environment:
            found.append((process / "cmdline").read_text())
    return found


def test_the_phantoms_end_as_they_shall_and_their_reports_arrive(firstread: list[str], tmp_path: Path) -> None:
    data_dir = tmp_path / "demo"
    done = run_demo(firstread, "--data-dir", str(data_dir))
    assert done.returncode == 0, done.stdout + done.stderr
    assert study_states(data_dir) == {
        ("PHANTOM^PLAIN CHEST", "complete"): 1,
        ("PHANTOM^SHADOW RIGHT BASE", "complete"): 1,
        ("PHANTOM^VEIL BOTH SIDES", "complete"): 1,
        ("PHANTOM^RING RIGHT TOP", "complete"): 1,
        ("PHANTOM^SPOT LEFT BEDSIDE", "complete"): 1,
        ("PHANTOM^LATERAL ONLY", "not_eligible"): 1,
        ("PHANTOM^CHEST CT", "complete" if has_a_ct_model() else "not_eligible"): 1,
        ("PHANTOM^TEXT ONLY", "not_eligible"): 1,
        ("PHANTOM^CUT SHORT", "failed"): 1,
    }
    slices = 6 if has_a_ct_model() else 0
    counts = f"{5 + slices} complete, 1 failed, {9 - slices} not eligible, 0 pending"
    assert f"15 instances accepted = {counts}" in done.stdout
    reports = [dcmread(path) for path in (data_dir / "pacs").glob("*.dcm")]
    stored = [dcmread(path) for path in (data_dir / "reports").rglob("*.dcm")]
    assert {ds.SOPClassUID for ds in reports} == {Comprehensive3DSRStorage}
    assert {ds.SOPInstanceUID for ds in reports} == {ds.SOPInstanceUID for ds in stored}
    assert len(reports) >= 6 + has_a_ct_model()
    assert re.search(r"^\d+ reports at the stand-in PACS, \d+\.\d s after the start$", done.stdout, re.MULTILINE)
    for place in (data_dir / "logs", data_dir / "reports", data_dir / "pacs"):
        assert str(place) in done.stdout
    assert re.search(r"worklist +http://127\.0\.0\.1:\d+/", done.stdout)
    assert re.search(r"listener +FIRSTREAD@127\.0\.0\.1:\d+", done.stdout)
    assert "  log in" not in done.stdout  # the worklist is gone by then
    assert "users link" not in done.stdout
    assert "stays up until Ctrl-C" in done.stdout
    assert f"FIRSTREAD_DATA_DIR={data_dir} firstread up\n" in done.stdout
    assert running(data_dir) == []
    logs = "".join(path.read_text() for path in (data_dir / "logs").glob("*.log"))
    assert "PHANTOM" not in logs  # logs carry UIDs, never names


def test_own_scans_are_pushed_and_what_is_not_dicom_is_listed(firstread: list[str], tmp_path: Path) -> None:
    scans = tmp_path / "scans"
    phantoms = generate(scans / "deep", film_pixels=256, ct_pixels=64)
    film, _side, second = (next(phantoms) for _ in range(3))
    film.path.rename(scans / "IM0001")
    (scans / "README.txt").write_text("these are my scans")
    done = run_demo(firstread, "--data-dir", str(tmp_path / "demo"), "--scans", str(scans))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "README.txt" in done.stdout
    assert second.path.exists()
    assert set(study_states(tmp_path / "demo").values()) == {1}
    assert "2 complete, 0 failed, 1 not eligible, 0 pending" in done.stdout


def test_a_film_of_ones_own_that_fails_is_a_failure_with_its_reason(firstread: list[str], tmp_path: Path) -> None:
    *_, cut = generate(tmp_path / "scans", film_pixels=256, ct_pixels=64)
    for path in (tmp_path / "scans").iterdir():
        if path != cut.path:
            path.unlink()
    done = run_demo(firstread, "--data-dir", str(tmp_path / "demo"), "--scans", str(tmp_path / "scans"))
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"PROBLEM study {cut.study_instance_uid} is failed" in done.stdout


def test_a_data_directory_that_is_in_use_is_refused(firstread: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run_demo(firstread, "--data-dir", str(tmp_path))
    assert done.returncode == 1
    assert "not empty" in done.stderr
