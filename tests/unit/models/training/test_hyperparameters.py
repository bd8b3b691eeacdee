"""Hyper-parameters are changed by name, and a value that cannot be is refused with what can."""

from dataclasses import replace
from typing import Any

import pytest

from models.errors import RecipeError
from models.training.hyperparameters import HyperParameters

ONES = HyperParameters(epochs=3, batch_size=8, learning_rate=0.01, patience=2)


def test_values_are_read_as_what_they_are() -> None:
    changed = ONES.changed({"epochs": "5", "learning_rate": "1e-4", "optimizer": "sgd", "momentum": "0.8"})
    assert changed == replace(ONES, epochs=5, learning_rate=1e-4, optimizer="sgd", momentum=0.8)
    assert isinstance(changed.epochs, int)
    assert ONES.changed({}) == ONES


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"epoch": "5"}, "there is no hyper-parameter 'epoch'; there are: epochs, batch_size, learning_rate"),
        ({"epochs": "2.5"}, "epochs: '2.5' is not a whole number"),
        ({"learning_rate": "quick"}, "learning_rate: 'quick' is not a number"),
        ({"learning_rate": "nan"}, "learning_rate: nan is not 0 or more"),
        ({"balance": "yes"}, "balance: 'yes' is none of none, weights, sources, oversample"),
        ({"epochs": "0"}, "epochs: 0 is not 1 or more"),
        ({"mixup": "-1"}, "mixup: -1.0 is not 0 or more"),
        ({"label_smoothing": "1"}, "label_smoothing: 1.0 is not below 1"),
        ({"momentum": "0.9"}, "momentum is of optimizer=sgd, this is optimizer=adam"),
    ],
)
def test_what_cannot_be_is_refused_with_what_can(given: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        ONES.changed(given)
    assert said in str(caught.value)
