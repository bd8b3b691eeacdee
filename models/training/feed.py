"""Films as batches: read, changed at random, prepared by the recipe that serves, the next batch while one is learnt."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from models.errors import DataError, ImageError
from models.preprocessing import FloatArray, prepare
from models.training.augment import augmented
from models.training.dataset import Dataset, Film, ReadImage
from models.training.recipes import TrainingRecipe

Batch = tuple[FloatArray, FloatArray, FloatArray]
"""Inputs (N, H, W, C), targets (N, L) of 0 and 1, weights (N,)."""


@dataclass(frozen=True)
class Feed:
    """The training films of a data set in shuffled, augmented batches.

    What happens to a film comes from (seed, epoch, film) alone, so that the number of threads does not change a run.
    Films are read anew in every epoch, so that memory does not grow with their number.
    """

    recipe: TrainingRecipe
    dataset: Dataset
    read: ReadImage
    batch_size: int
    seed: int
    threads: int

    @property
    def batches(self) -> int:
        """Batches in an epoch; the films over are left to another epoch's shuffle."""
        return len(self.dataset.split("train")) // self.batch_size

    def epoch(self, number: int) -> Iterator[Batch]:
        """Yield the batches of an epoch.

        Raises
        ------
        DataError
            If a film cannot be read.
        """
        films = self.dataset.split("train")
        targets = np.asarray(self.dataset.targets(films))
        weights = self.dataset.class_weights()
        order = np.random.default_rng([self.seed, number]).permutation(len(films))
        rows = order[: self.batches * self.batch_size].reshape(self.batches, self.batch_size)

        def one(index: int) -> FloatArray:
            random = np.random.default_rng([self.seed, number, index])
            return prepare_film(self.recipe, films[index], self.read, lambda image: augmented(image, random))

        with ThreadPoolExecutor(max_workers=self.threads) as pool:
            coming = [pool.submit(one, int(index)) for index in rows[0]]
            for position, chosen in enumerate(rows):
                ready = coming
                coming = [pool.submit(one, int(i)) for i in rows[position + 1]] if position + 1 < len(rows) else []
                labels = targets[chosen]
                yield (
                    np.stack([future.result() for future in ready]),
                    np.eye(len(self.dataset.labels), dtype=np.float32)[labels],
                    np.asarray([weights[int(label)] for label in labels], dtype=np.float32),
                )


def prepared_films(recipe: TrainingRecipe, films: Sequence[Film], read: ReadImage, threads: int) -> FloatArray:
    """Read films and prepare them as the worker does.

    Returns
    -------
    FloatArray
        float32 (N, H, W, C), in order.

    Raises
    ------
    DataError
        If a film cannot be read.
    """
    with ThreadPoolExecutor(max_workers=threads) as pool:
        return np.stack(list(pool.map(lambda film: prepare_film(recipe, film, read), films)))


def prepare_film(
    recipe: TrainingRecipe,
    film: Film,
    read: ReadImage,
    change: Callable[[FloatArray], FloatArray] = lambda image: image,
) -> FloatArray:
    """Read one film, change it, prepare it.

    Raises
    ------
    DataError
        If it cannot be read; naming it.
    """
    shape = recipe.input
    try:
        return prepare(recipe.preprocessing, change(read(film.path)), shape.rows, shape.columns, shape.channels)
    except ImageError as error:
        raise DataError(f"{film.path}: {error}") from None
