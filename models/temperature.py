"""A card's temperature: put on what a network says, and taken off again. One formula for training and serving.

C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, "On Calibration of Modern Neural Networks", ICML 2017.
"""

import numpy as np
from numpy.typing import NDArray

from models.preprocessing import FloatArray

Probabilities = NDArray[np.float32] | NDArray[np.float64]


def calibrated(given: FloatArray, temperature: float, output: str) -> FloatArray:
    """Make probabilities of a card's labels of what its network's last layer gives.

    Row by row, so that a row comes out the same to the bit in any company: over a whole batch, NumPy computes what is
    left over at the end of it with other instructions.

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
    return np.concatenate([tempered(raw[i : i + 1], temperature, output) for i in range(len(raw))]).astype(np.float32)


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
    exact = probabilities.astype(np.float64)
    bounded = np.clip(exact, 1e-12, 1.0)  # where the classifier bounds them
    return _raised(bounded, np.clip(1.0 - exact, 1e-12, 1.0), 1.0 / temperature, output)


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
    exact = probabilities.astype(np.float64)
    return _raised(exact, 1.0 - exact, temperature, output)


def _raised(
    probabilities: NDArray[np.float64], others: NDArray[np.float64], power: float, output: str
) -> NDArray[np.float64]:
    powers = probabilities**power
    whole = powers + others**power if output == "sigmoid" else powers.sum(axis=1, keepdims=True)
    return np.asarray(powers / whole)
