"""Which run `firstread models train` is to make: a new one, or one that was broken off, and with what."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from models.architectures.weights import BackboneWeights
from models.registry import Registry, sha256_of
from worker.commands.output import tell

if TYPE_CHECKING:
    from models.training.hyperparameters import HyperParameters
    from models.training.provenance import Provenance
    from models.training.recipes import TrainingRecipe
    from models.training.run_folder import RunFolder

DEFAULT_SEED = 1


@dataclass(frozen=True)
class Asked:
    """What somebody wants trained; None: not said. `given` are hyper-parameters by name, each as text."""

    recipe: "TrainingRecipe"
    given: Mapping[str, str]
    seed: int | None
    backbone: str | None
    notes: tuple[str, ...]

    @property
    def hyper_parameters(self) -> "HyperParameters":
        """The recipe's, changed as asked."""
        return self.recipe.hyper_parameters.changed(self.given)

    @property
    def chosen_seed(self) -> int:
        """The seed of a new run."""
        return DEFAULT_SEED if self.seed is None else self.seed

    @property
    def weights(self) -> BackboneWeights:
        """What a new run begins with."""
        said = self.backbone or self.recipe.default_backbone or "none"
        if said == "imagenet":
            return "imagenet"
        return None if said == "none" else Path(said)

    @property
    def origin(self) -> str:
        """Where the weights of a new run come from, in words.

        Raises
        ------
        PackageError
            If their file cannot be read.
        """
        if not isinstance(self.weights, Path):
            return "ImageNet, by way of Keras" if self.weights else "random"
        name = f"the file {self.weights.name}"
        if not self.weights.is_file():  # the network that is to take them says so
            return name
        return f"{name}, SHA-256 {sha256_of(self.weights)}"


@dataclass(frozen=True)
class Plan:
    """A run: where, and with what."""

    recipe: "TrainingRecipe"
    folder: "RunFolder"
    hyper_parameters: "HyperParameters"
    seed: int
    weights: BackboneWeights
    provenance: "Provenance"


def changes(settings: Sequence[str], **named: float | None) -> dict[str, str]:
    """Gather the hyper-parameters that were given, as `--set NAME=VALUE` and by options of their own.

    Raises
    ------
    typer.BadParameter
        If a setting is no NAME=VALUE, or stands twice.
    """
    given = {name: str(value) for name, value in named.items() if value is not None}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise typer.BadParameter(f"{setting!r} is not NAME=VALUE, for example patience=5", param_hint="--set")
        if name in given:
            raise typer.BadParameter(f"{name} is given twice", param_hint="--set")
        given[name] = value
    return given


def new_run(asked: Asked, models_dir: Path, version: str | None, registry: Registry, *, installs: bool) -> Plan:
    """Begin a run.

    Parameters
    ----------
    models_dir
        Where its package is to be.
    registry
        Of the installed packages; where no version is asked for, the new one goes before all of its name.
    installs
        Whether the package is to be one of the installed ones at once; then its version may be none of theirs.

    Raises
    ------
    PackageError
        If that version is installed, or the file of weights cannot be read.
    DataError
        If that version is there, or the folder cannot be made.
    """
    from models.training.provenance import Provenance, git_commit, library_versions
    from models.training.run_folder import RunFolder, broken_off, next_version

    name, hyper_parameters, origin = asked.recipe.name, asked.hyper_parameters, asked.origin
    if version is None:
        cards = [package.card for package in registry.packages()]
        version = next_version(models_dir, name, [card.version for card in cards if card.name == name])
        tell(f"this will be version {version}")
    elif installs:
        registry.refuse_installed(f"{name}@{version}")
    for run in broken_off(models_dir, name):
        tell(f"{run.path}: a run of {name} was broken off here; --resume goes on with it")
    return Plan(
        recipe=asked.recipe,
        folder=RunFolder.new(models_dir, name, version),
        hyper_parameters=hyper_parameters,
        seed=asked.chosen_seed,
        weights=asked.weights,
        provenance=Provenance(origin, git_commit(), library_versions(), asked.notes),
    )


def resumed_run(asked: Asked, models_dir: Path, version: str | None, path: Path | None) -> Plan:
    """Find the run that was broken off, with what it was begun with; what is asked now is laid over it.

    Parameters
    ----------
    models_dir, version
        Where to look for it, and for which version; None: any.
    path
        The run's own folder.

    Raises
    ------
    DataError
        If there is none, or several; naming them.
    RecipeError
        If a hyper-parameter cannot be.
    """
    from models.errors import DataError
    from models.training.provenance import Provenance
    from models.training.run_folder import RunFolder, broken_off

    name = asked.recipe.name
    found = [RunFolder.at(path)] if path else broken_off(models_dir, name, version)
    if not found:
        wanted = name if version is None else f"{name}@{version}"
        raise DataError(f"{models_dir}: no run of {wanted} was broken off here that had learnt anything")
    if len(found) > 1:
        listed = "\n".join(f"  --run {run.path}  ({run.name}@{run.version}, {_far(run)})" for run in found)
        raise DataError(f"{models_dir}: {len(found)} runs of {name} were broken off here; say which one:\n{listed}")
    begun = found[0].checkpoints.run()
    provenance = Provenance(**begun.facts["provenance"])
    tell(f"{found[0].path}: going on with {found[0].name}@{found[0].version}, {_far(found[0])} done")
    return Plan(
        recipe=asked.recipe,
        folder=found[0],
        hyper_parameters=begun.identity.settings().changed(asked.given),
        seed=begun.identity.seed if asked.seed is None else asked.seed,
        weights=None,
        provenance=replace(provenance, notes=(*provenance.notes, *asked.notes)),
    )


def _far(run: "RunFolder") -> str:
    begun = run.checkpoints.run()
    return f"{len(begun.history)} of {begun.identity.hyper_parameters['epochs']} epochs"
