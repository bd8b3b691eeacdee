"""`firstread models train --folds`: how much a recipe's figures vary with the patients it is tested on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from worker.commands.model_common import say
from worker.commands.model_training_plan import Asked
from worker.commands.model_training_run import INTERRUPTED, show_films, until_interrupted
from worker.commands.output import err

if TYPE_CHECKING:
    from models.training.checkpoint import Checkpoints
    from models.training.dataset import Dataset, ReadImage
    from models.training.folds import Fold
    from models.training.train import Fit


@dataclass(frozen=True)
class CrossValidation:
    """The folds of a recipe, and what they were trained with."""

    asked: Asked
    folds: tuple["Fold", ...]

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        from models.training.folds import summary

        return {
            "recipe": self.asked.recipe.name,
            "hyper_parameters": self.asked.hyper_parameters.as_dict(),
            "seed": self.asked.chosen_seed,
            "folds": [fold.as_dict() for fold in self.folds],
            "summary": summary(self.folds),
        }


def cross_validation(
    asked: Asked, datasets: Sequence[Callable[[], "Dataset"]], threads: int, read: "ReadImage"
) -> CrossValidation:
    """Train and test every fold.

    Raises
    ------
    typer.Exit
        If it was interrupted.
    """
    from models.training.folds import cross_validate
    from models.training.progress import TrainingProgress
    from models.training.train import StoppedError, train

    done: list[Fold] = []
    with until_interrupted() as stop:

        def fit(dataset: "Dataset", checkpoints: "Checkpoints") -> "Fit":
            err.print(f"fold {len(done) + 1} of {len(datasets)}", highlight=False)
            show_films(dataset)
            with TrainingProgress(err) as progress:
                return train(
                    asked.recipe,
                    dataset,
                    hyper_parameters=asked.hyper_parameters,
                    seed=asked.chosen_seed,
                    backbone_weights=asked.weights,
                    checkpoints=checkpoints,
                    threads=threads,
                    read=read,
                    watch=progress.watch,
                    stop=stop,
                )

        try:
            done.extend(cross_validate(asked.recipe, datasets, fit, threads=threads, read=read))
        except (StoppedError, KeyboardInterrupt):
            say(f"stopped in fold {len(done) + 1} of {len(datasets)}; nothing was kept")
            raise typer.Exit(INTERRUPTED) from None
    return CrossValidation(asked, tuple(done))
