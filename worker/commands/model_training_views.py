"""Training as a person reads it on a terminal: the balance of the films, the folds, how a run ended."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from models.training.dataset import Dataset
    from models.training.folds import Fold
    from models.training.train import Fit


def balance_table(dataset: "Dataset") -> Table:
    """Lay out how many images, of how many patients, each label has in each split."""
    balance = dataset.balance()
    table = Table("label", *balance, title="images (patients)", title_justify="left")
    for label in dataset.labels:
        held = [of_split[label] for of_split in balance.values()]
        table.add_row(Text(label), *(f"{one.images} ({one.patients})" for one in held))
    return table


def fold_line(fold: "Fold") -> str:
    """Say what a fold gave, as it ends."""
    from models.training.folds import FIGURES

    figures = ", ".join(f"{name.replace('_', ' ')} {_shown(getattr(fold, name))}" for name in FIGURES)
    return f"fold {fold.name}: {fold.films} films, {figures}"


def folds_table(folds: Sequence["Fold"]) -> Table:
    """Lay out what each fold gave, and mean and standard deviation."""
    from models.training.folds import FIGURES, summary

    table = Table("fold", "films", "patients", *(name.replace("_", " ") for name in FIGURES), "right", "best epoch")
    for fold in folds:
        figures = [_shown(getattr(fold, name)) for name in FIGURES]
        best = f"{fold.best_epoch} of {fold.epochs}"
        right = ", ".join(f"{label} {good}/{films}" for label, (good, films) in fold.right.items())
        table.add_row(Text(fold.name), str(fold.films), str(fold.patients), *figures, Text(right), best)
    overall = [f"{_shown(of['mean'])} ± {_shown(of['sd'])}" for of in summary(folds).values()]
    table.add_row("mean ± SD", "", "", *overall, "", "")
    return table


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def end_line(fit: "Fit", peak_memory: int) -> str:
    """Say how long a run took, and how much memory."""
    from models.training.progress import duration

    return (
        f"trained in {duration(fit.seconds)}, best epoch {fit.best_epoch} of {len(fit.history)};"
        f" peak memory {peak_memory / 1e9:.1f} GB"
    )
