"""`firstread models predict`: a record for every file, in every form it is asked for."""

import csv
import json
import os
import stat
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.golden import golden_image
from tests.support.model_commands import LABELS, MODEL, SHIPPED_VERSION, call, called, chest
from tests.support.objects import save
from worker.commands.model_files import header_of
from worker.commands.model_results import write_private
from worker.errors import FirstreadError

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
    [record] = called("predict", tmp_path / "knee.dcm", "--model", f"{MODEL}@{SHIPPED_VERSION}")
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


def test_a_picture_in_colour_is_remarked_on_and_made_grey(tmp_path: Path) -> None:
    grey = Image.fromarray(golden_image(200, 180))
    grey.convert("RGB").save(tmp_path / "film.png")
    Image.merge("RGB", (grey, grey.point(lambda v: v // 2), grey)).save(tmp_path / "photo.png")
    film, photo = called("predict", tmp_path / "film.png", tmp_path / "photo.png")
    assert "remark" not in film
    assert "in colour, made grey" in photo["remark"]
    for form in ((), ("--record",), ("--csv", "-")):
        result = call("predict", tmp_path / "film.png", tmp_path / "photo.png", *form)
        assert result.exit_code == 0
        assert result.stderr.count("in colour") == 1
        assert f"{tmp_path / 'photo.png'}: a picture in colour" in result.stderr
    explained = call("explain", tmp_path / "photo.png", "--out", tmp_path / "map.png")
    assert f"{tmp_path / 'photo.png'}: a picture in colour" in explained.stderr


def test_a_file_without_preamble_has_a_header_too(tmp_path: Path) -> None:
    path = save(chest(), tmp_path / "film.dcm")
    ds = chest()
    ds.save_as(tmp_path / "bare.dcm", implicit_vr=True, little_endian=True, enforce_file_format=False)
    assert (tmp_path / "bare.dcm").read_bytes()[128:132] != b"DICM"
    for file in (path, tmp_path / "bare.dcm"):
        assert header_of(file, ["BodyPartExamined"]) == {"BodyPartExamined": ["CHEST"]}


@pytest.mark.real_scans
def test_every_awkward_file_gets_its_record(scans: Path) -> None:
    records = called("predict", scans / "dicom" / "files", code=1)
    assert len(records) == sum(1 for _ in (scans / "dicom" / "files").iterdir())
    errors = [record["error"] for record in records if "error" in record]
    assert all(errors)
    assert 10 <= len(records) - len(errors) <= 40  # the more where a CT model is installed


@pytest.fixture
def films(tmp_path: Path) -> Path:
    folder = tmp_path / "films"
    folder.mkdir()
    for number in range(3):
        Image.fromarray(np.roll(golden_image(200, 180), 40 * number, axis=1)).save(folder / f"{number}.png")
    (folder / "1_torn.png").write_bytes(b"\x89PNG\r\n\x1a\n torn")
    return folder


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_record_is_the_articles_for_one_film(tmp_path: Path) -> None:
    Image.fromarray(golden_image(200, 180)).save(tmp_path / "film.png")
    [prediction] = called("predict", tmp_path / "film.png")
    result = call("predict", tmp_path / "film.png", "--record")
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert list(record) == ["Probability", "Disease"]
    best = max(prediction["probabilities"], key=prediction["probabilities"].get)
    assert record == {"Probability": prediction["probabilities"][best], "Disease": best}
    for label in set(prediction["flagged"]) - {best}:
        assert f"film.png: {label} is flagged all the same" in result.stderr


def test_record_of_several_is_a_list_and_names_what_could_not_be_read(films: Path, tmp_path: Path) -> None:
    records = called("predict", films, "--record", "--out", tmp_path / "records.json", code=1)
    assert [list(record) for record in records] == [
        ["Probability", "Disease"], ["Probability", "Disease"], ["file", "error"], ["Probability", "Disease"],
    ]  # fmt: skip
    assert json.loads((tmp_path / "records.json").read_text()) == records
    single = call("predict", films / "1_torn.png", "--record")
    assert single.exit_code == 1
    assert list(json.loads(single.stdout)) == ["file", "error"]


def test_a_folder_goes_to_csv_and_json_and_bad_files_are_listed_at_the_end(films: Path, tmp_path: Path) -> None:
    result = call("predict", films, "--csv", tmp_path / "out.csv", "--out", tmp_path / "out.json")
    assert result.exit_code == 1
    assert result.stdout.startswith(f"4 records written: {tmp_path / 'out.json'}, {tmp_path / 'out.csv'}")
    assert "1 of 4 without a prediction:" in result.stderr
    assert f"  {films / '1_torn.png'}: this is neither a PNG nor a JPEG picture" in result.stderr
    records = json.loads((tmp_path / "out.json").read_text())
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["file", "model", "model_version", *LABELS, "flagged", "error"]
    for row, record in zip(rows, records, strict=True):
        assert row["file"] == record["file"]
        assert row["error"] == record.get("error", "")
        assert [row[label] for label in LABELS] == [str(record.get("probabilities", {}).get(n, "")) for n in LABELS]
        assert row["flagged"] == ";".join(record.get("flagged", []))
    assert mode(tmp_path / "out.csv") == mode(tmp_path / "out.json") == 0o600
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [
        "firstread.toml", "out.csv", "out.json",
    ]  # fmt: skip


def test_csv_on_standard_output_is_nothing_else(films: Path) -> None:
    result = call("predict", films, "--csv", "-")
    rows = list(csv.reader(result.stdout.splitlines()))
    assert [len(row) for row in rows] == [len(LABELS) + 5] * 5
    assert [Path(row[0]).name for row in rows[1:]] == ["0.png", "1.png", "1_torn.png", "2.png"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--record", "--csv", "x.csv"), "--record is JSON"),
        (("--json", "--csv", "-"), "standard output takes one form"),
        (("--out", "-"), "for standard output say --json"),
        (("--csv", "nowhere/x.csv"), "there is no folder nowhere"),
        (("--out", "."), "is a folder"),
        (("--csv", "same", "--out", "same"), "the same file"),
    ],
)
def test_bad_usage_is_said_before_any_work(films: Path, arguments: tuple[str, ...], words: str) -> None:
    result = call("predict", films, *arguments)
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.replace("│", " ").split())
    assert result.stdout == ""


@pytest.mark.parametrize("linked", [False, True])
def test_a_result_never_takes_the_place_of_a_pipe_or_device(films: Path, tmp_path: Path, *, linked: bool) -> None:
    target = tmp_path / "pipe"
    os.mkfifo(target)
    if linked:
        target = tmp_path / "link.csv"
        target.symlink_to(tmp_path / "pipe")
    result = call("predict", films / "0.png", "--csv", target)
    assert result.exit_code == 2
    assert "is no plain file" in " ".join(result.stderr.replace("│", " ").split())
    with pytest.raises(FirstreadError, match="is no plain file"):
        write_private(target, b"")
    assert target.is_fifo()


def test_a_result_takes_the_place_of_an_older_one_or_leaves_it(films: Path, tmp_path: Path) -> None:
    (tmp_path / "out.csv").write_text("older")
    (tmp_path / "out.csv").chmod(0o644)
    assert call("predict", films / "0.png", "--csv", tmp_path / "out.csv").exit_code == 0
    assert (tmp_path / "out.csv").read_text().startswith("file,model,")
    assert mode(tmp_path / "out.csv") == 0o600
    with pytest.raises(FirstreadError, match="No such file"):
        write_private(tmp_path / "gone" / "out.csv", b"")


def test_a_file_whose_name_is_no_text_costs_nothing(tmp_path: Path) -> None:
    name = tmp_path / os.fsdecode(b"M\xfcller.png")
    Image.fromarray(golden_image()).save(name)
    [record] = called("predict", name, "--out", tmp_path / "out.json", "--csv", tmp_path / "out.csv")
    assert record["file"] == json.loads((tmp_path / "out.json").read_text())[0]["file"] == str(name)
    assert r"M\udcfcller.png" in (tmp_path / "out.csv").read_text()
    assert call("predict", name).exit_code == 0


def test_a_target_that_may_not_be_looked_at_is_said_in_a_line(films: Path, tmp_path: Path) -> None:
    result = call("predict", films / "0.png", "--csv", tmp_path / ("x" * 300))
    assert result.exit_code == 1
    assert result.stderr.rstrip().endswith("File name too long")


def test_nothing_to_ask_about_is_said_and_written(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = call("predict", tmp_path / "empty", "--csv", tmp_path / "out.csv")
    assert result.exit_code == 1
    assert "no files there" in result.stderr
    assert (tmp_path / "out.csv").read_text() == "file,model,model_version,flagged,error\n"
