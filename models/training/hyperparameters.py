"""What steers a training run."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args, get_type_hints

from models.errors import RecipeError

Optimizer = Literal["adam", "adamw", "sgd"]
Schedule = Literal["constant", "cosine"]
Balance = Literal["none", "weights", "sources", "oversample"]
Augmentation = Literal["none", "article", "triage"]


@dataclass(frozen=True)
class HyperParameters:
    """What steers a training run; each can be changed on the command line by its name.

    Parameters
    ----------
    epochs, batch_size, learning_rate
        Epochs at most; films a step at most; the largest learning rate.
    optimizer, momentum, weight_decay, clip_norm
        Momentum is of `sgd`; the weight decay is decoupled from the gradient; a gradient longer than `clip_norm` is
        shortened to it, variable by variable, and 0 leaves gradients as they are.
    schedule, warmup_epochs
        The learning rate rises from a twentieth in the warm-up; then it stays (`constant`) or follows a half cosine
        down to a fiftieth (`cosine`).
    label_smoothing, mixup
        Share of the target given to all labels; alpha of mixup's Beta distribution (H. Zhang et al., "mixup: Beyond
        Empirical Risk Minimization", ICLR 2018), 0 for none.
    average_decay
        Memory of the running average of the weights that is validated and kept; 0 for none.
    patience
        Epochs without a better validation loss after which training ends.
    balance
        `weights`: every class counts the same in the loss; `sources`: that, and within a class a source counts as the
        fourth root of its films, so that the few films of a small hospital are heard; `oversample`: films of the
        smaller classes are drawn again.
    augmentation
        `article`: zoom, rotation, flip; `triage`: that and everything else by which a hospital's films are recognised.

    Raises
    ------
    RecipeError
        If a value is out of its range.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    patience: int
    optimizer: Optimizer = "adam"
    momentum: float = 0.0
    weight_decay: float = 0.0
    clip_norm: float = 0.0
    schedule: Schedule = "constant"
    warmup_epochs: float = 0.0
    label_smoothing: float = 0.0
    mixup: float = 0.0
    average_decay: float = 0.0
    balance: Balance = "none"
    augmentation: Augmentation = "none"

    def __post_init__(self) -> None:
        for name, value in self.as_dict().items():
            least = 1 if name in {"epochs", "batch_size", "patience"} else 0
            if not isinstance(value, str) and not (math.isfinite(value) and value >= least):
                raise RecipeError(f"hyper-parameter {name}: {value} is not {least} or more")
        for name in ("momentum", "label_smoothing", "average_decay"):
            if getattr(self, name) >= 1:
                raise RecipeError(f"hyper-parameter {name}: {getattr(self, name)} is not below 1")
        if self.momentum and self.optimizer != "sgd":
            raise RecipeError(f"hyper-parameter momentum is of optimizer=sgd, this is optimizer={self.optimizer}")

    def changed(self, given: Mapping[str, str]) -> "HyperParameters":
        """Change some by name, each value written as text.

        Raises
        ------
        RecipeError
            If there is no hyper-parameter of that name, or the text is no value of it; naming what is allowed.
        """
        kinds = get_type_hints(type(self))
        values: dict[str, Any] = {}
        for name, text in given.items():
            if name not in kinds:
                raise RecipeError(f"there is no hyper-parameter {name!r}; there are: {', '.join(kinds)}")
            values[name] = _value(name, text, kinds[name])
        return replace(self, **values)

    def as_dict(self) -> dict[str, int | float | str]:
        """Names and values, for the card."""
        return asdict(self)


def _value(name: str, text: str, kind: Any) -> int | float | str:
    if choices := get_args(kind):
        if text in choices:
            return text
        raise RecipeError(f"hyper-parameter {name}: {text!r} is none of {', '.join(choices)}")
    try:
        return int(text) if kind is int else float(text)
    except ValueError:
        wanted = "a whole number" if kind is int else "a number"
        raise RecipeError(f"hyper-parameter {name}: {text!r} is not {wanted}") from None
