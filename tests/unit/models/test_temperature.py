"""A temperature divides the logits, and can be taken back."""

import numpy as np
import pytest

from models.temperature import tempered, untempered


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
