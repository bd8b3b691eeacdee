"""A map is high where the network looks and low elsewhere, whatever the network is made of and however sure it is."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from models.backend import keras_arrays, load_backend
from models.card import Card
from models.classifier import Classifier
from models.engines.keras import KerasEngine
from models.errors import ImageError, ModelError
from models.explain import Explainer, Method, on_image
from models.preprocessing import FloatArray
from models.registry import Package
from models.template import card_template
from models.training.recipes import TRAINING_RECIPES
from tests.unit.models.conftest import card_values

CORNER = (slice(0, 12), slice(20, 32))
"""Of 32 x 32, the only place that the networks of these tests look at."""

LABELS = ["normal", "pneumonia"]


def classifier_of(network: Any, tmp_path: Any, **changes: Any) -> Classifier:
    return Classifier(Package(tmp_path, Card.model_validate(card_values(**changes))), KerasEngine(network))


def functional(build: Callable[[Any, Any], Any]) -> Any:
    keras, _ = load_backend()
    keras.utils.set_random_seed(4)
    image = keras.Input((32, 32, 1))
    return keras.Model(image, build(keras.layers, image))


def cornered(layers: Any, image: Any) -> Any:
    """All but the corner is divided by a million."""
    variance = np.full((32, 32), 1e12)
    variance[CORNER] = 1
    return layers.Normalization(axis=(1, 2), mean=np.zeros((32, 32)), variance=variance)(image)


def features(layers: Any, x: Any) -> Any:
    return layers.Conv2D(4, 3, padding="same", activation="relu", kernel_initializer="ones", use_bias=False)(x)


def last(layers: Any, gain: float = 1.0, **options: Any) -> Any:
    """Say pneumonia the more, the brighter."""
    keras, _ = load_backend()
    weights = keras.initializers.Constant(np.tile([[-gain, gain]], (4, 1)))
    return layers.Dense(2, kernel_initializer=weights, **{"activation": "softmax"} | options)


def convolutional(layers: Any, image: Any, gain: float = 1.0) -> Any:
    x = layers.MaxPooling2D(2)(features(layers, cornered(layers, image)))
    return last(layers, gain)(layers.GlobalAveragePooling2D()(layers.Dropout(0.5)(x)))


def perceptron(layers: Any, image: Any) -> Any:
    flat = layers.Flatten()(cornered(layers, image))
    return last(layers)(layers.Dense(4, activation="relu", kernel_initializer="ones")(flat))


def inputs(count: int, seed: int = 1) -> FloatArray:
    """Noise with something bright in all four corners, so that what is in an image is not what tells them apart."""
    images = np.random.default_rng(seed).uniform(0.2, 0.4, (count, 32, 32, 1)).astype(np.float32)
    for rows in (slice(2, 10), slice(22, 30)):
        images[:, rows, 2:10] += 0.6
        images[:, rows, 22:30] += 0.6
    return images


def points_at_the_corner(heat: FloatArray) -> bool:
    far = np.ones(heat.shape, bool)
    far[:16, 16:] = False
    return bool(heat[3:9, 23:29].mean() > 0.6 and heat[far].max() < 0.1)


@pytest.mark.parametrize(
    ("build", "method"),
    [(convolutional, "grad-cam"), (convolutional, "occlusion"), (perceptron, "occlusion")],
)
def test_the_map_is_high_where_the_network_looks_and_low_elsewhere(build: Any, method: Method, tmp_path: Any) -> None:
    explainer = Explainer(classifier_of(functional(build), tmp_path), method)
    maps = explainer.maps(inputs(3), ["pneumonia"] * 3)
    assert (maps.shape, maps.dtype) == ((3, 32, 32), np.float32)
    assert maps.min() >= 0
    assert maps.max(axis=(1, 2)).tolist() == [1, 1, 1]
    assert all(points_at_the_corner(heat) for heat in maps)
    assert explainer.maps(inputs(1), ["normal"])[0, 3:9, 23:29].max() < 0.1  # what is bright speaks against it


def test_convolutions_get_grad_cam_and_everything_else_occlusion(tmp_path: Any) -> None:
    seen = Explainer(classifier_of(functional(convolutional), tmp_path))
    assert seen.method == "grad-cam"
    assert seen.layer is not None
    assert seen.layer.startswith("conv2d")
    blind = classifier_of(functional(perceptron), tmp_path)
    assert (Explainer(blind).method, Explainer(blind).layer) == ("occlusion", None)
    with pytest.raises(ModelError, match="ask for an occlusion map"):
        Explainer(blind, "grad-cam")


def test_maps_that_no_longer_lie_over_the_image_are_not_read(tmp_path: Any) -> None:
    def cropped(layers: Any, image: Any) -> Any:
        x = layers.Cropping2D(((0, 20), (20, 0)))(image)
        return last(layers)(layers.GlobalAveragePooling2D()(features(layers, x)))

    explainer = Explainer(classifier_of(functional(cropped), tmp_path))
    assert explainer.method == "occlusion"
    assert points_at_the_corner(explainer.maps(inputs(1), ["pneumonia"])[0])


@pytest.mark.parametrize("method", ["grad-cam", "occlusion"])
def test_an_input_of_one_grey_points_at_nothing(method: Method, tmp_path: Any) -> None:
    def biased(layers: Any, image: Any) -> Any:
        x = layers.Conv2D(4, 3, activation="relu", bias_initializer="ones")(image)
        return last(layers)(layers.GlobalAveragePooling2D()(x))

    explainer = Explainer(classifier_of(functional(biased), tmp_path), method)
    for grey in (0, 0.7):
        maps = explainer.maps(np.full((2, 32, 32, 1), grey, np.float32), ["pneumonia", "normal"])
        assert not maps.any()


@pytest.mark.parametrize("method", ["grad-cam", "occlusion"])
def test_a_film_of_one_grey_points_at_nothing_though_its_channels_differ(method: Method, tmp_path: Any) -> None:
    keras, _ = load_backend()
    image = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(4, 3, padding="same", activation="relu", bias_initializer="ones")(image)
    network = keras.Model(image, last(keras.layers)(keras.layers.GlobalAveragePooling2D()(x)))
    of_colours = {"input": {"rows": 32, "columns": 32, "channels": 3}, "recipe": "vgg16_imagenet"}
    classifier = classifier_of(network, tmp_path, **of_colours)
    grey = classifier.prepare(np.full((40, 40), 90, np.float32))[np.newaxis]
    assert np.ptp(grey) > 0
    assert not Explainer(classifier, method).maps(grey, ["pneumonia"]).any()


@pytest.mark.parametrize("method", ["grad-cam", "occlusion"])
def test_a_network_that_is_quite_sure_is_explained_all_the_same(method: Method, tmp_path: Any) -> None:
    classifier = classifier_of(functional(lambda layers, image: convolutional(layers, image, gain=1e3)), tmp_path)
    batch = inputs(2)
    assert classifier.probabilities(batch)[:, 1].tolist() == [1, 1]
    assert all(points_at_the_corner(heat) for heat in Explainer(classifier, method).maps(batch, ["pneumonia"] * 2))


def softmax_after(layers: Any, x: Any) -> Any:
    return layers.Softmax()(last(layers, activation=None)(x))


def activation_after(layers: Any, x: Any) -> Any:
    return layers.Activation("softmax")(last(layers, activation=None)(x))


def mean_of_two(layers: Any, x: Any) -> Any:
    return layers.Average()([last(layers)(x), last(layers)(x)])


def sigmoids(layers: Any, x: Any) -> Any:
    return last(layers, activation="sigmoid")(x)


def mean_of_sigmoids(layers: Any, x: Any) -> Any:
    return layers.Average()([sigmoids(layers, x), sigmoids(layers, x)])


def one_unit(layers: Any, x: Any) -> Any:
    return layers.Dense(1, activation="sigmoid", kernel_initializer="ones")(x)


ENDS = [
    (softmax_after, "softmax"), (activation_after, "softmax"), (mean_of_two, "softmax"), (sigmoids, "sigmoid"),
    (mean_of_sigmoids, "sigmoid"), (one_unit, "binary"),
]  # fmt: skip


@pytest.mark.parametrize(("end", "output"), ENDS, ids=lambda value: getattr(value, "__name__", value))
def test_every_kind_of_output_is_explained_by_its_log_odds(end: Any, output: str, tmp_path: Any) -> None:
    def build(layers: Any, image: Any) -> Any:
        return end(layers, layers.GlobalAveragePooling2D()(features(layers, cornered(layers, image))))

    classifier = classifier_of(functional(build), tmp_path, output=output, temperature=1.0)
    explainer = Explainer(classifier)
    batch = inputs(2)
    _, tf = load_backend()
    for index in range(2):
        p = classifier.probabilities(batch)[:, index].astype(float)
        odds = explainer._tap.log_odds(tf.constant(batch), tf.constant([index, index])).numpy()
        assert odds == pytest.approx(np.log(p / (1 - p)), rel=1e-3)
    pneumonia, normal = explainer.maps(batch, ["pneumonia", "normal"])
    assert points_at_the_corner(pneumonia)
    assert not normal.any()


def test_logits_that_all_move_together_change_nothing(tmp_path: Any) -> None:
    """A class map that is negative everywhere is evidence where the others are more negative still."""

    def build(layers: Any, image: Any) -> Any:
        x = layers.Conv2D(2, 1, bias_initializer="zeros", name="classes")(features(layers, cornered(layers, image)))
        return layers.Softmax()(layers.GlobalAveragePooling2D()(x))

    network = functional(build)
    before = Explainer(classifier_of(network, tmp_path)).maps(inputs(1), ["pneumonia"])
    kernel, bias = (value.numpy() for value in network.get_layer("classes").variables)
    network.get_layer("classes").kernel.assign(kernel - 40)
    network.get_layer("classes").bias.assign(bias - 40)
    after = Explainer(classifier_of(network, tmp_path)).maps(inputs(1), ["pneumonia"])
    assert before.max() in {0, 1}
    assert after == pytest.approx(before, abs=1e-3)


def test_networks_within_a_network_are_opened(tmp_path: Any) -> None:
    keras, _ = load_backend()

    def build(layers: Any, image: Any) -> Any:
        inner = keras.Input((32, 32, 1))
        base = keras.Model(inner, features(layers, cornered(layers, inner)), name="base")
        base.trainable = False
        pooled = keras.Sequential([keras.Input((32, 32, 4)), layers.MaxPooling2D(2), layers.GlobalAveragePooling2D()])
        return last(layers)(pooled(base(image)))

    network = functional(build)
    with keras_arrays():
        network.save(tmp_path / "network.keras")
    explainer = Explainer(classifier_of(keras.models.load_model(tmp_path / "network.keras"), tmp_path))
    assert explainer.method == "grad-cam"
    assert points_at_the_corner(explainer.maps(inputs(1), ["pneumonia"])[0])


def test_nothing_is_traced_twice_and_neighbours_do_not_matter(tmp_path: Any) -> None:
    classifier = classifier_of(functional(convolutional), tmp_path)
    batch = inputs(11)
    for method in ("grad-cam", "occlusion"):
        explainer = Explainer(classifier, method)  # type: ignore[arg-type]
        together = explainer.maps(batch, ["pneumonia", "normal"] * 5 + ["pneumonia"])
        for count in (1, 2, 3, 9):
            assert explainer.maps(batch[:1].repeat(count, axis=0), ["pneumonia"] * count)[-1] == pytest.approx(
                together[0], abs=1e-4
            )
        traced = explainer._tap.maps if method == "grad-cam" else explainer._tap.log_odds
        assert traced.experimental_get_tracing_count() == 1  # type: ignore[union-attr]
    assert explainer.maps(batch[:0], []).shape == (0, 32, 32)


def test_what_cannot_be_explained_is_said(tmp_path: Any) -> None:
    explainer = Explainer(classifier_of(functional(convolutional), tmp_path))
    with pytest.raises(ModelError, match=r"no label 'covid'; it has: normal, pneumonia"):
        explainer.maps(inputs(1), ["covid"])
    with pytest.raises(ModelError, match="1 labels were named for 2 inputs"):
        explainer.maps(inputs(2), LABELS[:1])
    with pytest.raises(ImageError, match="not finite"):
        explainer.maps(np.full((1, 32, 32, 1), np.nan, np.float32), LABELS[:1])
    with pytest.raises(ImageError, match="shape"):
        explainer.maps(inputs(1)[:, :16], LABELS[:1])


def test_a_map_is_laid_over_what_the_network_saw_of_the_film() -> None:
    card = Card.model_validate(card_values())
    heat = np.zeros((32, 32), np.float32)
    heat[24:, :8] = 1
    laid = on_image(heat, np.zeros((100, 300), np.float32), card)  # of which the middle 210 columns are looked at
    assert (laid.shape, laid.dtype) == ((100, 300), np.float32)
    assert not laid[:, :45].any()
    assert not laid[:, 255:].any()
    assert laid[80:, 46:90].min() > 0.9
    assert laid[:60].max() == 0
    assert laid[:, 120:].max() == 0
    whole = on_image(heat, np.zeros((100, 300), np.float32), card.model_copy(update={"recipe": "unit_range"}))
    assert whole[80:, :60].min() > 0.9


SIDES = {"covid_cxr_vgg16": 128}
"""What is pooled more often needs more than 64 pixels a side."""


@pytest.mark.parametrize("name", sorted(TRAINING_RECIPES))
def test_every_architecture_is_explained(name: str, tmp_path: Any) -> None:
    recipe = TRAINING_RECIPES[name]
    side, channels = SIDES.get(name, 64), recipe.input.channels
    keras, _ = load_backend()
    keras.utils.set_random_seed(2)
    network = recipe.build(side, side, channels, recipe.units, None)
    values = json.loads(card_template(name)) | {
        "name": name, "input": {"rows": side, "columns": side, "channels": channels},
        "weights_sha256": "0" * 64, "golden_sha256": "0" * 64,
    }  # fmt: skip
    explainer = Explainer(Classifier(Package(tmp_path, Card.model_validate(values)), KerasEngine(network)))
    convolves = any("Conv" in type(layer).__name__ for layer in network._flatten_layers())
    assert explainer.method == ("grad-cam" if convolves else "occlusion")
    labels = [label.name for label in recipe.labels]
    batch = np.random.default_rng(3).standard_normal((1, side, side, channels), np.float32).repeat(len(labels), axis=0)
    maps = explainer.maps(batch, labels)
    assert (maps.shape, maps.dtype) == ((len(labels), side, side), np.float32)
    assert np.isfinite(maps).all()
    assert maps.min() >= 0
    assert maps.max() == 1  # something speaks for one of them
