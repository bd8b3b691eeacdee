"""A run tells how far it is, on a terminal and in a log."""

import io

import pytest
from rich.console import Console

from models.training.history import Epoch, Preparation, Step
from models.training.progress import TrainingProgress, duration


def epoch(number: int, val_loss: float) -> Epoch:
    return Epoch(number, 0.7, 0.6, val_loss, 0.8, 1e-3, 40.0)


def shown(*history: Epoch, terminal: bool) -> str:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=200)
    with TrainingProgress(console, history) as progress:
        for done in (1, 2):
            progress.watch(Preparation("validation films", done, 2))
        for number, loss in ((1, 0.5), (2, 0.4)):
            for batch in (1, 2):
                progress.watch(Step(number, 4, batch, 2, 0.71))
            progress.watch(epoch(number, loss))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_log_gets_a_line_an_epoch() -> None:
    assert shown(epoch(0, 0.45), terminal=False).splitlines() == [
        "validation films ...",
        "training ...",
        "epoch 1 of 4: loss 0.700, validation loss 0.500, validation accuracy 0.800, 40 s, 2 min 0 s left at most",
        "epoch 2 of 4: loss 0.700, validation loss 0.400 (best), validation accuracy 0.800, 40 s, 1 min 20 s left at"
        " most",
    ]


def test_a_terminal_gets_a_bar_too() -> None:
    text = shown(terminal=True)
    assert "epoch 2 of 4: loss 0.700" in text
    assert "validation films" in text
    assert "..." not in text


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0.0 s"), (9.94, "9.9 s"), (12, "12 s"), (59.6, "1 min 0 s"), (7384, "2 h 3 min")]
)
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said
