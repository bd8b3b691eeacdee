"""What a training recipe is: everything that is decided before the first image is read."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from models.architectures.weights import BackboneWeights
from models.card import Code, Input, Priority, Window
from models.training.hyperparameters import HyperParameters

Build = Callable[[int, int, int, int, BackboneWeights], Any]
"""(rows, columns, channels, units, backbone weights) -> keras.Model.

It raises `RecipeError` for weights it cannot take; a network without a backbone takes none."""


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

    Parameters
    ----------
    name, title, architecture, reference
        Name of the recipe and of the packages it makes; the same for people; the network and who published it.
    build
        Builds the network.
    preprocessing, input
        Name of the preprocessing recipe, and the shape it prepares.
    output, labels
        What the last layer gives (`models.card.Card.output`) and the labels in its order; for `binary` first what is no
        finding.
    frame_policy, rollup
        Which frame of a file of several is looked at; how instances become a series.
    hyper_parameters
        As published, or as they did best.
    sensitivity, highest_threshold
        What an operating threshold is chosen for on validation, and what it is at most.
    default_for
        Modalities that a package of this recipe reads where nobody has chosen one.
    intended_use, not_for, limitations
        For the card; `limitations` are those of the network, whatever it is trained on. What the films bring along is
        worked out from them (`models.training.limitations`).
    head_from
        The backbone stays as it is: output of the layer of this name is computed once for every film, without
        augmentation, and what follows it alone is trained. None: everything is trained.
    default_backbone
        Weights that the article's backbone begins with, where a run names none; None where there is no backbone or
        nothing to download.
    published
        The article's own figure, in words, and what it was measured on.
    window
        Hounsfield window in which a CT has to be shown to the network; None: as its header says.
    """

    name: str
    title: str
    architecture: str
    reference: str
    build: Build
    preprocessing: str
    input: Input
    output: Literal["softmax", "sigmoid", "binary"]
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
    head_from: str | None = None
    default_backbone: Literal["imagenet"] | None = None
    published: str = ""
    window: Window | None = None

    @property
    def units(self) -> int:
        """Width of the network's last layer."""
        return 1 if self.output == "binary" else len(self.labels)

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the labels in the order of the outputs."""
        return tuple(label.name for label in self.labels)
