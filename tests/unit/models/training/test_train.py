"""A run learns, can be repeated, keeps its best epoch, and ends as a package that stands up to its own check."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.classifier import Classifier
from models.errors import DataError, ImageError
from models.preprocessing import FloatArray, load_picture
from models.training import pack as packing
from models.training.dataset import Dataset
from models.training.pack import finish_package, git_commit, new_package_folder, pack
from models.training.recipes import TrainingRecipe
from models.training.train import Epoch, Fit, Step, balanced_loss, train

Films = Callable[[], Dataset]


def run(recipe: TrainingRecipe, dataset: Dataset, checkpoint: Path, **changes: Any) -> Fit:
    values: dict[str, Any] = {
        "hyper_parameters": recipe.hyper_parameters,
        "seed": 1,
        "backbone_weights": None,
        "checkpoint": checkpoint,
    }
    return train(recipe, dataset, **(values | changes))


def test_it_learns_and_ends_as_a_package(tiny_recipe: TrainingRecipe, films: Films, tmp_path: Path) -> None:
    dataset, seen = films(), list[Step | Epoch]()
    folder = new_package_folder(tmp_path / "models", tiny_recipe.name, "1.2.3")
    assert not (tmp_path / "models" / tiny_recipe.name).exists()
    fit = run(tiny_recipe, dataset, folder / "model.keras", watch=seen.append)
    assert fit.history[-1].train_loss < fit.history[0].train_loss
    assert fit.best_epoch == min(fit.history, key=lambda epoch: epoch.val_loss).number
    assert [event.number for event in seen if isinstance(event, Epoch)] == [epoch.number for epoch in fit.history]
    assert sum(isinstance(event, Step) for event in seen) == 3 * len(fit.history)

    pack(
        tiny_recipe,
        dataset,
        fit,
        folder,
        hyper_parameters=tiny_recipe.hyper_parameters,
        seed=1,
        initial_weights="random",
        commit="c0ffee",
        limitations=("Labels were read by one person.",),
        rounds=20,
    )
    package = finish_package(folder)
    assert package.path == tmp_path / "models" / "tiny_triage" / "1.2.3"
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["tiny_triage"]
    assert Classifier.load(package).warm_up().difference < 1e-5
    card = package.card
    assert card.training is not None
    assert card.metrics is not None
    assert card.limitations[: len(tiny_recipe.limitations)] == tiny_recipe.limitations
    assert "trained on 24 films (normal 12, pneumonia 12)" in " ".join(card.limitations)
    assert card.limitations[-1] == "Labels were read by one person."
    assert "tuberculosis" not in " ".join(card.limitations)
    assert (card.training.git_commit, card.training.best_epoch) == ("c0ffee", fit.best_epoch)
    assert {source.name: source.images for source in card.training.sources}["near"]["train normal"] == 6
    assert card.metrics.accuracy.value == 1.0
    assert set(card.metrics.by_source) == {"near", "far"}
    threshold = card.labels[1].threshold
    assert threshold is not None
    assert 0 < threshold <= 0.5
    assert json.loads((package.path / "evaluation" / "test.json").read_text())["images"] == 12
    with pytest.raises(DataError, match="is there already"):
        new_package_folder(tmp_path / "models", tiny_recipe.name, "1.2.3")


def test_the_same_seed_gives_the_same_run(tiny_recipe: TrainingRecipe, films: Films, tmp_path: Path) -> None:
    short = replace(tiny_recipe.hyper_parameters, epochs=1)

    def losses(seed: int) -> tuple[float, float]:
        fit = run(tiny_recipe, films(), tmp_path / "model.keras", hyper_parameters=short, seed=seed)
        return fit.history[0].train_loss, fit.history[0].val_loss

    assert losses(4) == pytest.approx(losses(4), rel=1e-4)
    assert losses(4) != pytest.approx(losses(5), rel=1e-4)


def test_it_stops_when_nothing_gets_better(tiny_recipe: TrainingRecipe, films: Films, tmp_path: Path) -> None:
    still = replace(
        tiny_recipe.hyper_parameters, learning_rate=0.0, weight_decay=0.0, average_decay=0.0, epochs=5, patience=2
    )
    fit = run(tiny_recipe, films(), tmp_path / "model.keras", hyper_parameters=still)
    assert (len(fit.history), fit.best_epoch) == (3, 1)


def test_an_unreadable_film_is_named(tiny_recipe: TrainingRecipe, films: Films, tmp_path: Path) -> None:
    def read(path: Path) -> FloatArray:
        if path.name == "train_3.png":
            raise ImageError("torn")
        return load_picture(path)

    with pytest.raises(DataError, match=r"train_3\.png: torn"):
        run(tiny_recipe, films(), tmp_path / "model.keras", read=read)


def test_the_validation_loss_weighs_classes_the_same() -> None:
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.8, 0.2]], np.float32)
    targets = np.array([0, 0, 1])
    loss, accuracy = balanced_loss(probabilities, targets, {0: 0.75, 1: 1.5}, "softmax")
    assert loss == pytest.approx((-np.log(0.9) - np.log(0.2)) / 2, rel=1e-5)
    assert accuracy == pytest.approx(2 / 3)
    both, _ = balanced_loss(probabilities, targets, {0: 0.75, 1: 1.5}, "sigmoid")
    assert both == pytest.approx((-2 * np.log(0.9) - 2 * np.log(0.2)) / 2, rel=1e-5)


def test_a_version_is_three_numbers(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"MAJOR\.MINOR\.PATCH"):
        new_package_folder(tmp_path, "tiny", "../1")


def test_without_git_there_is_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert git_commit() is None


def test_changed_code_is_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {"rev-parse": "abc", "status": " M models/card.py"}
    monkeypatch.setattr(packing, "_git", lambda _root, *arguments: answers[arguments[0]])
    assert git_commit() == "abc-dirty"
