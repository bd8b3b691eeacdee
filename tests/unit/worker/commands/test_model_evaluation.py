"""`firstread models evaluate`: figures on standard output, JSON and a page in files that only their owner reads."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.golden import golden_image
from models.registry import SHIPPED
from models.training.details import Details
from tests.support.model_commands import LABELS, MODEL, SHIPPED_VERSION, call, called, chest
from tests.support.objects import save

pytestmark = pytest.mark.usefixtures("own_folder", "logs_as_they_were")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phantoms of every label in every split, one of them a DICOM file."""
    root = tmp_path_factory.mktemp("films")
    rows = ["file,label,split,patient_id,source,age_group"]
    for place, split in enumerate(("train", "val", "test")):
        for index, label in enumerate(LABELS * 2):
            name = f"{split}{index}.png"
            Image.fromarray(np.roll(golden_image(), 9 * index + place, axis=1)).save(root / name)
            rows.append(f"{name},{label},{split},{split}{index},{'near' if index % 3 else 'far'},adult")
    save(chest(), root / "film.dcm")
    rows.append("film.dcm,normal,test,someone,far,adult")
    (root / "labels.csv").write_text("\n".join(rows))
    return root


def test_json_is_all_there_is_on_standard_output(data: Path, tmp_path: Path) -> None:
    result = called("evaluate", MODEL, "--data", data, "--rounds", 10, "--out", tmp_path / "test.json")
    assert (result["model"], result["model_version"], result["split"]) == (MODEL, SHIPPED_VERSION, "test")
    assert (result["images"], result["patients"]) == (9, 9)
    assert result["loss"] > 0
    assert result["calibration"]["bins"] == 10
    assert set(result["labels"]["covid"]) >= {"auroc", "precision", "recall", "f1", "sensitivity", "specificity"}
    assert set(result["by_source"]) == {"near", "far"}
    assert list(Details.model_validate(result["details"]).curves) == LABELS
    assert json.loads((tmp_path / "test.json").read_text()) == result


def test_all_films_can_be_asked_whatever_their_split(data: Path) -> None:
    result = called("evaluate", MODEL, "--data", data, "--rounds", 10, "--split", "all")
    assert (result["split"], result["images"]) == ("all", 25)


def test_films_of_the_training_are_not_passed_over_in_silence(data: Path, tmp_path: Path) -> None:
    package = tmp_path / MODEL / SHIPPED_VERSION
    shutil.copytree(SHIPPED / MODEL / SHIPPED_VERSION, package)
    films = package / "evaluation" / "training_films.json"
    asked = ("evaluate", package, "--data", data, "--rounds", 10)
    films.unlink(missing_ok=True)
    unknown = call(*asked, "--json")
    assert json.loads(unknown.stdout)["seen_in_training"] is None
    assert "cannot be told" in unknown.stderr
    digests = [hashlib.sha256((data / f"test{index}.png").read_bytes()).hexdigest() for index in range(3)]
    films.write_text(json.dumps({"sha256": digests}))
    report = tmp_path / "report.html"
    seen = call(*asked, "--json", "--report", report, "--no-images")
    assert json.loads(seen.stdout)["seen_in_training"] == 3
    said = "WARNING: of these 9 films the network was trained or validated on 3"
    assert said in " ".join(seen.stderr.split())
    assert said in report.read_text(encoding="utf-8")
    validated = call(*asked, "--json", "--split", "val")
    assert json.loads(validated.stdout)["seen_in_training"] == 0
    assert "WARNING" not in validated.stderr


def test_a_table_is_for_people(data: Path) -> None:
    page = call("evaluate", MODEL, "--data", data, "--rounds", 10, "--split", "val").stdout
    for said in ("val: 8 films of 8 patients", "cross-entropy", "precision", "calibration error", "near", "as covid"):
        assert said in page
    assert "Thresholds" not in page


def test_the_report_holds_films_and_is_its_owners(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("older")
    path.chmod(0o644)
    result = call("evaluate", MODEL, "--data", data, "--rounds", 10, "--report", path)
    assert result.exit_code == 0, result.output
    assert f"written: {path}; it holds films of patients and stays with you" in result.stdout
    assert path.stat().st_mode & 0o777 == 0o600
    page = path.read_text(encoding="utf-8")
    assert "This report holds films of patients" in page
    assert page.count("data:image/jpeg") == page.count("<img") == 9
    assert "film.dcm" in page
    best = called("show", MODEL)["training"]["best_epoch"]
    assert f"epoch {best} was kept" in page  # the shipped package says how it was trained


def test_a_report_without_films_does_not_name_them(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    called("evaluate", MODEL, "--data", data, "--rounds", 10, "--report", path, "--no-images")
    page = path.read_text(encoding="utf-8")
    assert "<img" not in page
    assert "test0.png" not in page
    assert "film.dcm" not in page
    assert "Grey values" in page


def test_thresholds_for_another_sensitivity_come_from_validation(data: Path, tmp_path: Path) -> None:
    asked = ("--sensitivity", 0.8, "--sensitivity", 0.95)
    report = tmp_path / "report.html"
    result = called("evaluate", MODEL, "--data", data, "--rounds", 10, *asked, "--report", report)
    points = result["details"]["operating_points"]
    assert [(point["label"], point["asked"]) for point in points] == [
        (label, share) for share in (None, 0.8, 0.95) for label in LABELS[1:]
    ]
    assert all(point["validation"] >= point["asked"] for point in points[3:])
    assert "sensitivity 0.95<span" in report.read_text(encoding="utf-8")
    table = call("evaluate", MODEL, "--data", data, "--rounds", 10, "--split", "val", "--sensitivity", 0.8).stdout
    assert "Thresholds" in table
    assert "sensitivity 0.8" in table


def test_a_test_set_may_lack_a_label(data: Path, tmp_path: Path) -> None:
    rows = (data / "labels.csv").read_text().splitlines()
    kept = [row for row in rows if ",test," not in row or ",covid," not in row]
    for row in rows[1:]:
        name = row.partition(",")[0]
        (tmp_path / name).write_bytes((data / name).read_bytes())
    (tmp_path / "labels.csv").write_text("\n".join(kept))
    result = called("evaluate", MODEL, "--data", tmp_path, "--rounds", 10, "--report", tmp_path / "report.html")
    assert result["labels"]["covid"]["images"] == 0
    assert result["labels"]["covid"]["auroc"]["value"] is None
    assert result["accuracy"]["value"] is not None


def test_what_is_wrong_is_said_before_the_work(data: Path, tmp_path: Path) -> None:
    assert call("evaluate", MODEL, "--data", tmp_path, "--split", "holdout").exit_code == 2
    for option in ("--out", "--report"):
        result = call("evaluate", MODEL, "--data", data, option, tmp_path / "nowhere" / "file")
        assert result.exit_code == 2
        assert "there is no folder" in result.stderr
    assert call("evaluate", MODEL, "--data", data, "--sensitivity", 1.5).exit_code == 2
    nowhere = call("evaluate", MODEL, "--data", tmp_path / "nowhere")
    assert nowhere.exit_code == 1
    assert "there is no such folder" in nowhere.stderr


def test_a_film_that_cannot_be_read_is_named(data: Path, tmp_path: Path) -> None:
    (tmp_path / "film.png").write_bytes((data / "test0.png").read_bytes()[:200])
    (tmp_path / "labels.csv").write_text("file,label,split,patient_id\nfilm.png,normal,test,a")
    result = call("evaluate", MODEL, "--data", tmp_path, "--report", tmp_path / "report.html")
    assert result.exit_code == 1
    assert f"{tmp_path / 'film.png'}: the picture cannot be decoded" in " ".join(result.stderr.split())
    assert not (tmp_path / "report.html").exists()
