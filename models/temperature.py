"""A card's temperature: put on what a network says, and taken off again. One formula for training and serving.

C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, "On Calibration of Modern Neural Networks", ICML 2017.
"""

import numpy as np
from numpy.typing import NDArray

from models.preprocessing import FloatArray

Probabilities = NDArray[np.float32] | NDArray[np.float64]

LEAST = 1e-12
"""A probability counts as no less before its logarithm is divided: 0 has none."""


def calibrated(given: FloatArray, temperature: float, output: str) -> FloatArray:
    """Make probabilities of a card's labels of what its network's last layer gives.

    A row comes out the same to the bit in any company.

    Parameters
    ----------
    given
        float32 (N, U); the one unit of a binary network becomes two columns.
    temperature, output
        Of the card.

    Returns
    -------
    FloatArray
        float32 (N, L).
    """
    raw = np.concatenate([1.0 - given, given], axis=1) if output == "binary" else given
    if temperature == 1.0 or not len(raw):
        return raw
    return tempered(raw, temperature, output).astype(np.float32)


def tempered(probabilities: Probabilities, temperature: float, output: str) -> NDArray[np.float64]:
    """Divide the logits behind probabilities by a temperature.

    Parameters
    ----------
    probabilities
        (N, L); of a binary network both columns, which are a softmax over the two.
    temperature
        Above 1 less sure, below 1 more.
    output
        `softmax`, `sigmoid` or `binary`, as in the card.

    Returns
    -------
    NDArray[np.float64]
        (N, L).
    """
    sides = _sides(probabilities, output)
    for side in sides:
        np.minimum(np.maximum(side, LEAST, out=side), 1.0, out=side)
    return _raised(sides, 1.0 / temperature)


def untempered(probabilities: Probabilities, temperature: float, output: str) -> NDArray[np.float64]:
    """Take a temperature back, for what the network said before it.

    Exact to about 1e-6, but for sigmoids that a temperature far below 1 has made so sure that float32 holds them as 1:
    of 0.4, for example, a probability of 0.999 does not come back.

    Parameters
    ----------
    probabilities
        (N, L), as a classifier gives them.
    temperature, output
        Of its card.

    Returns
    -------
    NDArray[np.float64]
        (N, L).
    """
    return _raised(_sides(probabilities, output), temperature)


def _sides(probabilities: Probabilities, output: str) -> list[NDArray[np.float64]]:
    """Return what is weighed against each other: each sigmoid and what is left of 1, else a row within itself."""
    exact = _apart(probabilities)
    return [exact, _apart(1.0 - exact)] if output == "sigmoid" else [exact]


def _apart(rows: Probabilities) -> NDArray[np.float64]:
    """Copy rows so that one does not begin where another ends, and NumPy takes each for itself.

    Over rows without a gap it goes as over one long row, and computes the powers of what is left over at its end with
    other instructions than the rest: a row would depend on how many are beside it.
    """
    count, width = rows.shape
    apart = np.empty((count, width + 1))[:, :width]
    apart[...] = rows
    return apart


def _raised(sides: list[NDArray[np.float64]], power: float) -> NDArray[np.float64]:
    """Return the shares of the first side in all, after raising."""
    powers = [side**power for side in sides]
    first = powers[0]
    whole = np.add.reduce(first, axis=1, keepdims=True) if len(powers) == 1 else first + powers[1]
    return np.asarray(first / whole)
