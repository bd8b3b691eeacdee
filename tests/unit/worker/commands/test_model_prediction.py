"""`firstread models predict`: a record for every file, in every form it is asked for."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.golden import golden_image
from tests.support.model_commands import LABELS, MODEL, call, called, chest
from tests.support.objects import save
from worker.commands.model_files import header_of

pytestmark = pytest.mark.usefixtures("own_folder", "logs_as_they_were")


def test_predict_reads_dicom_and_pictures_alike(tmp_path: Path) -> None:
    Image.fromarray(golden_image(200, 180)).save(tmp_path / "film.png")
    Image.fromarray(golden_image(200, 180)).save(tmp_path / "film.jpg", quality=95)
    save(chest(), tmp_path / "film.dcm")
    records = called("predict", tmp_path / "film.png", tmp_path / "film.jpg", tmp_path / "film.dcm")
    assert [record["file"] for record in records] == [str(tmp_path / f"film.{end}") for end in ("png", "jpg", "dcm")]
    for record in records:
        assert list(record) == ["file", "model", "model_version", "probabilities", "flagged"]
        assert list(record["probabilities"]) == LABELS
        assert sum(record["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert set(record["flagged"]) <= set(LABELS[1:])
    png, jpeg, dicom = (np.array(list(record["probabilities"].values())) for record in records)
    assert png == pytest.approx(dicom, abs=0.02)
    assert png == pytest.approx(jpeg, abs=0.1)


def test_predict_routes_dicom_and_says_why_not(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    save(chest(BodyPartExamined="KNEE"), folder / "1_knee.dcm")
    save(chest(ViewPosition="LL"), folder / "2_lateral.dcm")
    (folder / "3_text.txt").write_text("no film")
    save(chest(), folder / "4_cut.dcm")
    (folder / "4_cut.dcm").write_bytes((folder / "4_cut.dcm").read_bytes()[:-3000])
    save(chest(), folder / "5_chest.dcm")
    records = called("predict", folder, tmp_path / "missing.dcm", code=1)
    assert [record["file"] for record in records[:5]] == sorted(str(path) for path in folder.iterdir())
    errors = [record.get("error") for record in records]
    assert errors[4] is None
    assert "not eligible" in errors[0]
    assert "KNEE" in errors[0]
    assert "lateral" in errors[1]
    assert "neither a DICOM object nor a PNG or JPEG" in errors[2]
    assert errors[3]
    assert errors[5] == "there is no such file"
    assert all(list(record) == ["file", "error"] for record in records if "error" in record)


def test_a_named_model_takes_what_routing_would_not(tmp_path: Path) -> None:
    save(chest(BodyPartExamined="KNEE"), tmp_path / "knee.dcm")
    [record] = called("predict", tmp_path / "knee.dcm", "--model", f"{MODEL}@1.0.0")
    assert record["model"] == MODEL


def test_the_sites_own_routes_are_followed(added: Path, tmp_path: Path) -> None:
    assert call("add", added).exit_code == 0
    (tmp_path / "firstread.toml").write_text(
        '[[route]]\nname = "knees"\nwhen = { BodyPartExamined = "KNEE" }\nmodel = "our_own"\n'
    )
    save(chest(BodyPartExamined="KNEE"), tmp_path / "knee.dcm")
    [record] = called("predict", tmp_path / "knee.dcm")
    assert (record["model"], record["model_version"]) == ("our_own", "2.0.0")


def test_predict_as_a_table_and_of_nothing(tmp_path: Path) -> None:
    Image.fromarray(golden_image()).save(tmp_path / "film.png")
    result = call("predict", tmp_path / "film.png")
    assert result.exit_code == 0
    assert "tuberculosis 0." in result.stdout
    (tmp_path / "empty").mkdir()
    assert called("predict", tmp_path / "empty", code=1) == []


def test_a_file_without_preamble_has_a_header_too(tmp_path: Path) -> None:
    path = save(chest(), tmp_path / "film.dcm")
    ds = chest()
    ds.save_as(tmp_path / "bare.dcm", implicit_vr=True, little_endian=True, enforce_file_format=False)
    assert (tmp_path / "bare.dcm").read_bytes()[128:132] != b"DICM"
    for file in (path, tmp_path / "bare.dcm"):
        assert header_of(file).BodyPartExamined == "CHEST"


@pytest.mark.real_scans
def test_every_awkward_file_gets_its_record(scans: Path) -> None:
    records = called("predict", scans / "dicom" / "files", code=1)
    assert len(records) == sum(1 for _ in (scans / "dicom" / "files").iterdir())
    errors = [record["error"] for record in records if "error" in record]
    assert all(errors)
    assert 10 <= len(records) - len(errors) <= 20
