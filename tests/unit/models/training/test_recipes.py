"""Every recipe is whole: its network fits its labels and its card, can be saved, and comes back the same."""

from pathlib import Path

import numpy as np
import pytest

from models.archive import check_archive
from models.backend import keras_arrays, load_backend
from models.card import NAME, Label, TriageStep
from models.errors import RecipeError
from models.golden import golden_image
from models.preprocessing import prepare
from models.training.recipes import TRAINING_RECIPES, TrainingRecipe, find_recipe

RECIPES = pytest.mark.parametrize("recipe", TRAINING_RECIPES.values(), ids=lambda recipe: recipe.name)

SMALL_SIDE = {"covid_cxr_vgg16": 128, "tuberculosis_cnn": 32, "tuberculosis_vgg16": 32}
"""The smallest round size that a network takes; others take 64."""

BACKBONES = {"chest_xray_triage", "chest_xray_squeezenet", "chest_ct_covid", "covid_cxr_vgg16", "tuberculosis_vgg16"}

ARTICLES = {
    "covid_ct_mlp": ("unit_columns", (100, 100, 1), "softmax", ("non-covid", "covid")),
    "covid_cxr_vgg16": ("unit_range", (237, 237, 3), "binary", ("normal", "covid")),
    "covid_pneumonia_mlp": ("unit_range", (100, 100, 1), "softmax", ("covid", "normal", "pneumonia")),
    "tuberculosis_cnn": ("unit_range", (256, 256, 1), "sigmoid", ("normal", "tuberculosis")),
    "tuberculosis_vgg16": ("vgg16_imagenet", (256, 256, 3), "binary", ("normal", "tuberculosis")),
    "pneumonia_small_vgg": ("unit_range", (300, 300, 1), "binary", ("normal", "pneumonia")),
}

HYPER_PARAMETERS = {
    "covid_ct_mlp": ("adam", 1e-3, 0.0, 25, 512, "none", "none"),
    "covid_cxr_vgg16": ("adam", 1e-3, 0.0, 50, 8, "none", "none"),
    "covid_pneumonia_mlp": ("sgd", 1e-2, 0.8, 50, 50, "oversample", "none"),
    "tuberculosis_cnn": ("adam", 1e-3, 0.0, 30, 32, "none", "none"),
    "tuberculosis_vgg16": ("adam", 1e-3, 0.0, 15, 32, "none", "none"),
    "pneumonia_small_vgg": ("adam", 1e-4, 0.0, 60, 32, "none", "article"),
}
"""Optimizer, learning rate, momentum, epochs, batch, balance, augmentation."""

CODES = {"pneumonia": "233604007", "covid": "840539006", "tuberculosis": "56717001"}


@pytest.mark.parametrize("name", ARTICLES)
def test_an_articles_recipe_is_as_published(name: str) -> None:
    recipe = find_recipe(name)
    shape = (recipe.input.rows, recipe.input.columns, recipe.input.channels)
    assert (recipe.preprocessing, shape, recipe.output, recipe.label_names) == ARTICLES[name]
    of = recipe.hyper_parameters
    found = (of.optimizer, of.learning_rate, of.momentum, of.epochs, of.batch_size, of.balance, of.augmentation)
    assert found == HYPER_PARAMETERS[name]
    plain = (of.schedule, of.warmup_epochs, of.label_smoothing, of.mixup, of.average_decay, of.clip_norm)
    assert plain == ("constant", 0, 0, 0, 0, 0)
    assert recipe.published
    assert recipe.default_for == ()


def test_the_projects_own_are_the_only_ones_chosen_by_themselves() -> None:
    chosen = {name: recipe.default_for for name, recipe in TRAINING_RECIPES.items() if recipe.default_for}
    assert chosen == {"chest_xray_triage": ("CR", "DX", "RG"), "chest_ct_covid": ("CT",)}
    assert set(TRAINING_RECIPES) == {*ARTICLES, *chosen, "chest_xray_squeezenet"}


@RECIPES
def test_its_labels_can_stand_on_a_card(recipe: TrainingRecipe) -> None:
    assert NAME.fullmatch(recipe.name)
    for plan in recipe.labels:
        assert plan.finding == (plan.name not in {"normal", "non-covid"}) == (plan.at_threshold is not None)
        if plan.code is not None and plan.at_threshold is not None:
            assert (plan.code.scheme, plan.code.value) == ("SCT", CODES[plan.name])
            steps = [TriageStep(at_least=recipe.highest_threshold, priority=plan.at_threshold)]
            steps += [TriageStep(at_least=at, priority=priority) for at, priority in plan.later_steps]
            threshold = recipe.highest_threshold
            Label(name=plan.name, code=plan.code, finding=True, threshold=threshold, triage=tuple(steps))
    if recipe.output == "binary":
        assert [plan.finding for plan in recipe.labels] == [False, True]
        assert recipe.units == 1
    else:
        assert recipe.units == len(recipe.labels)


@RECIPES
def test_a_slice_is_shown_in_a_window_and_a_stack_is_more_than_its_highest_slice(recipe: TrainingRecipe) -> None:
    slices = "covid" in recipe.label_names and "non-covid" in recipe.label_names
    assert (recipe.window is not None) == slices
    assert recipe.rollup == ("top_tenth" if slices else "max")
    assert recipe.frame_policy == ("middle" if slices else "first")


@RECIPES
def test_its_network_takes_its_preprocessing_is_plain_and_comes_back_from_its_archive(
    recipe: TrainingRecipe, tmp_path: Path
) -> None:
    keras, _ = load_backend()
    side = SMALL_SIDE.get(recipe.name, 64)
    channels = recipe.input.channels
    model = recipe.build(side, side, channels, recipe.units, None)
    image = prepare(recipe.preprocessing, golden_image().astype(np.float32), side, side, channels)[np.newaxis]
    found = model(image, training=False).numpy()
    assert found.shape == (1, recipe.units)
    assert ((found >= 0) & (found <= 1)).all()
    if recipe.output == "softmax":
        assert found.sum() == pytest.approx(1, abs=1e-5)
    path = tmp_path / "model.keras"
    with keras_arrays():
        model.save(path)
    check_archive(path)
    kept = keras.models.load_model(path, compile=False, safe_mode=True)
    assert np.array_equal(kept(image, training=False).numpy(), found)


@pytest.mark.parametrize("name", ["covid_cxr_vgg16", "tuberculosis_vgg16"])
def test_what_a_frozen_backbone_gives_can_be_computed_once_and_its_head_trained_alone(name: str) -> None:
    keras, _ = load_backend()
    recipe = find_recipe(name)
    side = SMALL_SIDE[name]
    model = recipe.build(side, side, 3, recipe.units, None)
    assert recipe.head_from is not None
    between = model.get_layer(recipe.head_from).output
    body, head = keras.Model(model.input, between), keras.Model(between, model.output)
    image = np.random.default_rng(1).random((2, side, side, 3), np.float32)
    assert head(body(image, training=False), training=False).numpy() == pytest.approx(
        model(image, training=False).numpy(), abs=1e-6
    )
    assert body.trainable_weights == []
    assert {weight.path for weight in head.trainable_weights} == {weight.path for weight in model.trainable_weights}


@RECIPES
def test_weights_for_a_backbone_are_taken_or_refused_in_words_never_ignored(
    recipe: TrainingRecipe, tmp_path: Path
) -> None:
    side = SMALL_SIDE.get(recipe.name, 64)
    words = "no such file" if recipe.name in BACKBONES else f"{recipe.name} has no backbone"
    with pytest.raises(RecipeError, match=words):
        recipe.build(side, side, recipe.input.channels, recipe.units, tmp_path / "weights.h5")
    assert (recipe.default_backbone == "imagenet") == (recipe.head_from is not None)


def test_an_unknown_recipe_names_the_known() -> None:
    with pytest.raises(RecipeError, match="covid_ct_mlp"):
        find_recipe("no_such")
