"""`firstread models train --folds` and `--leave-one-source-out`: figures on other patients, and in other hospitals."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from worker.commands.model_training_plan import Asked
from worker.commands.model_training_run import INTERRUPTED, show_films, until_interrupted
from worker.commands.model_training_views import fold_line, folds_table
from worker.commands.output import complain, err, out, print_json, say, tell

if TYPE_CHECKING:
    from models.training.checkpoint import Checkpoints
    from models.training.dataset import Dataset, ReadImage
    from models.training.folds import Fold
    from models.training.train import Fit


@dataclass(frozen=True)
class CrossValidation:
    """The folds of a recipe, what they were trained with, and what there is no fold of, in sentences."""

    asked: Asked
    folds: tuple["Fold", ...]
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        from models.training.folds import summary

        return {
            "recipe": self.asked.recipe.name,
            "hyper_parameters": self.asked.hyper_parameters.as_dict(),
            "seed": self.asked.chosen_seed,
            "folds": [fold.as_dict() for fold in self.folds],
            "summary": summary(self.folds),
            "notes": list(self.notes),
        }


def cross_validation(
    asked: Asked,
    datasets: Mapping[str, Callable[[], "Dataset"]],
    threads: int,
    read: "ReadImage",
    notes: Sequence[str] = (),
) -> CrossValidation:
    """Train and test every fold.

    Parameters
    ----------
    datasets
        By the name of the fold, what loads it.
    notes
        What there is no fold of.

    Raises
    ------
    typer.Exit
        If it was interrupted; the figures of the finished folds are shown then.
    """
    from models.training.enough import refuse_too_few
    from models.training.folds import cross_validate
    from models.training.progress import TrainingProgress
    from models.training.train import StoppedError, train

    done: list[Fold] = []
    names = list(datasets)
    with until_interrupted() as stop:

        def fit(dataset: "Dataset", checkpoints: "Checkpoints") -> "Fit":
            tell(f"fold {names[len(done)]}, {len(done) + 1} of {len(datasets)}")
            show_films(dataset)
            refuse_too_few(dataset)
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
            for fold in cross_validate(asked.recipe, datasets, fit, threads=threads, read=read):
                done.append(fold)  # at once: what is finished outlives a Ctrl-C in a later fold
                tell(fold_line(fold))
        except (StoppedError, KeyboardInterrupt):
            where = f"stopped in fold {len(done) + 1} of {len(datasets)}"
            complain(f"{where}; of the finished ones:" if done else f"{where}; no fold was finished")
            if done:
                err.print(folds_table(done), highlight=False)
            raise typer.Exit(INTERRUPTED) from None
    return CrossValidation(asked, tuple(done), tuple(notes))


def show_folds(found: CrossValidation, *, as_json: bool) -> None:
    """Print a cross-validation as a table, or as JSON."""
    if as_json:
        print_json(found.as_dict())
        return
    out.print(folds_table(found.folds), highlight=False)
    for note in found.notes:
        say(note)
