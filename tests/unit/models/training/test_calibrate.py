"""Temperature and thresholds are decided on validation by stated rules."""

import numpy as np
import pytest

from models.errors import DataError
from models.temperature import tempered
from models.training.calibrate import fit_temperature, threshold_for_sensitivity


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
def test_overconfidence_is_found(output: str) -> None:
    random = np.random.default_rng(2)
    logits = random.normal(0, 2, (4000, 3))
    honest = softmax(logits)
    targets = np.array([random.choice(3, p=row) for row in honest])
    if output == "softmax":
        assert fit_temperature(softmax(logits * 2), targets, output) == pytest.approx(2.0, abs=0.15)
    else:
        boasting = tempered(honest, 0.5, output)
        assert fit_temperature(boasting, targets, output) == pytest.approx(2.0, abs=0.15)


def test_the_threshold_flags_the_stated_share() -> None:
    probabilities = np.array([0.05, 0.111, 0.2, 0.3, 0.4, 0.9, 0.9, 0.9, 0.9, 0.9, 0.45])
    positive = np.array([True] * 10 + [False])
    threshold = threshold_for_sensitivity(probabilities, positive, 0.9, 0.5)
    assert threshold == 0.111
    assert (probabilities[positive] >= threshold).mean() == 0.9


def test_the_threshold_is_rounded_down_and_never_above_the_highest() -> None:
    positive = np.array([True, True])
    assert threshold_for_sensitivity(np.array([0.12399, 0.9]), positive, 1.0, 0.5) == 0.123
    assert threshold_for_sensitivity(np.array([0.97, 0.99]), positive, 0.9, 0.5) == 0.5
    assert threshold_for_sensitivity(np.array([0.0, 0.0]), positive, 0.9, 0.5) == 0.001


def test_without_a_positive_there_is_no_threshold() -> None:
    with pytest.raises(DataError, match="no validation image"):
        threshold_for_sensitivity(np.array([0.1]), np.array([False]), 0.9, 0.5)
