"""Whether films are enough to train on: asked before the work, so that hours of it do not end in a refusal."""

from models.errors import DataError
from models.training.dataset import Dataset
from models.training.film import Split

LEARNT: tuple[Split, ...] = ("train", "val")
"""Splits that need a film of every label: a network cannot learn what it is not shown, and epoch, temperature and
thresholds are chosen on validation."""


def refuse_too_few(dataset: Dataset) -> None:
    """Raise unless every label is in training and in validation, and there is a film to test on.

    Raises
    ------
    DataError
        Naming each split and what it lacks.
    """
    counts = dataset.counts()
    lacking = []
    for split in LEARNT:
        absent = [label for label, films in counts[split].items() if films == 0]
        if absent:
            lacking.append(f"split={split} has no film of {', '.join(absent)}")
    if not any(counts["test"].values()):
        lacking.append("split=test has no film")
    if lacking:
        raise DataError(
            f"{dataset.root}: {'; '.join(lacking)}. Training needs films of every label ({', '.join(dataset.labels)})"
            " in train and in val, and films in test: add films of other patients, or split those there are otherwise"
        )
