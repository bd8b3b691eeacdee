"""Training: films in, the weights that did best on the validation patients out."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from models.architectures.weights import BackboneWeights
from models.backend import load_keras
from models.errors import DataError, ModelError
from models.preprocessing import load_picture
from models.training.checkpoint import Checkpoints, Identity, Run
from models.training.dataset import Dataset, ReadImage
from models.training.feed import Feed, class_weights
from models.training.history import Epoch, Preparation, Step, Watch, best_of, is_over
from models.training.hyperparameters import HyperParameters
from models.training.learner import Learner, restore_network
from models.training.material import material
from models.training.objective import balanced_loss
from models.training.recipes import TrainingRecipe


class StoppedError(ModelError):
    """A run was asked to stop, and did, after the step it was in."""


@dataclass(frozen=True)
class Fit:
    """A training run that has ended, or is ended here: its best network so far, and how it went.

    `weights` is the archive of the network.
    """

    weights: Path
    history: tuple[Epoch, ...]
    best_epoch: int
    seconds: float

    def network(self) -> Any:
        """Load the network."""
        return load_keras().models.load_model(self.weights, compile=False, safe_mode=True)


def train(
    recipe: TrainingRecipe,
    dataset: Dataset,
    *,
    hyper_parameters: HyperParameters,
    seed: int,
    backbone_weights: BackboneWeights,
    checkpoints: Checkpoints,
    threads: int = 2,
    read: ReadImage = load_picture,
    watch: Watch = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
    finish: bool = False,
    facts: Mapping[str, Any] | None = None,
) -> Fit:
    """Train a recipe's network, or go on where a run was broken off; the epoch with the least validation loss is kept.

    What is validated and kept is the running average of the weights where the hyper-parameters have one. Training ends
    when `patience` epochs brought no better validation loss. All that chance decides comes from seed, epoch and film,
    so a run that was broken off, at whatever moment, ends as one that was not, but for float noise.

    Parameters
    ----------
    checkpoints
        Where the state is kept after every epoch; where there is one already, the run goes on from there.
    threads
        Threads that read and prepare films.
    read
        Reader of a film; a reader that takes DICOM too is handed in by the caller.
    watch
        Called with each `Preparation`, `Step` and `Epoch`.
    stop
        Asked after every step, and while films are prepared; when it says yes, the state is kept and the run stops.
    finish
        Learn no more: end the run as it stands.
    facts
        Kept with the state, for whoever goes on with the run.

    Raises
    ------
    StoppedError
        If it was stopped.
    DataError
        If a split is empty, a class has no training film, or a film cannot be read.
    RecipeError
        If the backbone weights do not fit, or the run was begun with another recipe, other hyper-parameters, another
        seed or other films.
    """
    identity = Identity.of(recipe, dataset, hyper_parameters, seed)
    goes_on = checkpoints.there()
    run = replace(checkpoints.run() if goes_on else Run(identity), facts=facts or {})
    identity.refuse_other(run.identity, checkpoints.folder)
    if finish or is_over(run.history, hyper_parameters):
        return fit_of(checkpoints)
    began = time.monotonic() - run.seconds
    load_keras().utils.set_random_seed(seed)
    shape, arrays = recipe.input, checkpoints.arrays() if goes_on else {}
    network = recipe.build(
        shape.rows, shape.columns, shape.channels, recipe.units, None if goes_on else backbone_weights
    )
    if goes_on:
        for layer in network.layers:  # built without published weights it would train what these keep
            layer.trainable = layer.name not in run.kept
        restore_network(network, arrays)
    else:
        run = replace(run, kept=tuple(layer.name for layer in network.layers if not layer.trainable))

    def tick(what: str, done: int, total: int) -> None:
        watch(Preparation(what, done, total))
        if stop():
            raise StoppedError(f"stopped at the {what}, {done} of {total}")

    fed = material(
        recipe,
        dataset,
        network,
        augmentation=hyper_parameters.augmentation,
        read=read,
        threads=threads,
        tick=tick,
    )
    val_y = np.asarray(dataset.targets(dataset.split("val")))
    val_weights = class_weights(dataset, "none" if hyper_parameters.balance == "none" else "weights")
    feed = Feed(dataset, fed.inputs, hyper_parameters, seed=seed, threads=threads)
    learner = Learner(network, fed.trained, recipe.output, hyper_parameters, feed.batches)
    if goes_on:
        learner.restore(arrays)
        arrays.clear()
    while not is_over(run.history, hyper_parameters):
        number, start = len(run.history) + 1, time.monotonic()
        for batch in feed.epoch(number, first=len(run.learnt)):
            loss, accuracy = learner.step(batch)
            run = replace(run, learnt=(*run.learnt, (loss, accuracy, len(batch[0]))))
            watch(Step(number, hyper_parameters.epochs, len(run.learnt), feed.batches, loss))
            if stop():
                checkpoints.save(replace(run, seconds=time.monotonic() - began), learner)
                raise StoppedError(f"stopped in epoch {number}, after {len(run.learnt)} of {feed.batches} batches")
        val_loss, val_accuracy = balanced_loss(learner.probabilities(fed.validation), val_y, val_weights, recipe.output)
        losses, accuracies, films = zip(*run.learnt, strict=True)
        epoch = Epoch(
            number=number,
            train_loss=float(np.average(losses, weights=films)),
            train_accuracy=float(np.average(accuracies, weights=films)),
            val_loss=val_loss,
            val_accuracy=val_accuracy,
            learning_rate=learner.learning_rate,
            seconds=time.monotonic() - start,
        )
        run = replace(run, history=(*run.history, epoch), learnt=(), seconds=time.monotonic() - began)
        checkpoints.save(run, learner)
        watch(epoch)
    return fit_of(checkpoints)


def fit_of(checkpoints: Checkpoints) -> Fit:
    """Return what a run gave so far.

    Raises
    ------
    DataError
        If no epoch of it was finished, or none with a validation loss that is a number.
    """
    run = checkpoints.run()
    best = best_of(run.history)
    if best is None:
        raise DataError(
            f"{checkpoints.folder}: the validation loss was never a number in {len(run.history)} epochs; a lower"
            " learning rate may help"
            if run.history
            else f"{checkpoints.folder}: no epoch of this run was finished, so there is no network to keep"
        )
    return Fit(checkpoints.best(best.number), run.history, best.number, run.seconds)
