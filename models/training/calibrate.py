"""What is decided on the validation patients after training: the temperature, and the operating thresholds."""

import math

import numpy as np
from numpy.typing import NDArray

from models.errors import DataError

Probabilities = NDArray[np.float32] | NDArray[np.float64]


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


def fit_temperature(probabilities: Probabilities, targets: NDArray[np.int_], output: str) -> float:
    """Find the temperature between 0.25 and 4 under which the labels are most likely, to two decimals.

    C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, "On Calibration of Modern Neural Networks", ICML 2017: a single number,
    so that the order of the labels cannot change and little can be over-fitted. The likelihood has one maximum in the
    inverse temperature, so the candidates are simply tried.
    """
    truth = np.eye(probabilities.shape[1])[targets]

    def surprise(temperature: float) -> float:
        found = np.clip(tempered(probabilities, temperature, output), 1e-12, 1 - 1e-12)
        loss = -(truth * np.log(found)).sum()
        return float(loss - ((1 - truth) * np.log1p(-found)).sum() if output == "sigmoid" else loss)

    return min((round(step / 100, 2) for step in range(25, 401)), key=surprise)


def threshold_for_sensitivity(
    probabilities: Probabilities, positive: NDArray[np.bool_], sensitivity: float, highest: float
) -> float:
    """Choose the highest threshold at which a share `sensitivity` of the positives is flagged, at most `highest`.

    Rounded down to three decimals, so that what the card shows is what is compared with.

    Parameters
    ----------
    probabilities
        (N,), of the label.
    positive
        (N,), whether the image has the label.
    sensitivity
        Share of positives to be flagged, 0 to 1.
    highest
        Never above this: a finding that is more likely than not is flagged.

    Raises
    ------
    DataError
        If there is no positive.
    """
    hits = np.sort(probabilities[positive])[::-1]
    if hits.size == 0:
        raise DataError("a threshold cannot be chosen: no validation image has the label")
    last = float(hits[math.ceil(sensitivity * hits.size) - 1])
    return max(0.001, math.floor(min(last, highest) * 1000) / 1000)
