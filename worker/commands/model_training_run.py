"""One run of `firstread models train`: what is shown, how it is stopped, and what is left of it then."""

import shlex
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from types import FrameType
from typing import TYPE_CHECKING

import typer

from models.registry import Package
from worker.commands.model_common import bar
from worker.commands.model_conversion import with_onnx
from worker.commands.model_training_plan import Plan
from worker.commands.model_training_views import balance_table, end_line
from worker.commands.output import complain, err, tell

if TYPE_CHECKING:
    from models.training.dataset import Dataset, ReadImage
    from models.training.run_folder import RunFolder
    from models.training.train import Fit

INTERRUPTED = 130
"""Exit code after Ctrl-C, as of a shell: 128 and the number of SIGINT."""


def show_films(dataset: "Dataset") -> None:
    """Show the balance of the films, and what was noted as they were found."""
    err.print(balance_table(dataset), highlight=False)
    for note in dataset.notes:
        tell(note)


def run_to_package(
    plan: Plan, dataset: "Dataset", *, threads: int, read: "ReadImage", finish: bool, again: Sequence[str]
) -> Package:
    """Train, or go on, and make the package.

    Parameters
    ----------
    finish
        Learn no more.
    again
        Arguments of the command with which somebody would go on.

    Raises
    ------
    typer.Exit
        If it was interrupted, or this backend trains and does not serve.
    """
    from models.backend import load_keras
    from models.training.pack import pack
    from models.training.provenance import peak_memory
    from models.training.train import StoppedError

    command = shlex.join(["firstread", "models", "train", *again, "--resume", "--run", str(plan.folder.path)])
    with plan.folder, ExitStack() as stack:
        tell(f"working in {plan.folder.path}")
        try:
            fit = _fitted(plan, dataset, threads, read, finish=finish)
            tell(end_line(fit, peak_memory()))
            backend = load_keras().backend.backend()
            if backend != "tensorflow":
                tell(f"{backend} has trained the network; the package is made with TensorFlow:\n"
                      f"  KERAS_BACKEND=tensorflow {command}")  # fmt: skip
                raise typer.Exit(0)
            made = pack(
                plan.recipe,
                dataset,
                fit,
                plan.folder.package,
                hyper_parameters=plan.hyper_parameters,
                seed=plan.seed,
                provenance=plan.provenance,
                threads=threads,
                read=read,
                watch=bar(stack, "evaluating"),
            )
            with_onnx(made)
        except (StoppedError, KeyboardInterrupt) as stopped:
            complain(str(stopped) or "stopped")
            _say_what_is_left(plan.folder, command)
            raise typer.Exit(INTERRUPTED) from None
        return plan.folder.finish()


def _fitted(plan: Plan, dataset: "Dataset", threads: int, read: "ReadImage", *, finish: bool) -> "Fit":
    from models.training.progress import TrainingProgress
    from models.training.train import train

    kept = plan.folder.checkpoints
    with until_interrupted() as stop, TrainingProgress(err, kept.run().history if kept.there() else ()) as progress:
        return train(
            plan.recipe,
            dataset,
            hyper_parameters=plan.hyper_parameters,
            seed=plan.seed,
            backbone_weights=plan.weights,
            checkpoints=kept,
            threads=threads,
            read=read,
            watch=progress.watch,
            stop=stop,
            finish=finish,
            facts={"provenance": asdict(plan.provenance)},
        )


@contextmanager
def until_interrupted() -> Iterator[Callable[[], bool]]:
    """Let the first Ctrl-C ask, and only the second one break; gives what says whether it was asked."""
    asked = False

    def note(_signal: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        complain("stopping after this step; Ctrl-C once more stops at once")

    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)


def _say_what_is_left(folder: "RunFolder", command: str) -> None:
    from models.training.history import best_of

    if not folder.checkpoints.there():
        complain("nothing had been learnt yet, so nothing was kept")
        return
    complain(f"kept in {folder.path}; to go on:\n  {command}")
    best = best_of(folder.checkpoints.run().history)
    if best:
        about = f"epoch {best.number}, the best so far, with a validation loss of {best.val_loss:.3f}"
        complain(f"to make a package of {about}:\n  {command} --finish")
