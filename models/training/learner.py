"""A network as it learns: a step after the other, the running average beside it, and all of it as arrays."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.backend import keras_arrays, load_keras
from models.errors import RecipeError
from models.preprocessing import FloatArray
from models.training.average import RunningAverage
from models.training.feed import Batch
from models.training.hyperparameters import HyperParameters
from models.training.objective import compile_for, raw_probabilities

STEPS = "steps"


class Learner:
    """What is trained, and what trains it.

    Parameters
    ----------
    network
        keras.Model that becomes the package.
    trained
        The part of it that learns and is fed: the network itself, or its head.
    output
        `softmax`, `sigmoid` or `binary`.
    hyper_parameters
        Everything but what the feed does.
    batches
        Batches in an epoch.
    """

    def __init__(
        self, network: Any, trained: Any, output: str, hyper_parameters: HyperParameters, batches: int
    ) -> None:
        self._network = network  # stays without loss and optimizer, which a package has no use for
        self._trained = load_keras().Model(trained.inputs[0], trained.outputs[0])
        self._output = output
        compile_for(self._trained, output, hyper_parameters, batches)
        self._trained.optimizer.build(self._trained.trainable_variables)
        self._average = RunningAverage(self._trained, hyper_parameters.average_decay)
        self._steps = 0

    @property
    def learning_rate(self) -> float:
        """Of the next step."""
        with keras_arrays():
            return float(load_keras().ops.convert_to_numpy(self._trained.optimizer.learning_rate))

    def step(self, batch: Batch) -> tuple[float, float]:
        """Learn from a batch.

        Returns
        -------
        tuple
            Its loss, with everything that is minimised, and its accuracy, both before the step.
        """
        x, y, weight = batch
        self._trained.reset_metrics()
        truth = y[:, 1:] if self._output == "binary" else y
        told = self._trained.train_on_batch(x, truth, sample_weight=weight, return_dict=True)
        self._steps += 1
        self._average.update(self._steps)
        return float(told["loss"]), float(told["accuracy"])

    def probabilities(self, inputs: FloatArray) -> FloatArray:
        """Ask the averaged network; inputs of what is trained, float32 (N, L) out."""
        with self._average.in_place():
            return raw_probabilities(self._trained, inputs, self._output)

    def save(self, path: Path) -> None:
        """Write the averaged network, whole, as a `.keras` archive."""
        with self._average.in_place(), keras_arrays():
            self._network.save(path)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return weights, seeds of what is dropped, state of the optimizer and average, by name.

        The weights are those of the whole network: where a head learns, those of its backbone too.
        """
        taken = load_keras().ops.convert_to_numpy
        with keras_arrays():
            found = {name: np.asarray(taken(variable)) for name, variable in self._variables().items()}
        return found | {STEPS: np.asarray(self._steps)}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Go on from what `arrays` returned.

        Raises
        ------
        RecipeError
            If they are of another network or optimizer.
        """
        _assign(self._variables(), {name: array for name, array in arrays.items() if name != STEPS})
        self._steps = int(arrays[STEPS])

    def _variables(self) -> dict[str, Any]:
        return (
            _named("network", self._network.variables)
            | _named("optimizer", self._trained.optimizer.variables)
            | _named("average", self._average.variables)
        )


def restore_network(network: Any, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Give a network the weights that `Learner.arrays` returned, before a learner is made of it.

    Raises
    ------
    RecipeError
        If they are of another network.
    """
    _assign(
        _named("network", network.variables),
        {name: array for name, array in arrays.items() if name.startswith("network/")},
    )


def _named(part: str, variables: Sequence[Any]) -> dict[str, Any]:
    return {f"{part}/{index}": variable for index, variable in enumerate(variables)}


def _assign(variables: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    expected = {name: tuple(variable.shape) for name, variable in variables.items()}
    if expected != {name: array.shape for name, array in arrays.items()}:
        raise RecipeError("the saved state is of another network or optimizer: the code was changed since")
    for name, variable in variables.items():
        variable.assign(arrays[name])
