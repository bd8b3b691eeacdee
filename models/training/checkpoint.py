"""Everything that a broken-off training run needs to go on, written whole or not at all.

`state.npz` holds the arrays and, as JSON, the rest; it is replaced after each epoch, and names the epoch whose network
is the best so far. That network lies beside it.
"""

import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import DataError, RecipeError
from models.training.dataset import Dataset
from models.training.history import Epoch, best_of
from models.training.hyperparameters import HyperParameters
from models.training.learner import Learner
from models.training.recipes import TrainingRecipe

STATE = "state.npz"
LEARNER = "learner/"

Batch = tuple[float, float, int]
"""Loss, accuracy and films of a batch."""


@dataclass(frozen=True)
class Identity:
    """What a run is: one that goes on has to be the same in all of it."""

    recipe: dict[str, str]
    hyper_parameters: dict[str, int | float | str]
    seed: int
    data: str

    def settings(self) -> HyperParameters:
        """Return the hyper-parameters.

        Raises
        ------
        RecipeError
            If they are not those that there are now.
        """
        try:
            return HyperParameters(**self.hyper_parameters)  # type: ignore[arg-type]
        except TypeError as error:
            raise RecipeError(f"the run was begun with other hyper-parameters than there are now: {error}") from None

    @classmethod
    def of(cls, recipe: TrainingRecipe, dataset: Dataset, hyper_parameters: HyperParameters, seed: int) -> "Identity":
        """Return the identity of a run."""
        facts = (
            "name", "architecture", "preprocessing", "input", "window", "frame_policy", "output", "label_names",
            "head_from",
        )  # fmt: skip
        return cls(
            recipe={fact: str(getattr(recipe, fact)) for fact in facts},
            hyper_parameters=hyper_parameters.as_dict(),
            seed=seed,
            data=dataset.fingerprint(),
        )

    def refuse_other(self, begun: "Identity", where: Path) -> None:
        """Raise if a run was begun as another.

        Raises
        ------
        RecipeError
            Saying in what they differ.
        """
        pairs: dict[str, tuple[object, object]] = {"seed": (begun.seed, self.seed)}
        pairs |= {f"recipe's {name}": (begun.recipe.get(name), value) for name, value in self.recipe.items()}
        names = [*begun.hyper_parameters, *(set(self.hyper_parameters) - set(begun.hyper_parameters))]
        pairs |= {name: (begun.hyper_parameters.get(name), self.hyper_parameters.get(name)) for name in names}
        differences = [f"{name} was {before}, is {now}" for name, (before, now) in pairs.items() if before != now]
        remedy = "give what it began with"
        if begun.data != self.data:
            differences.append("the films, their labels or their splits are others")
            remedy += ", and give --data as it was then, with the same names, labels and splits"
        if differences:
            raise RecipeError(
                f"{where}: this run was begun otherwise: {'; '.join(differences)}; {remedy}; or begin a new run without"
                f" --resume: what it has learnt stays in {where} until you remove it"
            )


@dataclass(frozen=True)
class Run:
    """How far a run is.

    `learnt` are the batches learnt of the epoch after those of the history; `kept` the layers whose weights stay as
    they began; `facts` whatever else is kept of it.
    """

    identity: Identity
    history: tuple[Epoch, ...] = ()
    learnt: tuple[Batch, ...] = ()
    seconds: float = 0.0
    kept: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


class Checkpoints:
    """The state of one run in a folder of its own.

    Parameters
    ----------
    folder
        Where; made when there is something to keep.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def best(self, epoch: int) -> Path:
        """Return where the network of an epoch lies, if it was the best so far."""
        return self.folder / f"best-{epoch:04d}.keras"

    def there(self) -> bool:
        """Whether anything was kept."""
        return (self.folder / STATE).is_file()

    def save(self, run: Run, learner: Learner) -> None:
        """Write everything; the network too if the last epoch is the best one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        best = self._save_best(run, learner)
        about = {
            "identity": vars(run.identity),
            "history": [epoch.as_dict() for epoch in run.history],
            "learnt": run.learnt,
            "seconds": run.seconds,
            "kept": run.kept,
            "facts": dict(run.facts),
        }
        arrays = {f"{LEARNER}{name}": array for name, array in learner.arrays().items()}
        arrays["about"] = np.frombuffer(json.dumps(about).encode(), np.uint8)
        with _replacing(self.folder / STATE) as path:
            np.savez(path, **arrays)  # type: ignore[arg-type]
        self._remove_but(best)

    def _save_best(self, run: Run, learner: Learner) -> Epoch | None:
        best = best_of(run.history)
        if best and best.number == len(run.history) and not run.learnt:
            with _replacing(self.best(best.number)) as path:
                learner.save(path)
        return best

    def _remove_but(self, best: Epoch | None) -> None:
        for old in self.folder.glob("best-*.keras"):
            if best is None or old != self.best(best.number):
                old.unlink()

    def run(self) -> Run:
        """Return how far the run is.

        Raises
        ------
        DataError
            If there is nothing, or nothing that can be read.
        """
        with self._opened() as arrays:
            about = json.loads(bytes(arrays["about"]))
            return Run(
                identity=Identity(**about["identity"]),
                history=tuple(Epoch(**epoch) for epoch in about["history"]),
                learnt=tuple((loss, accuracy, films) for loss, accuracy, films in about["learnt"]),
                seconds=about["seconds"],
                kept=tuple(about["kept"]),
                facts=about["facts"],
            )

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return what `Learner.arrays` gave.

        Raises
        ------
        DataError
            If there is nothing, or nothing that can be read.
        """
        with self._opened() as arrays:
            return {name.removeprefix(LEARNER): arrays[name] for name in arrays.files if name.startswith(LEARNER)}

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        path = self.folder / STATE
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
                yield arrays
        except FileNotFoundError:
            raise DataError(f"{self.folder}: no training run was broken off here; {STATE} is missing") from None
        except (OSError, KeyError, TypeError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise DataError(f"{path}: the state of the training run cannot be read: {error}") from None


class Passing(Checkpoints):
    """A run that nobody will go on with, as a fold's: its best network is written, and the state stays in memory."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._run: Run | None = None

    def there(self) -> bool:
        """Whether anything was learnt."""
        return self._run is not None

    def save(self, run: Run, learner: Learner) -> None:
        """Keep how far the run is; write the network if the last epoch is the best one."""
        self._remove_but(self._save_best(run, learner))
        self._run = run

    def run(self) -> Run:
        """Return how far the run is.

        Raises
        ------
        DataError
            If nothing was learnt.
        """
        if self._run is None:
            raise DataError(f"{self.folder}: nothing was learnt here")
        return self._run


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Give a path to write to; what is written there takes the place of `path`, whole and on disk, or not at all."""
    new = path.with_name(f"new-{path.name}")
    try:
        yield new
        with new.open("rb") as stream:
            os.fsync(stream.fileno())
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
