"""`firstread models explain`: a picture of its owner's alone, of one film, one model and one label."""

import stat
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.golden import golden_image
from models.overlay import CAVEAT
from tests.support.model_commands import LABELS, MODEL, SHIPPED_VERSION, call, called, chest
from tests.support.objects import save

pytestmark = pytest.mark.usefixtures("own_folder", "logs_as_they_were")


@pytest.fixture
def film(tmp_path: Path) -> Path:
    Image.fromarray(golden_image(200, 180)).save(tmp_path / "film.png")
    return tmp_path / "film.png"


def test_the_most_probable_finding_is_shown_over_the_film(film: Path, tmp_path: Path) -> None:
    [prediction] = called("predict", film)
    picture = tmp_path / "map.png"
    result = called("explain", film, "--out", picture)
    findings = {label: prediction["probabilities"][label] for label in LABELS[1:]}
    best = max(findings, key=lambda label: findings[label])
    assert result == {
        "file": str(film), "model": MODEL, "model_version": SHIPPED_VERSION, "label": best,
        "probability": pytest.approx(findings[best], abs=1e-5), "flagged": best in prediction["flagged"],
        "method": "grad-cam", "layer": "stage5", "empty": False, "picture": str(picture),
    }  # fmt: skip
    with Image.open(picture) as shown:
        assert (shown.format, shown.mode, shown.width) == ("PNG", "RGB", 512)
        assert set(shown.info) <= {"dpi"}
        assert np.ptp(np.asarray(shown)[:512].astype(int), axis=2).max() > 50
    assert stat.S_IMODE(picture.stat().st_mode) == 0o600


def test_a_label_and_a_method_may_be_chosen_and_the_caveat_is_said(film: Path, tmp_path: Path) -> None:
    result = call("explain", film, "--out", tmp_path / "map.png", "--label", "normal", "--method", "occlusion")
    assert result.exit_code == 0, result.output
    assert "normal: probability 0." in result.stdout
    assert f"Occlusion map of {MODEL}@{SHIPPED_VERSION}" in result.stdout
    assert CAVEAT in result.stdout
    assert "not where a disease is" in CAVEAT


def test_dicom_is_explained_as_its_picture_is(film: Path, tmp_path: Path) -> None:
    save(chest(WindowCenter=2040.5, WindowWidth=4081), tmp_path / "film.dcm")  # 0 to 255 x 16
    of_picture = called("explain", film, "--out", tmp_path / "1.png", "--label", "covid")
    of_dicom = called("explain", tmp_path / "film.dcm", "--out", tmp_path / "2.png", "--label", "covid")
    assert of_dicom | {"file": str(film), "picture": of_picture["picture"]} == of_picture
    assert (tmp_path / "1.png").read_bytes() == (tmp_path / "2.png").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("film.png", "--out", "map.jpg"), 2, "does not end in .png"),
        (("film.png", "--out", "nowhere/map.png"), 2, "there is no folder nowhere"),
        (("film.png", "--out", "map.png", "--label", "flu"), 2, "has no label 'flu'; it has: normal, pneumonia"),
        (("film.png", "--out", "map.png", "--model", "nothing"), 2, "installed:"),
        (("film.png", "--out", "map.png", "--method", "magic"), 2, "grad-cam"),
        (("none.png", "--out", "map.png"), 1, "there is no such file"),
        (("text.png", "--out", "map.png"), 1, "neither a DICOM object nor a PNG or JPEG"),
    ],
)
def test_what_cannot_be_explained_is_said_and_leaves_no_picture(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], code: int, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.png").write_text("no film")
    result = call("explain", *arguments)
    assert result.exit_code == code, result.output
    assert words in " ".join(result.stderr.replace("│", " ").split())
    assert not (tmp_path / "map.png").exists()


def test_a_file_for_several_models_needs_one_named(added: Path, tmp_path: Path) -> None:
    assert call("add", added).exit_code == 0
    when = 'when = { Modality = "DX" }'
    (tmp_path / "firstread.toml").write_text(
        f'[[route]]\nname = "a"\n{when}\nmodel = "our_own"\nalso = true\n'
        f'[[route]]\nname = "b"\n{when}\nmodel = "{MODEL}"\n'
    )
    save(chest(), tmp_path / "film.dcm")
    result = call("explain", tmp_path / "film.dcm", "--out", tmp_path / "map.png")
    assert result.exit_code == 2, result.output
    assert "goes to several models" in " ".join(result.stderr.replace("│", " ").split())
    assert called("explain", tmp_path / "film.dcm", "--out", tmp_path / "map.png", "--model", "our_own")["picture"]
