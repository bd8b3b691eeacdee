"""A finished run becomes a package that stands up to its own check, and says where it comes from."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.backend import load_backend
from models.classifier import Classifier
from models.preprocessing import load_picture
from models.registry import Package, read_package
from models.training.checkpoint import Checkpoints
from models.training.dataset import Dataset
from models.training.evaluate import score
from models.training.pack import pack
from models.training.provenance import Provenance
from models.training.recipes import LabelPlan, TrainingRecipe
from models.training.train import train

Films = Callable[[], Dataset]

BEGUN = Provenance("random", "c0ffee", {"keras": "3"}, ("Labels were read by one person.",))


def packed(recipe: TrainingRecipe, dataset: Dataset, folder: Path) -> Package:
    hyper_parameters = replace(recipe.hyper_parameters, epochs=3)
    fit = train(
        recipe,
        dataset,
        hyper_parameters=hyper_parameters,
        seed=1,
        backbone_weights=None,
        checkpoints=Checkpoints(folder / "run"),
    )
    package = folder / recipe.name / "1.2.3"
    package.mkdir(parents=True)
    for _ in range(2):  # an attempt that broke off is made anew
        pack(
            recipe,
            dataset,
            fit,
            package,
            hyper_parameters=hyper_parameters,
            seed=1,
            provenance=BEGUN,
            rounds=20,
        )
    return read_package(package)


def test_the_package_holds_its_figures_and_where_it_comes_from(
    tiny_recipe: TrainingRecipe, films: Films, tmp_path: Path
) -> None:
    package = packed(tiny_recipe, films(), tmp_path)
    assert Classifier.load(package).warm_up().difference < 1e-5
    card = package.card
    assert card.training is not None
    assert card.metrics is not None
    assert card.limitations[: len(tiny_recipe.limitations)] == tiny_recipe.limitations
    assert "trained on 24 films (normal 12, pneumonia 12)" in " ".join(card.limitations)
    assert card.limitations[-1] == "Labels were read by one person."
    assert "tuberculosis" not in " ".join(card.limitations)
    assert (card.training.git_commit, card.training.libraries) == ("c0ffee", {"keras": "3"})
    assert (card.training.initial_weights, card.training.seed) == ("random", 1)
    assert card.training.hyper_parameters["optimizer"] == "adamw"
    assert card.training.hyper_parameters["epochs"] == card.training.epochs_run == 3
    assert {source.name: source.images for source in card.training.sources}["near"]["train normal"] == 6
    assert card.metrics.accuracy.value == 1.0
    assert set(card.metrics.by_source) == {"near", "far"}
    threshold = card.labels[1].threshold
    assert threshold is not None
    assert 0 < threshold <= 0.5
    evaluation = package.path / "evaluation"
    assert json.loads((evaluation / "test.json").read_text())["images"] == 12
    history = json.loads((evaluation / "training.json").read_text())
    assert history["best_epoch"] == card.training.best_epoch
    shown = [film for film in films().films if film.split != "test"]
    digests = sorted({hashlib.sha256(film.path.read_bytes()).hexdigest() for film in shown})
    assert json.loads((evaluation / "training_films.json").read_text()) == {"sha256": digests}
    assert history["seconds"] == card.training.seconds > 0
    assert 50e6 < history["peak_memory_bytes"] < 100e9
    assert [epoch["number"] for epoch in history["epochs"]] == [1, 2, 3]
    assert {"train_loss", "val_loss", "train_accuracy", "val_accuracy", "learning_rate", "seconds"} < set(
        history["epochs"][0]
    )


def test_a_network_of_one_unit_is_packed_as_binary(tiny_recipe: TrainingRecipe, films: Films, tmp_path: Path) -> None:
    def build(rows: int, columns: int, channels: int, units: int, _weights: Any) -> Any:
        keras, _ = load_backend()
        image = keras.Input((rows, columns, channels))
        x = keras.layers.Conv2D(8, 5, strides=2, activation="relu", kernel_initializer="he_normal")(image)
        x = keras.layers.GlobalMaxPooling2D()(x)
        return keras.Model(image, keras.layers.Dense(units, activation="sigmoid")(x))

    recipe = replace(tiny_recipe, output="binary", build=build)
    package = packed(recipe, films(), tmp_path)
    assert (package.card.output, package.card.units) == ("binary", 1)
    classifier = Classifier.load(package)
    assert classifier.warm_up().difference < 1e-5
    scored = score(classifier, films(), "val", read=load_picture)
    assert scored.probabilities.sum(axis=1) == pytest.approx(np.ones(12), abs=1e-5)
    hits = scored.probabilities[scored.targets == 1, 1]
    assert (hits >= package.card.labels[1].threshold).mean() >= recipe.sensitivity


def test_the_triage_rule_is_the_recipes(tiny_recipe: TrainingRecipe, films: Films, tmp_path: Path) -> None:
    normal, pneumonia = tiny_recipe.labels
    pressing = LabelPlan(pneumonia.name, pneumonia.code, "routine", ((0.9, "immediate"),))
    stack = replace(tiny_recipe, rollup="top_tenth", labels=(normal, pressing))
    films_rule = packed(tiny_recipe, films(), tmp_path / "films").card.triage_rule
    card = packed(stack, films(), tmp_path / "slices").card
    assert "a series has the highest probability of its images" in films_rule
    assert films_rule.endswith("no finding here needs a reader within minutes.")
    assert "the mean of the highest tenth of its slices' probabilities" in card.triage_rule
    assert "immediate" not in card.triage_rule
    assert card.rollup == "top_tenth"
