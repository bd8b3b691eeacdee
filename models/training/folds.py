"""Cross-validation: a recipe trained several times, each time tested on other patients."""

import math
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.preprocessing import load_picture
from models.training.checkpoint import Checkpoints, Passing
from models.training.dataset import Dataset, ReadImage
from models.training.feed import prepared_films
from models.training.figures import Sample
from models.training.objective import raw_probabilities
from models.training.recipes import TrainingRecipe
from models.training.train import Fit

FIGURES = ("accuracy", "macro_f1", "macro_auroc", "loss")


@dataclass(frozen=True)
class Fold:
    """What the network of a fold did on the films that it is tested on; a figure that cannot be told is None.

    `name` is the fold's number or the source that was left out; `right` counts, for each label that was tested, the
    films whose most probable label it is, and all of them. Probabilities are as the network gives them, without a
    temperature.
    """

    name: str
    films: int
    patients: int
    accuracy: float | None
    macro_f1: float | None
    macro_auroc: float | None
    loss: float | None
    right: dict[str, tuple[int, int]]
    best_epoch: int
    epochs: int
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Names and values, for JSON."""
        return asdict(self)


def cross_validate(
    recipe: TrainingRecipe,
    datasets: Mapping[str, Callable[[], Dataset]],
    fit: Callable[[Dataset, Checkpoints], Fit],
    *,
    threads: int = 2,
    read: ReadImage = load_picture,
) -> Iterator[Fold]:
    """Train on each fold and test, one after the other; the networks are not kept.

    Parameters
    ----------
    datasets
        By name, what loads each fold, split into train, val and test.
    fit
        Trains on a data set, with its state in the folder given.

    Raises
    ------
    DataError
        If a split of a fold is empty or a film cannot be read.
    """
    for name, load in datasets.items():
        dataset = load()
        with tempfile.TemporaryDirectory(prefix="firstread-fold-") as folder:
            fitted = fit(dataset, Passing(Path(folder)))
            network = fitted.network()
        films = dataset.split("test")
        found = raw_probabilities(network, prepared_films(recipe, films, read, threads), recipe.output)
        targets = np.asarray(dataset.targets(films))
        sample = Sample(targets, found, recipe.output)
        figures = sample.figures(np.ones((1, len(films))))
        values = {figure: float(getattr(figures, figure)[0]) for figure in FIGURES}
        chosen = found.argmax(axis=1)
        yield Fold(
            name=name,
            films=len(films),
            patients=len({film.patient for film in films}),
            best_epoch=fitted.best_epoch,
            epochs=len(fitted.history),
            seconds=round(fitted.seconds, 1),
            right={
                label: (int((chosen[of_label] == index).sum()), int(of_label.sum()))
                for index, label in enumerate(dataset.labels)
                if (of_label := targets == index).any()
            },
            **{figure: round(value, 4) if math.isfinite(value) else None for figure, value in values.items()},
        )


def summary(folds: Sequence[Fold]) -> dict[str, dict[str, float | None]]:
    """Return mean and standard deviation over the folds of each figure.

    The deviation is that of a sample (divided by folds - 1), None for a single fold.
    """
    found: dict[str, dict[str, float | None]] = {}
    for name in FIGURES:
        values = [value for fold in folds if (value := getattr(fold, name)) is not None]
        found[name] = {
            "mean": round(statistics.fmean(values), 4) if values else None,
            "sd": round(statistics.stdev(values), 4) if len(values) > 1 else None,
        }
    return found
