"""Temperature and thresholds are decided on validation by stated rules."""

import numpy as np
import pytest

from models.errors import DataError
from models.training.calibrate import fit_temperature, tempered, threshold_for_sensitivity, untempered


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def test_tempering_divides_the_logits() -> None:
    logits = np.random.default_rng(1).normal(0, 3, (20, 4))
    assert tempered(softmax(logits), 2.5, "softmax") == pytest.approx(softmax(logits / 2.5), abs=1e-9)
    odds = 1 / (1 + np.exp(-logits))
    assert tempered(odds, 2.5, "sigmoid") == pytest.approx(1 / (1 + np.exp(-logits / 2.5)), abs=1e-9)


def test_a_binary_network_has_one_logit() -> None:
    logit = np.random.default_rng(1).normal(0, 3, 20)
    finding = 1 / (1 + np.exp(-logit))
    found = tempered(np.stack([1 - finding, finding], axis=1), 2.5, "binary")
    assert found[:, 1] == pytest.approx(1 / (1 + np.exp(-logit / 2.5)), abs=1e-9)
    assert found.sum(axis=1) == pytest.approx(1)


@pytest.mark.parametrize(
    ("output", "temperature"),
    [("softmax", 0.4), ("softmax", 1.7), ("binary", 0.4), ("binary", 1.7), ("sigmoid", 0.8), ("sigmoid", 1.7)],
)
def test_a_temperature_can_be_taken_back(output: str, temperature: float) -> None:
    raw = softmax(np.random.default_rng(1).normal(0, 4, (50, 2 if output == "binary" else 4)))
    served = tempered(raw, temperature, output).astype(np.float32)
    assert untempered(served, temperature, output) == pytest.approx(raw, abs=2e-6)


def test_certainty_does_not_become_no_number() -> None:
    assert np.isfinite(tempered(np.array([[0.0, 1.0]]), 0.25, "softmax")).all()
    assert np.isfinite(tempered(np.array([[0.0, 1.0]]), 0.25, "sigmoid")).all()


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
