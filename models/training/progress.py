"""Training on a terminal: epoch, losses, the time that is left; a line an epoch where there is no terminal."""

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from models.training.history import Epoch, Preparation, Step


class TrainingProgress:
    """A context manager whose `watch` is handed to `train`.

    Parameters
    ----------
    console
        Where to; commands write to standard error, so that standard output carries results only.
    history
        Epochs of a run that goes on.
    """

    def __init__(self, console: Console, history: Sequence[Epoch] = ()) -> None:
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
            speed_estimate_period=300,
        )
        self._task = self._progress.add_task("training", total=None)
        self._what = ""
        self._epochs = 0
        self._seen = [*history]

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def watch(self, event: Preparation | Step | Epoch) -> None:
        """Show what is prepared, a step or an epoch."""
        match event:
            case Preparation():
                self._prepared(event)
            case Step():
                self._step(event)
            case Epoch():
                self._epoch(event)

    def _prepared(self, event: Preparation) -> None:
        self._begun(event.what)
        self._progress.update(self._task, completed=event.done, total=event.total)

    def _step(self, event: Step) -> None:
        self._epochs = event.epochs
        self._begun("training")
        losses = f"loss {event.loss:.3f}" + (f", validation {self._seen[-1].val_loss:.3f}" if self._seen else "")
        self._progress.update(
            self._task,
            description=f"epoch {event.epoch} of {event.epochs}, {losses}",
            completed=(event.epoch - 1) * event.batches + event.batch,
            total=event.epochs * event.batches,
        )

    def _epoch(self, event: Epoch) -> None:
        best = not self._seen or event.val_loss < min(epoch.val_loss for epoch in self._seen)
        self._seen.append(event)
        left = (self._epochs - event.number) * sum(epoch.seconds for epoch in self._seen) / len(self._seen)
        self._console.print(
            f"epoch {event.number} of {self._epochs}: loss {event.train_loss:.3f}, validation loss {event.val_loss:.3f}"
            f"{' (best)' if best else ''}, validation accuracy {event.val_accuracy:.3f},"
            f" {duration(event.seconds)}, {duration(left)} left at most",
            highlight=False,
            soft_wrap=True,
        )

    def _begun(self, what: str) -> None:
        """Begin another bar, or where there is no terminal, say so once."""
        if what == self._what:
            return
        self._what = what
        self._progress.reset(self._task, description=what)
        if not self._console.is_terminal:
            self._console.print(f"{what} ...", highlight=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """Write a time as hours, minutes or seconds."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{whole} s"
