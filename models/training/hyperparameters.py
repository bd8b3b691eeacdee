"""What steers a training run."""

from dataclasses import asdict, dataclass
from typing import Literal

Optimizer = Literal["adam", "adamw", "sgd"]
Schedule = Literal["constant", "cosine"]
Balance = Literal["none", "weights", "oversample"]
Augmentation = Literal["none", "article", "triage"]


@dataclass(frozen=True)
class HyperParameters:
    """What steers a training run; each can be changed on the command line by its name.

    Parameters
    ----------
    epochs, batch_size, learning_rate
        Epochs at most; films a step; the largest learning rate.
    optimizer, momentum, weight_decay, clip_norm
        Momentum is of `sgd`, the decoupled weight decay of `adamw`; a `clip_norm` of 0 leaves gradients as they are.
    schedule, warmup_epochs
        `cosine`: up in the warm-up, then down a half cosine.
    label_smoothing, mixup
        Share of the target given to all labels; alpha of mixup's Beta distribution (H. Zhang et al., "mixup: Beyond
        Empirical Risk Minimization", ICLR 2018), 0 for none.
    average_decay
        Memory of the running average of the weights that is validated and kept; 0 for none.
    patience
        Epochs without a better validation loss after which training ends.
    balance
        `weights`: every class counts the same in the loss; `oversample`: films of the smaller classes are drawn again.
    augmentation
        `article`: zoom, rotation, flip; `triage`: that and everything else by which a hospital's films are recognised.
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

    def as_dict(self) -> dict[str, int | float | str]:
        """Names and values, for the card."""
        return asdict(self)
