"""Training recipes: a network, its preprocessing, its labels and the hyper-parameters it is trained with, by name."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from models.architectures import squeezenet
from models.card import Code, Input, Priority
from models.errors import RecipeError
from models.training.hyperparameters import HyperParameters

Build = Callable[[int, int, int, int, Path | None], Any]
"""(rows, columns, channels, outputs, backbone weights or None) -> keras.Model."""


@dataclass(frozen=True)
class LabelPlan:
    """A label before its threshold is known: its code, and the steps of triage above the threshold."""

    name: str
    code: Code | None = None
    at_threshold: Priority | None = None
    later_steps: tuple[tuple[float, Priority], ...] = ()

    @property
    def finding(self) -> bool:
        """Whether it can be flagged."""
        return self.code is not None


@dataclass(frozen=True)
class TrainingRecipe:
    """Everything that is decided before the first image is read.

    `limitations` are those of the network, whatever it is trained on; what the films bring along is worked out from
    them (`models.training.limitations`).
    """

    name: str
    title: str
    architecture: str
    reference: str
    build: Build
    preprocessing: str
    input: Input
    output: Literal["softmax", "sigmoid"]
    labels: tuple[LabelPlan, ...]
    frame_policy: Literal["first", "middle", "refuse"]
    hyper_parameters: HyperParameters
    rollup: Literal["max", "top_tenth"]
    sensitivity: float
    highest_threshold: float
    default_for: tuple[str, ...]
    intended_use: str
    not_for: tuple[str, ...]
    limitations: tuple[str, ...]

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the labels in the order of the outputs."""
        return tuple(label.name for label in self.labels)


COVID_19 = Code(scheme="SCT", value="840539006", meaning="COVID-19")
PNEUMONIA = Code(scheme="SCT", value="233604007", meaning="Pneumonia")
TUBERCULOSIS = Code(scheme="SCT", value="56717001", meaning="Tuberculosis")


def _squeezenet(rows: int, columns: int, channels: int, outputs: int, backbone_weights: Path | None) -> Any:
    return squeezenet.build(rows, columns, channels, outputs, backbone_weights=backbone_weights)


CHEST_XRAY_TRIAGE = TrainingRecipe(
    name="chest_xray_triage",
    title="Chest film: normal, pneumonia, COVID-19 or tuberculosis",
    architecture="squeezenet",
    reference="Iandola et al., SqueezeNet, arXiv:1602.07360 (2016), version 1.1",
    build=_squeezenet,
    preprocessing="chest_xray_triage",
    input=Input(rows=224, columns=224, channels=1),
    output="softmax",
    labels=(
        LabelPlan("normal"),
        LabelPlan("pneumonia", PNEUMONIA, "routine", ((0.85, "urgent"),)),
        LabelPlan("covid", COVID_19, "urgent"),
        LabelPlan("tuberculosis", TUBERCULOSIS, "urgent"),
    ),
    frame_policy="first",
    hyper_parameters=HyperParameters(
        epochs=24,
        batch_size=32,
        learning_rate=3e-4,
        patience=8,
        optimizer="adamw",
        weight_decay=1e-4,
        clip_norm=1.0,
        schedule="cosine",
        warmup_epochs=1.0,
        label_smoothing=0.05,
        average_decay=0.98,
        balance="weights",
        augmentation="triage",
    ),
    rollup="max",
    sensitivity=0.90,
    highest_threshold=0.5,
    default_for=("CR", "DX", "RG"),
    intended_use=(
        "Sorting the reading worklist: frontal chest films that look like pneumonia, COVID-19 or tuberculosis are shown"
        " to the radiologist sooner. Every film is still read by a radiologist."
    ),
    not_for=(
        "Diagnosis, or any decision about a patient without a radiologist.",
        "Ruling a disease out: a film that is not flagged is not a normal film.",
        "Lateral films, other body regions, CT, photographs of films.",
        "Any disease other than the three named (pneumothorax, effusion, nodules, fractures are not looked for).",
    ),
    limitations=(
        "Expect the network to recognise, in part, where a film comes from instead of what it shows, and to fall far on"
        " films of other hospitals; measure it on your own films before anybody relies on it.",
    ),
)

TRAINING_RECIPES: dict[str, TrainingRecipe] = {recipe.name: recipe for recipe in (CHEST_XRAY_TRIAGE,)}


def find_recipe(name: str) -> TrainingRecipe:
    """Return the training recipe of that name.

    Raises
    ------
    RecipeError
        If there is none; naming those there are.
    """
    if name not in TRAINING_RECIPES:
        raise RecipeError(f"there is no training recipe {name!r}; there are: {', '.join(sorted(TRAINING_RECIPES))}")
    return TRAINING_RECIPES[name]
