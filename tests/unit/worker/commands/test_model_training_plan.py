"""What a card says of the weights that a run began with."""

import hashlib
from pathlib import Path

import pytest

from tests.support.model_commands import call
from tests.support.training_process import RECIPE
from worker.commands.model_training_plan import Asked


def asked(backbone: str | None) -> Asked:
    return Asked(RECIPE, {}, None, backbone, ())


def test_a_file_of_weights_is_told_by_name_and_content(tmp_path: Path) -> None:
    path = tmp_path / "backbone.pth"
    path.write_bytes(b"weights of somebody")
    digest = hashlib.sha256(b"weights of somebody").hexdigest()
    assert asked(str(path)).origin == f"the file backbone.pth, SHA-256 {digest}"


def test_other_weights_are_told_in_words() -> None:
    assert asked("imagenet").origin == "ImageNet, by way of Keras"
    assert asked("none").origin == "random"


@pytest.mark.parametrize("said", ["a file of the recipe's backbone", "not of the split"])
def test_the_help_says_what_options_take(said: str) -> None:
    page = call("train", "--help").stdout
    assert said in " ".join(page.replace("│", " ").split())
