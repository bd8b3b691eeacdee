"""The running average of a network's weights, which is steadier than the last step's.

B. T. Polyak, A. B. Juditsky, "Acceleration of Stochastic Approximation by Averaging", SIAM J. Control Optim. 30(4),
1992. Keras's own (`use_ema`) begins at the first step with its full memory and so drags the random head along for
epochs; here the memory is short at first.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from models.backend import load_keras


class RunningAverage:
    """The average of the trainable weights of a network over its steps.

    Parameters
    ----------
    model
        keras.Model.
    decay
        Memory: share of the average that a step leaves as it is; 0 for no average at all.
    """

    def __init__(self, model: Any, decay: float) -> None:
        keras = load_keras()
        self._decay = decay
        self._weights = model.trainable_variables if decay else []
        # Copies: JAX gives the memory of a network's weights to the step that changes them.
        self.variables = [keras.Variable(keras.ops.copy(weight), trainable=False) for weight in self._weights]

    def update(self, steps: int) -> None:
        """Take the weights into the average after a step.

        Parameters
        ----------
        steps
            Steps so far, this one among them.
        """
        keep = min(self._decay, (1.0 + steps) / (10.0 + steps))
        for average, weight in zip(self.variables, self._weights, strict=True):
            average.assign(keep * average + (1.0 - keep) * weight)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the average into the network for as long as the context lasts; without an average, nothing changes."""
        keras = load_keras()
        held = [keras.ops.copy(weight) for weight in self._weights]
        for weight, average in zip(self._weights, self.variables, strict=True):
            weight.assign(average)
        try:
            yield
        finally:
            for weight, value in zip(self._weights, held, strict=True):
                weight.assign(value)
