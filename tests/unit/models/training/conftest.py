"""Made-up films with and without a shadow, and a recipe small enough to train in a second."""

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models.backend import load_backend
from models.card import Code, Input
from models.golden import golden_image
from models.training.dataset import Dataset, load_dataset
from models.training.hyperparameters import HyperParameters
from models.training.recipes import CHEST_XRAY_TRIAGE, LabelPlan, TrainingRecipe


def build_tiny(rows: int, columns: int, channels: int, outputs: int, _weights: Path | None) -> Any:
    keras, _ = load_backend()
    image = keras.Input((rows, columns, channels))
    x = keras.layers.Conv2D(8, 5, strides=2, activation="relu", kernel_initializer="he_normal")(image)
    x = keras.layers.GlobalMaxPooling2D()(x)
    return keras.Model(image, keras.layers.Dense(outputs, activation="softmax")(x))


@pytest.fixture
def tiny_recipe() -> TrainingRecipe:
    return replace(
        CHEST_XRAY_TRIAGE,
        name="tiny_triage",
        build=build_tiny,
        input=Input(rows=32, columns=32, channels=1),
        labels=(
            LabelPlan("normal"),
            LabelPlan("pneumonia", Code(scheme="SCT", value="233604007", meaning="Pneumonia"), "routine"),
        ),
        hyper_parameters=HyperParameters(
            epochs=6,
            batch_size=8,
            learning_rate=0.02,
            patience=6,
            optimizer="adamw",
            weight_decay=1e-4,
            clip_norm=1.0,
            schedule="cosine",
            warmup_epochs=0.5,
            average_decay=0.8,
            balance="weights",
            augmentation="triage",
        ),
    )


@pytest.fixture(scope="session")
def films_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("films")
    random = np.random.default_rng(7)
    rows = []
    for split, count in (("train", 12), ("val", 6), ("test", 6)):
        for index in range(2 * count):
            label = ("normal", "pneumonia")[index % 2]
            film = golden_image(56, 48).astype(np.float32) + random.normal(0, 6, (56, 48))
            if label == "pneumonia":
                film[8:30, 8:40] = 250 + random.normal(0, 3, (22, 32))
            name = f"{split}_{index}.png"
            Image.fromarray(np.clip(film, 0, 255).astype(np.uint8)).save(root / name)
            source = ("near", "far")[index // 2 % 2]
            rows.append([name, label, split, f"{split}{index // 4}", source, "CC0"])
    with (root / "labels.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["file", "label", "split", "patient_id", "source", "licence"])
        table.writerows(rows)
    return root


@pytest.fixture
def films(films_folder: Path) -> Callable[..., Dataset]:
    return lambda: load_dataset(films_folder, ("normal", "pneumonia"))
