"""What is decided on the validation patients after training: the temperature, and the operating thresholds."""

import math

import numpy as np
from numpy.typing import NDArray

from models.errors import DataError
from models.temperature import Probabilities, tempered


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
