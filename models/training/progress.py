"""Training on a terminal: the epoch, the loss and the time that is left; a line an epoch where there is no terminal."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from models.training.train import Epoch, Step


class TrainingProgress:
    """A context manager whose `watch` is handed to `train`.

    Parameters
    ----------
    console
        Where to; commands write to standard error, so that standard output carries results only.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("training", total=None)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def watch(self, event: Step | Epoch) -> None:
        """Show a step or an epoch."""
        if isinstance(event, Step):
            self._progress.update(
                self._task,
                description=f"epoch {event.epoch} of {event.epochs}, loss {event.loss:.3f}",
                completed=(event.epoch - 1) * event.batches + event.batch,
                total=event.epochs * event.batches,
            )
            return
        self._console.print(
            f"epoch {event.number}: training loss {event.train_loss:.3f}, validation loss {event.val_loss:.3f},"
            f" validation accuracy {event.val_accuracy:.3f}, {event.seconds:.0f} s",
            highlight=False,
            soft_wrap=True,
        )
