"""`firstread models card` and `pack`: from a Keras model of one's own to an installed package in three commands."""

import json
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from models.golden import golden_image
from models.registry import SHIPPED
from tests.support.model_commands import LABELS, MODEL, SHIPPED_VERSION, call, called

pytestmark = pytest.mark.usefixtures("own_folder", "logs_as_they_were")

NETWORK = SHIPPED / MODEL / SHIPPED_VERSION / "model.keras"


def test_card_then_pack_then_add_then_predict(tmp_path: Path) -> None:
    printed = call("card", MODEL)
    assert printed.exit_code == 0, printed.output
    card = tmp_path / "card.json"
    card.write_text(printed.stdout)
    refused = call("pack", NETWORK, "--card", card, "--out", tmp_path / "packed")
    assert refused.exit_code == 1
    assert f"{card}: title: it is still to be written" in refused.stderr
    card.write_text(printed.stdout.replace("TODO: ", "Said: "))
    packed = called("pack", NETWORK, "--card", card, "--out", tmp_path / "packed")
    assert packed == {
        "model": "my_model", "model_version": "1.0.0", "path": str(tmp_path / "packed" / "my_model" / "1.0.0"),
    }  # fmt: skip
    assert call("add", tmp_path / "packed").exit_code == 0
    [verified] = called("verify", "my_model")
    assert verified["ok"]
    Image.fromarray(golden_image()).save(tmp_path / "film.png")
    [record] = called("predict", tmp_path / "film.png", "--model", "my_model")
    assert list(record["probabilities"]) == LABELS


def test_pack_says_what_comes_next_and_never_packs_over(tmp_path: Path) -> None:
    card = tmp_path / "card.json"
    card.write_text(call("card", MODEL).stdout.replace("TODO: ", ""))
    result = call("pack", NETWORK, "--card", card, "--out", tmp_path)
    assert "my_model@1.0.0 packed" in result.stdout
    assert f"firstread models add {tmp_path / 'my_model' / '1.0.0'}" in result.stdout
    again = call("pack", NETWORK, "--card", card, "--out", tmp_path)
    assert again.exit_code == 1
    assert "needs a new version" in again.stderr


def test_what_is_wrong_is_said_in_words(tmp_path: Path) -> None:
    assert call("card", "nothing").exit_code == 2
    card = tmp_path / "card.json"
    card.write_text(json.dumps(json.loads(call("card", MODEL).stdout.replace("TODO: ", "")) | {"output": "binary"}))
    result = call("pack", NETWORK, "--card", card, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert f"{card}: card: a binary network has two labels" in result.stderr
    with zipfile.ZipFile(tmp_path / "evil.keras", "w") as archive:
        archive.writestr("code.py", "import os")
    result = call("pack", tmp_path / "evil.keras", "--card", card, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "evil.keras" in result.stderr or "card" in result.stderr
    assert not (tmp_path / "out").exists()
