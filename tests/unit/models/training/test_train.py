"""A run learns, can be repeated, keeps its best epoch, and does what each hyper-parameter says."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.backend import load_backend
from models.errors import DataError, ImageError, RecipeError
from models.preprocessing import FloatArray, load_picture
from models.training.checkpoint import Checkpoints
from models.training.dataset import Dataset
from models.training.feed import prepared_films
from models.training.history import Epoch, Preparation, Step, best_of, is_over
from models.training.objective import balanced_loss, raw_probabilities
from models.training.recipes import TrainingRecipe
from models.training.train import Fit, StoppedError, train

Films = Callable[[], Dataset]


def run(recipe: TrainingRecipe, dataset: Dataset, folder: Path, **changes: Any) -> Fit:
    values: dict[str, Any] = {
        "hyper_parameters": recipe.hyper_parameters,
        "seed": 1,
        "backbone_weights": None,
        "checkpoints": Checkpoints(folder),
    }
    return train(recipe, dataset, **(values | changes))


def val_probabilities(recipe: TrainingRecipe, dataset: Dataset, fit: Fit) -> FloatArray:
    inputs = prepared_films(recipe, dataset.split("val"), load_picture, 2)
    return raw_probabilities(fit.network(), inputs, recipe.output)


def test_it_learns_and_keeps_the_best_epoch(tiny_recipe: TrainingRecipe, films: Films, tmp_path: Path) -> None:
    dataset, seen = films(), list[Preparation | Step | Epoch]()
    fit = run(tiny_recipe, dataset, tmp_path / "run", watch=seen.append)
    assert fit.history[-1].train_loss < fit.history[0].train_loss
    assert fit.history[-1].train_accuracy > 0.9
    best = best_of(fit.history)
    assert best is not None
    assert fit.best_epoch == best.number
    found = val_probabilities(tiny_recipe, dataset, fit)
    loss, accuracy = balanced_loss(
        found, np.asarray(dataset.targets(dataset.split("val"))), np.ones(2, np.float32), "softmax"
    )
    assert (loss, accuracy) == (pytest.approx(best.val_loss, abs=1e-4), best.val_accuracy)
    assert [event.number for event in seen if isinstance(event, Epoch)] == [epoch.number for epoch in fit.history]
    assert sum(isinstance(event, Step) for event in seen) == 3 * len(fit.history)
    assert [event.done for event in seen if isinstance(event, Preparation)] == list(range(1, 13))


def test_the_same_seed_gives_the_same_run(tiny_recipe: TrainingRecipe, films: Films, tmp_path: Path) -> None:
    short = replace(tiny_recipe.hyper_parameters, epochs=1)

    def losses(name: str, seed: int) -> tuple[float, float]:
        fit = run(tiny_recipe, films(), tmp_path / name, hyper_parameters=short, seed=seed)
        return fit.history[0].train_loss, fit.history[0].val_loss

    one = losses("one", 4)
    assert one == pytest.approx(losses("again", 4), rel=1e-4)
    assert one != pytest.approx(losses("other", 5), rel=1e-4)


def test_it_stops_when_nothing_gets_better(tiny_recipe: TrainingRecipe, films: Films, tmp_path: Path) -> None:
    still = replace(
        tiny_recipe.hyper_parameters, learning_rate=0.0, weight_decay=0.0, average_decay=0.0, epochs=5, patience=2
    )
    fit = run(tiny_recipe, films(), tmp_path, hyper_parameters=still)
    assert (len(fit.history), fit.best_epoch) == (3, 1)


def test_a_loss_that_is_no_number_is_never_the_best(tiny_recipe: TrainingRecipe) -> None:
    nan, good = (Epoch(n, 1, 1, loss, 1, 1, 1) for n, loss in ((1, float("nan")), (2, 0.5)))
    assert best_of([nan]) is None
    assert best_of([nan, good]) == good
    assert is_over([nan] * tiny_recipe.hyper_parameters.patience, tiny_recipe.hyper_parameters)


def test_a_run_that_never_had_a_number_says_so(tiny_recipe: TrainingRecipe, films: Films, tmp_path: Path) -> None:
    wild = replace(
        tiny_recipe.hyper_parameters, epochs=1, optimizer="sgd", learning_rate=1e38, clip_norm=0.0, schedule="constant"
    )
    with pytest.raises(DataError, match="was never a number in 1 epochs; a lower learning rate may help"):
        run(tiny_recipe, films(), tmp_path, hyper_parameters=wild)


@pytest.mark.parametrize("output", ["binary", "sigmoid"])
def test_sigmoid_units_learn_too(output: Any, tiny_recipe: TrainingRecipe, films: Films, tmp_path: Path) -> None:
    def build(rows: int, columns: int, channels: int, units: int, _weights: Any) -> Any:
        keras, _ = load_backend()
        image = keras.Input((rows, columns, channels))
        x = keras.layers.Conv2D(8, 5, strides=2, activation="relu", kernel_initializer="he_normal")(image)
        x = keras.layers.GlobalMaxPooling2D()(x)
        return keras.Model(image, keras.layers.Dense(units, activation="sigmoid")(x))

    recipe = replace(tiny_recipe, output=output, build=build)
    fit = run(recipe, films(), tmp_path)
    assert fit.network().output_shape == (None, 1 if output == "binary" else 2)
    found = val_probabilities(recipe, films(), fit)
    targets = np.asarray(films().targets(films().split("val")))
    assert found.shape == (12, 2)
    assert (found.argmax(axis=1) == targets).mean() > 0.9
    if output == "binary":
        assert found.sum(axis=1) == pytest.approx(np.ones(12))
    assert fit.history[-1].train_accuracy > 0.8


def test_weight_penalties_are_minimised_and_not_validated(
    tiny_recipe: TrainingRecipe, films: Films, tmp_path: Path
) -> None:
    def build(penalty: float) -> Any:
        def built(rows: int, columns: int, channels: int, units: int, _weights: Any) -> Any:
            keras, _ = load_backend()
            image = keras.Input((rows, columns, channels))
            x = keras.layers.Flatten()(image)
            dense = keras.layers.Dense(units, activation="softmax", kernel_regularizer=keras.regularizers.L2(penalty))
            return keras.Model(image, dense(x))

        return built

    still = replace(tiny_recipe.hyper_parameters, learning_rate=0.0, epochs=1)
    none, some = (
        run(replace(tiny_recipe, build=build(penalty)), films(), tmp_path / str(penalty), hyper_parameters=still)
        for penalty in (0.0, 0.5)
    )
    weights = some.network().get_weights()[0]
    extra = some.history[0].train_loss - none.history[0].train_loss
    assert extra == pytest.approx(0.5 * (weights**2).sum(), rel=1e-3)
    assert some.history[0].val_loss == pytest.approx(none.history[0].val_loss, rel=1e-4)


def test_a_head_learns_on_a_backbone_that_stays(tiny_recipe: TrainingRecipe, films: Films, tmp_path: Path) -> None:
    built = []

    def build(rows: int, columns: int, channels: int, units: int, _weights: Any) -> Any:
        keras, _ = load_backend()
        image = keras.Input((rows, columns, channels))
        x = keras.layers.Conv2D(8, 5, strides=2, activation="relu", name="backbone")(image)
        x = keras.layers.GlobalMaxPooling2D(name="features")(x)
        x = keras.layers.Dropout(0.1)(keras.layers.Dense(16, activation="relu")(x))
        model = keras.Model(image, keras.layers.Dense(units, activation="softmax", name="head")(x))
        built.append([weight.copy() for weight in model.get_layer("backbone").get_weights()])
        return model

    read: list[Path] = []

    def reader(path: Path) -> FloatArray:
        read.append(path)
        return load_picture(path)

    recipe = replace(tiny_recipe, build=build, head_from="features")
    plain = replace(recipe.hyper_parameters, augmentation="none")
    seen = list[Preparation | Step | Epoch]()
    fit = run(recipe, films(), tmp_path, hyper_parameters=plain, read=reader, watch=seen.append)
    network = fit.network()
    for before, after in zip(built[0], network.get_layer("backbone").get_weights(), strict=True):
        assert np.array_equal(before, after)
    assert fit.history[-1].val_loss < fit.history[0].val_loss
    assert sorted(read) == sorted(film.path for film in films().films if film.split != "test")  # once
    assert {event.what for event in seen if isinstance(event, Preparation)} == {
        "features of training films",
        "features of validation films",
    }
    found = val_probabilities(recipe, films(), fit)
    targets = np.asarray(films().targets(films().split("val")))
    loss, _ = balanced_loss(found, targets, np.ones(2, np.float32), "softmax")
    assert loss == pytest.approx(min(epoch.val_loss for epoch in fit.history), abs=1e-4)
    with pytest.raises(RecipeError, match="there is no augmentation=triage: say none"):
        run(recipe, films(), tmp_path / "augmented")
    with pytest.raises(RecipeError, match="'nowhere'"):
        run(replace(recipe, head_from="nowhere"), films(), tmp_path / "nowhere", hyper_parameters=plain)


def test_every_optimizer_schedule_and_average_can_be_had(
    tiny_recipe: TrainingRecipe, films: Films, tmp_path: Path
) -> None:
    rates = {}
    for optimizer, schedule, decay, warmup in (
        ("sgd", "constant", 0.0, 0.0),
        ("adam", "constant", 0.5, 1.0),
        ("adamw", "cosine", 0.9, 0.0),
    ):
        changed = replace(
            tiny_recipe.hyper_parameters,
            epochs=2,
            optimizer=optimizer,
            momentum=0.8 if optimizer == "sgd" else 0.0,
            schedule=schedule,
            average_decay=decay,
            warmup_epochs=warmup,
            clip_norm=0.0,
            mixup=0.2,
            label_smoothing=0.1,
            balance="oversample",
            augmentation="article",
        )
        fit = run(tiny_recipe, films(), tmp_path / optimizer, hyper_parameters=changed)
        rates[optimizer] = [epoch.learning_rate for epoch in fit.history]
        assert np.isfinite(fit.history[-1].val_loss)
    assert rates["sgd"] == pytest.approx([0.02, 0.02])
    assert rates["adam"] == pytest.approx([0.02, 0.02])
    assert rates["adamw"] == pytest.approx([0.02 * 0.51, 0.02 / 50])


def test_an_unreadable_film_is_named(tiny_recipe: TrainingRecipe, films: Films, tmp_path: Path) -> None:
    def read(path: Path) -> FloatArray:
        if path.name == "train_3.png":
            raise ImageError("torn")
        return load_picture(path)

    with pytest.raises(DataError, match=r"train_3\.png: torn"):
        run(tiny_recipe, films(), tmp_path, read=read)


def test_the_validation_loss_weighs_classes_the_same() -> None:
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.8, 0.2]], np.float32)
    targets, weights = np.array([0, 0, 1]), np.array([0.75, 1.5], np.float32)
    for output in ("softmax", "binary", "sigmoid"):  # of two labels that add up to 1, all say the same
        loss, accuracy = balanced_loss(probabilities, targets, weights, output)
        assert loss == pytest.approx((-np.log(0.9) - np.log(0.2)) / 2, rel=1e-5)
        assert accuracy == pytest.approx(2 / 3)
    apart, _ = balanced_loss(np.array([[0.9, 0.5]], np.float32), np.array([0]), weights, "sigmoid")
    assert apart == pytest.approx((-np.log(0.9) - np.log(0.5)) / 2, rel=1e-5)


def test_layers_that_were_kept_are_kept_where_a_run_goes_on(
    tiny_recipe: TrainingRecipe, films: Films, tmp_path: Path
) -> None:
    def build(rows: int, columns: int, channels: int, units: int, weights: Any) -> Any:
        keras, _ = load_backend()
        image = keras.Input((rows, columns, channels))
        first = keras.layers.Conv2D(8, 5, strides=2, activation="relu", name="first", trainable=weights is None)
        x = keras.layers.GlobalMaxPooling2D()(first(image))
        return keras.Model(image, keras.layers.Dense(units, activation="softmax")(x))

    recipe, dataset = replace(tiny_recipe, build=build), films()
    straight = run(recipe, dataset, tmp_path / "straight", backbone_weights=Path("published"))
    steps = list[Step]()
    watch = {"watch": lambda event: steps.append(event) if isinstance(event, Step) else None}
    with pytest.raises(StoppedError):
        run(
            recipe,
            dataset,
            tmp_path / "broken",
            backbone_weights=Path("published"),
            stop=lambda: len(steps) > 5,
            **watch,
        )
    again = run(recipe, dataset, tmp_path / "broken", backbone_weights=None)
    assert [epoch.val_loss for epoch in again.history] == pytest.approx(
        [epoch.val_loss for epoch in straight.history], abs=1e-4
    )
