"""The shipped packages: small, whole, honest about themselves, and as good as their cards say."""

from pathlib import Path

import numpy as np
import pytest

from models.classifier import Classifier
from models.preprocessing import load_picture
from models.registry import SHIPPED, Package, Registry
from models.training.dataset import load_dataset
from models.training.recipes import TRAINING_RECIPES

PACKAGES = Registry().packages()


def test_nothing_shipped_is_broken() -> None:
    packages, broken = Registry().scan()
    assert broken == []
    assert "chest_xray_triage" in {package.card.name for package in packages}


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.identifier)
def test_it_is_small_and_holds_nothing_but_a_package(package: Package) -> None:
    files = [path for path in package.path.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 10_000_000
    assert {path.suffix for path in files} <= {".keras", ".onnx", ".json", ".npz", ".png"}


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.identifier)
def test_the_card_says_where_it_comes_from_and_how_well_it_does(package: Package) -> None:
    card = package.card
    assert card.training is not None
    assert card.training.recipe in TRAINING_RECIPES
    assert card.training.git_commit
    assert not card.training.git_commit.endswith("-dirty")
    assert card.metrics is not None
    assert card.metrics.split == "test"
    assert card.metrics.by_source
    assert card.limitations


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.identifier)
def test_it_gives_its_golden_pair_here(package: Package) -> None:
    replays = [Classifier.load(package, engine=engine).warm_up() for engine in ("keras", "onnx")]
    assert all(replay.passed for replay in replays)
    keras, onnx = (np.array(list(replay.found.values())) for replay in replays)
    assert onnx == pytest.approx(keras, abs=5e-6)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.identifier)
def test_on_a_cpu_it_runs_on_onnx_runtime_and_gives_the_same_bits_in_any_company(package: Package) -> None:
    classifier = Classifier.load(package)
    assert (classifier.engine, classifier.device) == ("onnx", "cpu")
    shape = package.card.input
    batch = np.random.default_rng(1).uniform(-1, 1, (17, shape.rows, shape.columns, shape.channels)).astype(np.float32)
    together = classifier.probabilities(batch)
    for piece in (slice(0, 1), slice(16, 17), slice(3, 6), slice(4, 17)):
        assert np.array_equal(classifier.probabilities(batch[piece]), together[piece])


def test_the_triage_model_is_better_than_ridge_regression_and_speaks_the_agreed_labels() -> None:
    card = Registry().find("chest_xray_triage").card
    assert [label.name for label in card.labels] == ["normal", "pneumonia", "covid", "tuberculosis"]
    codes = {label.name: label.code.value for label in card.labels if label.code}
    assert codes == {"pneumonia": "233604007", "covid": "840539006", "tuberculosis": "56717001"}
    assert card.metrics is not None
    assert card.metrics.accuracy.low is not None
    assert card.metrics.accuracy.low > 0.74
    assert Registry().default_for("DX").card.name == "chest_xray_triage"
    assert all(step.priority != "immediate" for label in card.labels for step in label.triage)


@pytest.mark.real_scans
def test_films_it_never_saw_are_classified_as_well_as_the_card_says(scans: Path) -> None:
    classifier = Classifier.load(Registry().find("chest_xray_triage"))
    dataset = load_dataset(scans / "cxr", [label.name for label in classifier.card.labels])
    films = dataset.split("test")[::4]
    found = classifier.probabilities(np.stack([classifier.prepare(load_picture(film.path)) for film in films]))
    right = (found.argmax(axis=1) == np.asarray(dataset.targets(films))).mean()
    assert classifier.card.metrics is not None
    assert right == pytest.approx(classifier.card.metrics.accuracy.value, abs=0.1)


def test_no_package_lies_outside_its_folder() -> None:
    assert all(package.path.is_relative_to(SHIPPED) for package in PACKAGES)
