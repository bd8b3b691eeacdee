"""What is fed to the part of a network that learns: films, or what a frozen backbone makes of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.errors import RecipeError
from models.preprocessing import FloatArray
from models.training.dataset import Dataset, Film, ReadImage
from models.training.feed import Inputs, film_inputs, prepared_films
from models.training.head import split_at
from models.training.objective import computed
from models.training.recipes import TrainingRecipe

AT_A_TIME = 16
"""Films that a backbone computes at a time."""

Tick = Callable[[str, int, int], None]
"""Called with what is prepared, how many are done and their total."""


@dataclass(frozen=True)
class Material:
    """The part of a network that learns, what makes its input of a training film, and its validation inputs."""

    trained: Any
    inputs: Inputs
    validation: FloatArray


def material(
    recipe: TrainingRecipe,
    dataset: Dataset,
    network: Any,
    *,
    augmentation: str,
    read: ReadImage,
    threads: int,
    tick: Tick,
) -> Material:
    """Prepare what can be prepared before the first epoch.

    The whole network learns from films; where the recipe has a `head_from`, the head alone learns, from what the
    backbone gives for each film, computed here once.

    Raises
    ------
    DataError
        If a film cannot be read.
    RecipeError
        If the recipe's head cannot be had, or is to be trained with augmentation.
    """
    validation, train = dataset.split("val"), dataset.split("train")
    if recipe.head_from is None:
        inputs = prepared_films(recipe, validation, read, threads, lambda *at: tick("validation films", *at))
        return Material(network, film_inputs(recipe, augmentation, read), inputs)
    if augmentation != "none":
        raise RecipeError(
            f"{recipe.name} computes every film once and trains the head of its network on that, so there is no"
            f" augmentation={augmentation}: say none"
        )
    backbone, head = split_at(network, recipe.head_from)

    def features(films: Sequence[Film], what: str) -> FloatArray:
        found = []
        for start in range(0, len(films), AT_A_TIME):
            piece = films[start : start + AT_A_TIME]
            found.append(computed(backbone, prepared_films(recipe, piece, read, threads)))
            tick(what, start + len(piece), len(films))
        return np.concatenate(found)

    known = dict(zip(train, features(train, "features of training films"), strict=True))
    return Material(head, lambda film, _random: known[film], features(validation, "features of validation films"))
