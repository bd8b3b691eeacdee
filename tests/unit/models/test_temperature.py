"""A temperature divides the logits, and can be taken back."""

import numpy as np
import pytest

from models.temperature import calibrated, tempered, untempered


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


def one_row_alone(row: np.ndarray, temperature: float, output: str) -> np.ndarray:
    """The formula, written down for one row of float32: what every recorded prediction was made with."""
    raw = np.concatenate([1.0 - row, row], axis=1) if output == "binary" else row
    exact = raw.astype(np.float64)
    powers = np.clip(exact, 1e-12, 1.0) ** (1.0 / temperature)
    if output == "sigmoid":
        return (powers / (powers + np.clip(1.0 - exact, 1e-12, 1.0) ** (1.0 / temperature))).astype(np.float32)
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("temperature", [0.25, 0.5, 0.77, 1.3, 2.0, 4.0])
@pytest.mark.parametrize("output", ["softmax", "sigmoid", "binary"])
def test_a_row_comes_out_the_same_bits_in_any_company(output: str, temperature: float) -> None:
    """Halves and twos have powers of their own in NumPy: a root, a square."""
    for labels in [1] if output == "binary" else range(1, 16):
        random = np.random.default_rng(labels)
        given = softmax(random.normal(0, 4, (33, labels + 1)))[:, :labels].astype(np.float32)
        given[5], given[9], given[11] = 0.0, 1.0, np.nextafter(np.float32(1), np.float32(2))
        alone = np.concatenate([one_row_alone(given[i : i + 1], temperature, output) for i in range(33)])
        for size in range(1, 34):
            start = 5 * size % (34 - size)
            found = calibrated(given[start : start + size], temperature, output)
            assert found.dtype == np.float32
            assert np.array_equal(found, alone[start : start + size]), (labels, size)


def test_nothing_in_nothing_out_and_no_number_stays_none() -> None:
    assert calibrated(np.empty((0, 3), np.float32), 1.3, "softmax").shape == (0, 3)
    assert calibrated(np.empty((0, 1), np.float32), 1.3, "binary").shape == (0, 2)
    given = np.full((2, 3), np.nan, np.float32)
    assert np.isnan(calibrated(given, 1.3, "softmax")).all()
    assert np.isnan(calibrated(given, 1.3, "sigmoid")).all()


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
def test_what_is_given_is_left_as_it_was(output: str) -> None:
    given = np.full((3, 2), 0.5, np.float32)
    wide = given.astype(np.float64)
    calibrated(given, 1.3, output)
    tempered(wide, 1.3, output)
    untempered(wide, 1.3, output)
    assert (given == 0.5).all()
    assert (wide == 0.5).all()
