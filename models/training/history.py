"""How a training run goes: what it tells while it runs, and what is kept of every epoch."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from models.training.hyperparameters import HyperParameters


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training films gave.

    `train_loss` is what was minimised, with smoothed and mixed targets, class weights and weight penalties; `val_loss`
    is the plain cross-entropy, under class weights where training balances classes. The two accuracies are plain;
    training films are changed, mixed and seen with dropout, so theirs may be the lower one.
    """

    number: int
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float
    learning_rate: float
    seconds: float

    def as_dict(self) -> dict[str, float]:
        """Names and values, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Step:
    """Progress within an epoch."""

    epoch: int
    epochs: int
    batch: int
    batches: int
    loss: float


@dataclass(frozen=True)
class Preparation:
    """Progress in what comes before the first epoch."""

    what: str
    done: int
    total: int


Watch = Callable[[Preparation | Step | Epoch], None]


def best_of(history: Sequence[Epoch]) -> Epoch | None:
    """Return the first epoch with the least validation loss; None where there is none that is a number."""
    numbers = [epoch for epoch in history if epoch.val_loss < float("inf")]
    return min(numbers, key=lambda epoch: epoch.val_loss, default=None)


def is_over(history: Sequence[Epoch], hyper_parameters: HyperParameters) -> bool:
    """Whether all epochs were run, or `patience` epochs brought no better validation loss."""
    best = best_of(history)
    waited = len(history) - (best.number if best else 0)
    return len(history) >= hyper_parameters.epochs or waited >= hyper_parameters.patience
