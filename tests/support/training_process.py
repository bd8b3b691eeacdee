"""A training run in a process of its own, slow enough to be killed in the middle: `python FILE FILMS STATE`."""

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from models.architectures.weights import BackboneWeights
from models.backend import load_keras
from models.card import Code, Input
from models.training.checkpoint import Checkpoints
from models.training.dataset import load_dataset
from models.training.history import Epoch, Preparation, Step
from models.training.hyperparameters import HyperParameters
from models.training.recipes import CHEST_XRAY_TRIAGE, LabelPlan
from models.training.train import Fit, Watch, train


def build(rows: int, columns: int, channels: int, units: int, _weights: BackboneWeights) -> Any:
    """Build a network with all that a run has to carry on: a moving average, dropout."""
    layers = (keras := load_keras()).layers
    image = keras.Input((rows, columns, channels))
    x = layers.Conv2D(8, 5, strides=2, activation="relu")(image)
    x = layers.BatchNormalization()(x)
    x = layers.Dropout(0.3)(layers.GlobalMaxPooling2D()(x))
    return keras.Model(image, layers.Dense(units, activation="softmax")(x))


RECIPE = replace(
    CHEST_XRAY_TRIAGE,
    name="tiny_dropping",
    build=build,
    input=Input(rows=32, columns=32, channels=1),
    labels=(LabelPlan("normal"), LabelPlan("pneumonia", Code(scheme="SCT", value="1", meaning="Pneumonia"), "routine")),
    hyper_parameters=HyperParameters(
        epochs=6,
        batch_size=8,
        learning_rate=0.01,
        patience=6,
        optimizer="adamw",
        weight_decay=1e-4,
        schedule="cosine",
        warmup_epochs=1.0,
        mixup=0.2,
        average_decay=0.9,
        balance="weights",
        augmentation="triage",
    ),
)


def run(films: Path, state: Path, watch: Watch = lambda _: None, **changes: Any) -> Fit:
    """Train, or go on."""
    values: dict[str, Any] = {"hyper_parameters": RECIPE.hyper_parameters, "seed": 5} | changes
    recipe = values.pop("recipe", RECIPE)
    dataset = values.pop("dataset", None) or load_dataset(films, ("normal", "pneumonia"))
    values.setdefault("checkpoints", Checkpoints(state))
    return train(recipe, dataset, backbone_weights=None, watch=watch, **values)


def _tell(event: Preparation | Step | Epoch) -> None:
    match event:
        case Step():
            print("step", event.epoch, event.batch, flush=True)
            time.sleep(0.05)
        case Epoch():
            print("epoch", event.number, flush=True)


if __name__ == "__main__":
    run(Path(sys.argv[1]), Path(sys.argv[2]), _tell)
