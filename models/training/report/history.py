"""How the training of a package went, from its `evaluation/training.json`."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

SERIES = {
    "loss": {"training": "train_loss", "validation": "val_loss"},
    "accuracy": {"training": "train_accuracy", "validation": "val_accuracy"},
}
"""Figure and series to the name of the column in an epoch's row."""


@dataclass(frozen=True)
class History:
    """Epochs of a training run: figure to series to (epoch, value); `missing` says why there are none."""

    curves: dict[str, dict[str, list[tuple[float, float]]]]
    best: int | None = None
    missing: str | None = None

    def rows(self) -> list[tuple[int, dict[str, float]]]:
        """Return the values of each epoch by "figure, series", for the table."""
        found: dict[int, dict[str, float]] = {}
        for what, series in self.curves.items():
            for name, points in series.items():
                for epoch, value in points:
                    found.setdefault(int(epoch), {})[f"{what}, {name}"] = value
        return sorted(found.items())

    def columns(self) -> list[str]:
        """Return the names under which `rows` has values."""
        return [f"{what}, {name}" for what, series in self.curves.items() for name in series]


def read_history(package: Path) -> History:
    """Read how a package was trained; a user's own package may have been trained by anything."""
    path = package / "evaluation" / "training.json"
    try:
        told = json.loads(path.read_bytes())
        rows = [{str(name): value for name, value in row.items() if _number(value)} for row in told["epochs"]]
        best = told.get("best_epoch")
    except FileNotFoundError:
        return History({}, missing="The package does not say how it was trained: it holds no evaluation/training.json.")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return History({}, missing=f"The package's evaluation/training.json cannot be read: {error!r}.")
    curves: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for what, series in SERIES.items():
        for name, column in series.items():
            points = [(float(row["number"]), float(row[column])) for row in rows if {"number", column} <= row.keys()]
            if points:
                curves.setdefault(what, {})[name] = points
    if not curves:
        return History({}, missing="The package's evaluation/training.json holds no epoch with a loss or an accuracy.")
    return History(curves, best=best if isinstance(best, int) else None)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
