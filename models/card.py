"""A model package's card: what the network takes, what it says, when that is worth a flag, and where it comes from.

Everything about a classifier that is not a weight stands here as data, next to the weights: input, preprocessing,
labels with their codes, operating thresholds, triage, evaluation, training data, intended use. After M. Mitchell et
al., "Model Cards for Model Reporting", FAT* 2019.

Flagging rule: every label that is a finding is flagged where its probability is at or above its threshold, each for
itself. Triage rule: a flagged finding has the priority of the last of its steps that the probability reaches.
"""

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from models.errors import PackageError
from models.preprocessing import RECIPES

NAME = re.compile(r"[a-z][a-z0-9_]{1,63}")
VERSION = re.compile(r"(0|[1-9]\d{0,5})\.(0|[1-9]\d{0,5})\.(0|[1-9]\d{0,5})")
PRIORITIES = ("routine", "urgent", "immediate")
"""Priorities of a finding, least pressing first."""

MAX_CARD_BYTES = 1 << 20

Priority = Literal["immediate", "urgent", "routine"]
Probability = Annotated[float, Field(ge=0, le=1)]
Text = Annotated[str, Field(min_length=1)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Part(BaseModel):
    """A part of a card: frozen, and a field nobody knows is an error, not a silence."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Code(Part):
    """A coded concept (DICOM PS3.3 8.8): scheme designator, value, meaning."""

    scheme: Annotated[str, Field(min_length=1, max_length=16)]
    value: Annotated[str, Field(min_length=1, max_length=16)]
    meaning: Annotated[str, Field(min_length=1, max_length=64)]


class TriageStep(Part):
    """From this probability on, a finding has this priority."""

    at_least: Probability
    priority: Priority


class Label(Part):
    """One output of the network.

    `normal` and `non-covid` are probabilities and no findings: they have no code, no threshold and no triage.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,31}$")]
    code: Code | None = None
    finding: bool
    threshold: Probability | None = None
    triage: tuple[TriageStep, ...] = ()

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if not self.finding:
            if self.code or self.threshold is not None or self.triage:
                raise ValueError(f"{self.name} is no finding, so it has no code, threshold or triage steps")
            return self
        if self.name in {"normal", "non-covid"}:
            raise ValueError(f"{self.name} is never a finding")
        if self.code is None or self.threshold is None or not self.triage:
            raise ValueError(f"the finding {self.name} needs a code, a threshold and at least one triage step")
        if not 0 < self.threshold < 1:
            raise ValueError(f"the threshold of {self.name} lies between 0 and 1, both left out")
        if self.triage[0].at_least != self.threshold:
            raise ValueError(f"the first triage step of {self.name} begins at its threshold, {self.threshold}")
        for step, following in zip(self.triage, self.triage[1:], strict=False):
            if following.at_least <= step.at_least or _rank(following.priority) <= _rank(step.priority):
                raise ValueError(f"the triage steps of {self.name} rise in probability and in priority")
        return self

    def flagged(self, probability: float) -> bool:
        """Whether this is a finding at or above its threshold."""
        return self.threshold is not None and probability >= self.threshold

    def priority(self, probability: float) -> Priority | None:
        """Priority at a probability; None below the threshold and for what is no finding."""
        reached = [step.priority for step in self.triage if probability >= step.at_least]
        return reached[-1] if reached else None


def _rank(priority: Priority) -> int:
    return PRIORITIES.index(priority)


class Input(Part):
    """Shape of one input of the network."""

    rows: Annotated[int, Field(ge=8, le=4096)]
    columns: Annotated[int, Field(ge=8, le=4096)]
    channels: Literal[1, 3]


class Window(Part):
    """A window over Hounsfield units (DICOM PS3.3 C.11.2.1.3.2): black half a width below its centre, white above."""

    centre: Annotated[float, Field(ge=-1024, le=3071)]
    width: Annotated[float, Field(gt=0, le=8192)]

    def __str__(self) -> str:
        return f"centre {self.centre:g}, width {self.width:g} HU"


class Source(Part):
    """Where a part of the training data comes from."""

    name: Text
    licence: Text
    images: dict[str, Annotated[int, Field(ge=0)]]
    note: str = ""


class Training(Part):
    """How the weights came about."""

    recipe: Text
    architecture: Text
    reference: Text
    hyper_parameters: dict[str, str | int | float | bool | None]
    initial_weights: Text
    seed: int
    images: dict[str, dict[str, int]]
    sources: Annotated[tuple[Source, ...], Field(min_length=1)]
    epochs_run: Annotated[int, Field(ge=1)]
    best_epoch: Annotated[int, Field(ge=1)]
    seconds: Annotated[float, Field(ge=0)]
    git_commit: str | None
    libraries: dict[str, str]
    trained_at: datetime


class Interval(Part):
    """A value with its 95 % bootstrap interval; None where the set is too small or one-sided to say."""

    value: float | None
    low: float | None = None
    high: float | None = None


class LabelMetrics(Part):
    """How one label did, against all others."""

    images: Annotated[int, Field(ge=0)]
    auroc: Interval
    precision: Interval | None = None
    recall: Interval | None = None
    f1: Interval | None = None
    sensitivity: Interval | None = None
    specificity: Interval | None = None


class Right(Part):
    """How many of so many images got the right label as their most probable one."""

    right: Annotated[int, Field(ge=0)]
    images: Annotated[int, Field(ge=0)]


class Calibration(Part):
    """Expected calibration error of the most probable label, before and after the card's temperature."""

    bins: Annotated[int, Field(ge=2)]
    before: Probability
    after: Probability


class Group(Part):
    """How the model did on a part of the test set; macro F1 and AUROC only of labels with enough films in it."""

    images: Annotated[int, Field(ge=0)]
    accuracy: Interval
    macro_f1: Interval | None = None
    auroc: dict[str, Interval] = {}
    labels: dict[str, Right]


class Metrics(Part):
    """What was measured, on which images, and how."""

    split: Text
    images: Annotated[int, Field(ge=1)]
    patients: Annotated[int, Field(ge=1)]
    accuracy: Interval
    macro_f1: Interval
    loss: Annotated[float, Field(ge=0)] | None = None
    calibration: Calibration | None = None
    labels: dict[str, LabelMetrics]
    by_source: dict[str, Group] = {}
    by_age_group: dict[str, Group] = {}
    confusion: tuple[tuple[int, ...], ...]
    bootstrap: Text


class Onnx(Part):
    """The same network as an ONNX file beside the weights, `model.onnx`, and how it was compared with them.

    `weights_sha256` is that of the weights it was made of. `difference` is the largest of a probability, from what
    Keras on TensorFlow gives for the golden image and made-up ones, `inputs` of them. `batch_invariant` says whether
    every one came out the same to the bit in batches of 1 to 32.
    """

    sha256: Sha256
    weights_sha256: Sha256
    exporter: Text
    runtime: Text
    opset: Annotated[int, Field(ge=1)]
    difference: Probability
    inputs: Annotated[int, Field(ge=1)]
    batch_invariant: bool


class MixedPrecision(Part):
    """What computing in float16 changed: the leave to do so, where it was compared on a GPU.

    `weights_sha256` is that of the weights that were compared. `difference` is the largest of a probability, from what
    Keras gives in float32 for the golden image and made-up ones, `inputs` of them, alone and together. `verified_with`
    says which libraries and which device computed.
    """

    weights_sha256: Sha256
    difference: Probability
    inputs: Annotated[int, Field(ge=1)]
    device: Literal["cpu", "gpu"]
    verified_with: Text


class Card(Part):
    """The card of a model package, `card.json`.

    `output` says what the last layer gives: `softmax` over the labels; `sigmoid`, one independent probability a label;
    `binary`, one sigmoid unit alone, the probability of the second label, the first being what is left of 1.
    `rollup` says how instances become a series: `max`, the highest; `top_tenth`, the mean of the highest tenth, for a
    stack of slices of which many show nothing.
    `window` is the one in which the network is shown a CT that holds Hounsfield units, whatever window its header asks
    for; None: as the header says. It is never applied to pictures, nor to images without Hounsfield units.
    `weights_sha256` says which model this is; `onnx` is another form of the same, `mixed_precision` another way to
    compute it; both may come later.
    """

    format: Literal[1] = 1
    name: str
    version: str
    title: Text
    input: Input
    recipe: str
    window: Window | None = None
    frame_policy: Literal["first", "middle", "refuse"]
    output: Literal["softmax", "sigmoid", "binary"]
    labels: Annotated[tuple[Label, ...], Field(min_length=1)]
    rollup: Literal["max", "top_tenth"]
    triage_rule: Text
    threshold_rule: Text
    temperature: Annotated[float, Field(gt=0, le=100)] = 1.0
    tolerance: Annotated[float, Field(gt=0, le=0.05)]
    weights_sha256: Sha256
    golden_sha256: Sha256
    onnx: Onnx | None = None
    mixed_precision: MixedPrecision | None = None
    default_for: tuple[Annotated[str, Field(pattern=r"^[A-Z]{2,16}$")], ...] = ()
    intended_use: Text
    not_for: Annotated[tuple[Text, ...], Field(min_length=1)]
    limitations: tuple[Text, ...] = ()
    metrics: Metrics | None = None
    training: Training | None = None

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        if not NAME.fullmatch(value):
            raise ValueError("a name is 2 to 64 of a-z, 0-9 and _, and begins with a letter")
        return value

    @field_validator("version")
    @classmethod
    def _version(cls, value: str) -> str:
        if not VERSION.fullmatch(value):
            raise ValueError("a version is MAJOR.MINOR.PATCH, for example 1.0.0")
        return value

    @field_validator("recipe")
    @classmethod
    def _recipe(cls, value: str) -> str:
        if value not in RECIPES:
            raise ValueError(f"there is no preprocessing recipe of that name; there are: {', '.join(sorted(RECIPES))}")
        return value

    @model_validator(mode="after")
    def _labels_once(self) -> Self:
        names = [label.name for label in self.labels]
        if len(set(names)) != len(names):
            raise ValueError(f"a label stands twice in {names}")
        if not any(label.finding for label in self.labels):
            raise ValueError("no label is a finding: this model could never flag anything")
        if self.output == "softmax" and len(names) < 2:
            raise ValueError("a softmax over one label is always 1; use sigmoid")
        if self.output == "binary" and [label.finding for label in self.labels] != [False, True]:
            raise ValueError("a binary network has two labels: first what is no finding, then the finding")
        return self

    @model_validator(mode="after")
    def _onnx_of_these_weights(self) -> Self:
        if self.onnx is not None and self.onnx.weights_sha256 != self.weights_sha256:
            raise ValueError("the ONNX file was made of other weights; leave it out, and convert the package again")
        return self

    @model_validator(mode="after")
    def _mixed_precision_of_these_weights(self) -> Self:
        if self.mixed_precision is not None and self.mixed_precision.weights_sha256 != self.weights_sha256:
            raise ValueError("mixed precision was compared for other weights; leave it out, and compare again")
        return self

    @property
    def identifier(self) -> str:
        """`name@version`."""
        return f"{self.name}@{self.version}"

    @property
    def units(self) -> int:
        """Width of the network's last layer."""
        return 1 if self.output == "binary" else len(self.labels)

    @property
    def version_key(self) -> tuple[int, ...]:
        """The version as numbers, for sorting."""
        return tuple(int(part) for part in self.version.split("."))

    def flagged(self, probabilities: dict[str, float]) -> list[str]:
        """Names of the findings at or above their thresholds, in the order of the labels."""
        return [label.name for label in self.labels if label.flagged(probabilities[label.name])]

    def to_json(self) -> str:
        """Write the card as `card.json` holds it."""
        return json.dumps(self.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"


def load_card(path: Path) -> Card:
    """Read and check a card.

    Parameters
    ----------
    path
        The file `card.json`.

    Raises
    ------
    PackageError
        If the file is missing, too large or no JSON, or naming each field that is wrong and what is allowed.
    """
    try:
        if path.stat().st_size > MAX_CARD_BYTES:
            raise PackageError(f"{path}: a card of more than {MAX_CARD_BYTES} bytes is none")
        return parse_card(path.read_bytes(), path)
    except OSError as error:
        raise PackageError(f"{path}: {error.strerror}") from None


def parse_card(text: bytes | str, where: Path) -> Card:
    """Check the JSON text of a card that was read from `where`.

    Raises
    ------
    PackageError
        If it is no JSON, or naming each field that is wrong and what is allowed.
    """
    try:
        return Card.model_validate_json(text, strict=False)
    except ValidationError as error:
        raise PackageError(f"{where}: " + "; ".join(_explain(item) for item in error.errors())) from None


def _explain(item: object) -> str:
    assert isinstance(item, dict)  # noqa: S101 - pydantic's ErrorDetails
    where = ".".join(str(part) for part in item["loc"]) or "card"
    return f"{where}: {item['msg'].removeprefix('Value error, ')}"
