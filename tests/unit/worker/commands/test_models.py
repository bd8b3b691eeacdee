"""`firstread models …`: JSON alone on standard output, a record for every file, exit codes that mean something."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from PIL import Image

from models.engines import choice
from models.golden import golden_image
from models.registry import SHIPPED, sha256_of
from tests.support.model_commands import LABELS, MODEL, SHIPPED_VERSION, call, called
from worker.commands.models import app

pytestmark = pytest.mark.usefixtures("own_folder", "logs_as_they_were")


def test_list_and_show() -> None:
    [summary] = [item for item in called("list") if item["model"] == MODEL]
    assert (summary["model"], summary["model_version"], summary["shipped"]) == (MODEL, SHIPPED_VERSION, True)
    assert summary["labels"] == LABELS
    card = called("show", MODEL)
    assert card["default_for"] == summary["default_for"] == ["CR", "DX", "RG"]
    assert MODEL in call("list").stdout
    page = " ".join(call("show", f"{MODEL}@{SHIPPED_VERSION}").stdout.split())
    for said in ("not for", "Diagnosis, or any decision", "tbx11k", "233604007", "urgent from"):
        assert said in page


def test_it_says_which_engine_a_package_runs_on_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    [summary] = [item for item in called("list") if item["model"] == MODEL]
    assert (summary["engine"], "verified" in summary["engine_because"]) == ("onnx", True)
    assert "runs on" in call("list").stdout
    assert "onnx: verified" in " ".join(call("show", MODEL).stdout.split())
    monkeypatch.setenv("FIRSTREAD_ENGINE", "keras")
    [summary] = [item for item in called("list") if item["model"] == MODEL]
    assert (summary["engine"], summary["engine_because"]) == ("keras", "it is what FIRSTREAD_ENGINE asks for")
    monkeypatch.setenv("FIRSTREAD_ENGINE", "onnx")
    monkeypatch.setattr(choice, "find_spec", lambda name: None if name == "onnxruntime" else object())
    [summary] = [item for item in called("list") if item["model"] == MODEL]
    assert summary["engine"] == "none"
    assert "install firstread[onnx]" in summary["engine_because"]


@pytest.fixture
def without_onnx(added: Path) -> Path:
    """A package as older releases packed it."""
    (added / "model.onnx").unlink()
    card = json.loads((added / "card.json").read_text())
    del card["onnx"]
    (added / "card.json").write_text(json.dumps(card))
    return added


def test_add_gives_a_package_its_onnx_file(without_onnx: Path, tmp_path: Path) -> None:
    weights = json.loads((without_onnx / "card.json").read_text())["weights_sha256"]
    result = call("add", without_onnx)
    assert result.exit_code == 0, result.output
    [summary] = [item for item in called("list") if item["model"] == "our_own"]
    assert summary["engine"] == "onnx"
    assert called("show", "our_own")["weights_sha256"] == weights
    assert not (without_onnx / "model.onnx").exists(), "what was added stays as it was"
    [verified] = called("verify", "our_own")
    assert set(verified["engines"]) == {"keras", "onnx"}


def test_without_the_extra_a_package_is_added_all_the_same_and_converted_later(
    without_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "find_spec", lambda name: None if name == "tf2onnx" else object())
    result = call("add", without_onnx)
    assert result.exit_code == 0, result.output
    assert "no ONNX file was made: tf2onnx is not installed" in result.stderr
    [summary] = [item for item in called("list") if item["model"] == "our_own"]
    assert summary["engine"] == "keras"
    failed = call("convert", "our_own")
    assert (failed.exit_code, "install firstread[onnx]" in failed.stderr) == (1, True)


def test_convert_gives_an_installed_package_its_onnx_file(
    without_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIRSTREAD_MODELS_DIR", str(tmp_path / "models"))
    shutil.copytree(without_onnx, tmp_path / "models" / "our_own" / "2.0.0")
    found = called("convert", "our_own")
    assert (found["model"], found["engine"], found["onnx"]["batch_invariant"]) == ("our_own", "onnx", True)
    assert called("show", "our_own")["onnx"] == found["onnx"]
    again = call("convert", "our_own")
    assert again.exit_code == 0, again.output
    assert "the same bits in batches of 1 to 32" in again.stdout


def test_convert_compares_mixed_precision_and_says_what_it_allows(added: Path) -> None:
    card = json.loads((added / "card.json").read_text())
    (added / "card.json").write_text(json.dumps(card | {"tolerance": 1e-6}))
    refused = call("convert", added, "--mixed-precision")
    assert refused.exit_code == 1
    assert "so it stays in float32" in refused.stderr
    (added / "card.json").write_text(json.dumps(card | {"tolerance": 0.02}))
    assert call("add", added).exit_code == 0
    told = call("convert", "our_own", "--mixed-precision")
    assert told.exit_code == 0, told.output
    assert "mixed precision is within" in told.stdout
    assert "it is not used: onnx computes in float32 alone" in told.stderr
    found = called("convert", "our_own", "--mixed-precision")
    assert (found["model"], found["mixed_precision"]["device"]) == ("our_own", "cpu")
    assert found["engine"] != "keras-mixed"
    assert called("show", "our_own")["mixed_precision"] == found["mixed_precision"]
    assert "of float32" in " ".join(call("show", "our_own").stdout.split())


def test_where_mixed_precision_is_asked_for_and_not_allowed_float32_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FIRSTREAD_PRECISION", "mixed")
    monkeypatch.setenv("FIRSTREAD_ENGINE", "keras")
    [summary] = [item for item in called("list") if item["model"] == MODEL]
    assert summary["engine"] == "keras"
    assert "in float32, because its card does not allow mixed precision" in summary["engine_because"]
    film = tmp_path / "film.png"
    Image.fromarray(golden_image()).save(film)
    told = call("predict", film, "--model", MODEL)
    assert told.exit_code == 0, told.output
    assert f"{MODEL}@{SHIPPED_VERSION} is computed in float32: its card does not allow" in told.stderr


def test_add_refuses_a_package_whose_onnx_file_says_something_else(added: Path, tmp_path: Path) -> None:
    other = next((SHIPPED / "chest_ct_covid").glob("*/model.onnx"))
    shutil.copyfile(other, added / "model.onnx")
    card = json.loads((added / "card.json").read_text())
    card["onnx"]["sha256"] = sha256_of(other)
    (added / "card.json").write_text(json.dumps(card))
    result = call("add", added)
    assert result.exit_code == 1
    assert "the network goes from" in result.stderr
    assert list((tmp_path / "data" / "models").iterdir()) == []


def test_an_unknown_model_is_bad_usage() -> None:
    for arguments in (("show", "nothing"), ("verify", "nothing"), ("predict", ".", "--model", "nothing")):
        result = call(*arguments)
        assert result.exit_code == 2
        assert f"{MODEL}@{SHIPPED_VERSION}" in result.stderr.partition("installed: ")[2]


def test_a_bad_setting_is_bad_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRSTREAD_ENGINE", "abacus")
    result = call("list")
    assert result.exit_code == 2
    assert "FIRSTREAD_ENGINE='abacus'" in result.stderr


def test_verify_replays_what_is_installed(tmp_path: Path) -> None:
    shipped = called("verify")
    assert MODEL in [result["model"] for result in shipped]
    for result in shipped:
        assert (result["ok"], result["error"]) == (True, None)
        assert result["difference"] <= result["tolerance"]
    (tmp_path / "data" / "models" / "broken" / "1.0.0").mkdir(parents=True)
    results = called("verify", code=1)
    assert [item["ok"] for item in results] == [True] * len(shipped) + [False]
    text = call("verify")
    assert text.exit_code == 1
    assert "FAILED" in text.stdout


def test_add_installs_what_stands_its_check(added: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRSTREAD_MODELS_DIR", str(tmp_path / "own models"))
    result = call("add", added)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "own models" / "our_own" / "2.0.0" / "model.keras").is_file()
    assert {MODEL, "our_own"} <= {item["model"] for item in called("list")}
    again = call("add", added)
    assert again.exit_code == 1
    assert "installed already" in again.stderr


def test_add_leaves_nothing_of_what_does_not(added: Path, tmp_path: Path) -> None:
    (added / "model.keras").write_bytes((added / "model.keras").read_bytes() + b"\0")
    result = call("add", added)
    assert result.exit_code == 1
    assert "is not the card's" in result.stderr
    assert list((tmp_path / "data" / "models").iterdir()) == []
    assert call("add", tmp_path / "nowhere").exit_code == 1


@pytest.fixture
def out_folder(tmp_path: Path) -> Path:
    """The shipped network under a new version, where `models train --out` would have written it."""
    folder = tmp_path / "out" / MODEL / "9.0.0"
    shutil.copytree(SHIPPED / MODEL / SHIPPED_VERSION, folder)
    card = json.loads((folder / "card.json").read_text()) | {"version": "9.0.0"}
    card["metrics"]["accuracy"]["value"] = 0.271
    (folder / "card.json").write_text(json.dumps(card))
    return tmp_path / "out"


def test_a_folder_stands_for_the_package_in_it(out_folder: Path, tmp_path: Path) -> None:
    folder = out_folder / MODEL / "9.0.0"
    assert called("show", folder)["version"] == "9.0.0"
    [verified] = called("verify", out_folder)
    assert (verified["model_version"], verified["ok"], verified["path"]) == ("9.0.0", True, str(folder))
    Image.fromarray(golden_image(200, 180)).save(tmp_path / "film.png")
    [record] = called("predict", tmp_path / "film.png", "--model", out_folder)
    assert record["model_version"] == "9.0.0"
    (tmp_path / "films").mkdir()
    result = called("evaluate", out_folder, "--data", films(tmp_path / "films"), "--rounds", 10)
    assert (result["model"], result["model_version"]) == (MODEL, "9.0.0")
    nothing = call("show", tmp_path / "nothing")
    assert nothing.exit_code == 2
    assert "nor is there such a folder" in nothing.stderr


def test_add_takes_the_folder_that_train_wrote_into_and_says_what_changes(out_folder: Path, tmp_path: Path) -> None:
    accuracy = called("show", MODEL)["metrics"]["accuracy"]["value"]
    result = call("add", out_folder)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "data" / "models" / MODEL / "9.0.0" / "model.keras").is_file()
    assert (
        f"new films go to {MODEL}@9.0.0 from the next start of intake and workers"
        f" (test accuracy 0.271; {SHIPPED_VERSION} has {accuracy:.3f})\n"
    ) in result.stdout


def test_add_does_not_choose_between_packages(out_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(out_folder / MODEL / "9.0.0", out_folder / MODEL / "9.1.0")
    result = call("add", out_folder)
    assert result.exit_code == 1
    assert "did you mean" in result.stderr
    assert not (tmp_path / "data" / "models").exists()


def test_add_says_where_films_go_when_nothing_changes(added: Path, out_folder: Path, tmp_path: Path) -> None:
    no_route = call("add", added).stdout
    assert "no route sends films to our_own" in no_route
    assert 'model = "our_own"' in no_route
    assert call("add", out_folder).exit_code == 0
    older = tmp_path / "older"
    shutil.copytree(out_folder / MODEL / "9.0.0", older)
    (older / "card.json").write_text((older / "card.json").read_text().replace('"9.0.0"', '"8.5.0"'))
    result = call("add", older)
    assert result.exit_code == 0, result.output
    assert f"films still go to {MODEL}@9.0.0, which is newer" in result.stdout


def test_add_names_routes_that_keep_another_version(out_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "firstread.toml").write_text(
        f'[[route]]\nname = "ward"\nwhen = {{ Modality = "DX" }}\nmodel = "{MODEL}@{SHIPPED_VERSION}"\n'
    )
    said = call("add", out_folder).stdout
    assert f"new films go to {MODEL}@9.0.0" in said
    assert f"the route 'ward' keeps {MODEL}@{SHIPPED_VERSION}" in said


def test_the_commands_of_the_documentation_can_be_given() -> None:
    group: Any = typer.main.get_command(app)
    root = Path(__file__).parents[4]
    lines = [
        re.split("[#>]", line)[0].split()[2:]
        for document in ("README.md", "models/README.md")
        for line in (root / document).read_text(encoding="utf-8").splitlines()
        if line.startswith("firstread models ")
    ]
    assert {"train", "evaluate", "add", "verify"} <= {line[0] for line in lines}
    for name, *arguments in lines:
        group.commands[name].make_context(name, arguments)


def films(root: Path) -> Path:
    rows = ["file,label,split,patient_id,source"]
    for place, split in enumerate(("train", "val", "test")):
        for index, label in enumerate(LABELS * 2):
            name = f"{split}{index}.png"
            Image.fromarray(np.roll(golden_image(), 9 * index + place, axis=1)).save(root / name)
            rows.append(f"{name},{label},{split},{split}{index},here")
    (root / "labels.csv").write_text("\n".join(rows))
    return root
