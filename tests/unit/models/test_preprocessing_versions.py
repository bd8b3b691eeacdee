"""A recipe that gives other values has another version: the versions stand in every prediction and are replayed."""

import numpy as np
import pytest

from models.golden import golden_image
from models.preprocessing import RECIPES, VERSIONS, prepare

CHANNELS = {"vgg16_imagenet": 3}
KNOWN: dict[str, tuple[int, list[float]]] = {
    "chest_ct_covid": (1, [0.0, 1.0, -0.937, -0.723]),
    "chest_xray_triage": (1, [0.0, 1.0, -0.802, -0.744]),
    "unit_columns": (1, [0.163, 0.067, 0.094, 0.121]),
    "unit_range": (1, [0.482, 0.24, 0.256, 0.308]),
    "vgg16_imagenet": (1, [8.02, 61.849, -38.59, -25.467]),
}


def values(recipe: str) -> list[float]:
    """A few numbers of what a recipe makes of the golden film."""
    made = prepare(recipe, golden_image().astype(np.float32), 32, 32, CHANNELS.get(recipe, 1))
    return [round(float(one), 3) for one in (made.mean(), made.std(), made[7, 9, 0], made[20, 24, 0])]


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_a_recipe_is_what_its_version_says(recipe: str) -> None:
    version, expected = KNOWN[recipe]
    assert values(recipe) == pytest.approx(expected, abs=2e-3), "raise its number in VERSIONS, then write it down here"
    assert VERSIONS[recipe] == version
