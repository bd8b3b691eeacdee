"""Films as batches: read, changed at random, prepared by the recipe that serves, the next batch while one is learnt."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from models.errors import DataError, ImageError
from models.preprocessing import FloatArray, prepare
from models.training.augment import AUGMENTATIONS, EightBit
from models.training.cache import BUDGET_BYTES, FilmCache, working_film
from models.training.dataset import Dataset, Film, ReadImage
from models.training.hyperparameters import HyperParameters
from models.training.recipes import TrainingRecipe

Inputs = Callable[[Film, np.random.Generator], FloatArray]
"""From a training film and a source of chance to the network's input, float32 (H, W, C)."""

Batch = tuple[FloatArray, FloatArray, FloatArray]
"""Inputs (N, H, W, C), targets (N, L) of 0 to 1, weights (N,)."""

_ORDER, _FILM, _MIX = range(3)
"""Beginnings of the seeds of what is decided at random, so that none is that of another."""


class Feed:
    """The training films of a data set in shuffled batches, changed as the hyper-parameters say.

    What happens to a film comes from (seed, epoch, film) alone, so that neither the number of threads nor a break in
    the run changes it.

    Parameters
    ----------
    inputs
        Makes the network's input of a film, see `film_inputs`.
    hyper_parameters
        Batch size, balance and mixup are meant.
    seed, threads
        Of the run; threads that prepare films.
    """

    def __init__(
        self,
        dataset: Dataset,
        inputs: Inputs,
        hyper_parameters: HyperParameters,
        *,
        seed: int,
        threads: int,
    ) -> None:
        self._dataset = dataset
        self._films = dataset.split("train")
        self._targets = np.asarray(dataset.targets(self._films))
        self._classes = len(dataset.labels)
        self._weights = film_weights(dataset, hyper_parameters.balance)
        self._inputs = inputs
        self._hyper_parameters = hyper_parameters
        self._seed = seed
        self._threads = threads

    @property
    def batches(self) -> int:
        """Batches in an epoch: of as equal a size as may be, at most the batch size, and no film is left out."""
        return -(-len(self._drawn(1)) // self._hyper_parameters.batch_size)

    def epoch(self, number: int, *, first: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch.

        Parameters
        ----------
        number
            Of the epoch.
        first
            Batches to leave out, which a run that was broken off has learnt already.

        Raises
        ------
        DataError
            If a film cannot be read.
        """
        batches = np.array_split(self._drawn(number), self.batches)[first:]

        def one(place: int, index: int) -> FloatArray:
            return self._inputs(self._films[index], np.random.default_rng([_FILM, self._seed, number, index, place]))

        with ThreadPoolExecutor(max_workers=self._threads) as pool:

            def submitted(rows: NDArray[np.int_]) -> list[Future[FloatArray]]:
                return [pool.submit(one, int(place), int(index)) for index, place in rows]

            coming = submitted(batches[0]) if batches else []
            for position, rows in enumerate(batches):
                ready = coming
                coming = submitted(batches[position + 1]) if position + 1 < len(batches) else []
                labels = self._targets[rows[:, 0]]
                batch = (
                    np.stack([future.result() for future in ready]),
                    np.eye(self._classes, dtype=np.float32)[labels],
                    self._weights[rows[:, 0]],
                )
                yield self._mixed(batch, np.random.default_rng([_MIX, self._seed, number, first + position]))

    def _drawn(self, number: int) -> NDArray[np.int_]:
        """Return the films of an epoch in their order: (N, 2), position of the film and how often it came before.

        A film that `balance=oversample` draws again is changed in another way each time.
        """
        random = np.random.default_rng([_ORDER, self._seed, number])
        if self._hyper_parameters.balance != "oversample":
            order = random.permutation(len(self._films))
            return np.stack([order, np.zeros_like(order)], axis=1)
        seen: Counter[int] = Counter()
        drawn = []
        for film in self._dataset.oversampled(random):
            drawn.append((film, seen[film]))
            seen[film] += 1
        return random.permutation(np.asarray(drawn))

    def _mixed(self, batch: Batch, random: np.random.Generator) -> Batch:
        """Lay each film of a batch over another with one share for all, and their targets and weights with it."""
        if not self._hyper_parameters.mixup:
            return batch
        share = np.float32(random.beta(self._hyper_parameters.mixup, self._hyper_parameters.mixup))
        other = random.permutation(len(batch[0]))
        x, y, weight = (share * part + (1 - share) * part[other] for part in batch)
        return x, y, weight


def film_weights(dataset: Dataset, balance: str) -> FloatArray:
    """Weight of each training film in the loss; 1 on average, but for float rounding.

    Returns
    -------
    FloatArray
        float32 (N,), in the order of `dataset.split("train")`.

    Raises
    ------
    DataError
        If a class has no training film.
    """
    films = dataset.split("train")
    labels = np.asarray(dataset.targets(films))
    weights: FloatArray = class_weights(dataset, balance)[labels]
    if balance != "sources":
        return weights
    held = Counter((film.label, film.source) for film in films)
    share = np.asarray([held[film.label, film.source] ** -0.75 for film in films])
    for label in range(len(dataset.labels)):
        of_label = labels == label
        share[of_label] /= share[of_label].mean()
    return np.asarray(weights * share, dtype=np.float32)


def class_weights(dataset: Dataset, balance: str) -> FloatArray:
    """Weight of each class in the loss: one under which all classes count the same, or 1.

    Returns
    -------
    FloatArray
        float32 (L,).

    Raises
    ------
    DataError
        If a class has no training film.
    """
    found = dataset.class_weights()
    return np.asarray(
        [weight if balance in {"weights", "sources"} else 1.0 for weight in found.values()], dtype=np.float32
    )


def film_inputs(
    recipe: TrainingRecipe, augmentation: str, read: ReadImage, *, cache_bytes: int = BUDGET_BYTES
) -> Inputs:
    """Return what makes a network's input of a training film, remembering films while there is room.

    Without augmentation that is the input itself, made as the worker makes it; with it, the film at a size that costs
    little to change at random.
    """
    shape = recipe.input
    if augmentation == "none":
        exact = FilmCache(lambda film: prepare_film(recipe, film, read), cache_bytes)
        return lambda film, _random: exact.get(film)
    augment = AUGMENTATIONS[augmentation]

    def reduced(film: Film) -> EightBit:
        with _naming(film):
            return working_film(read(film.path), shape.rows, shape.columns)

    cache = FilmCache(reduced, cache_bytes)

    def changed(film: Film, random: np.random.Generator) -> FloatArray:
        image = augment(cache.get(film), random)
        return prepare(recipe.preprocessing, image, shape.rows, shape.columns, shape.channels)

    return changed


def prepared_films(
    recipe: TrainingRecipe,
    films: Sequence[Film],
    read: ReadImage,
    threads: int,
    watch: Callable[[int, int], None] = lambda _done, _total: None,
) -> FloatArray:
    """Read films and prepare them as the worker does.

    Parameters
    ----------
    watch
        Called with the films done and their total.

    Returns
    -------
    FloatArray
        float32 (N, H, W, C), in order.

    Raises
    ------
    DataError
        If a film cannot be read.
    """
    found: list[FloatArray] = []
    with ThreadPoolExecutor(max_workers=threads) as pool:
        try:
            for prepared in pool.map(lambda film: prepare_film(recipe, film, read), films):
                found.append(prepared)
                watch(len(found), len(films))
        except BaseException:
            pool.shutdown(cancel_futures=True)  # whoever stops this does not wait for films that nobody wants
            raise
    return np.stack(found)


def prepare_film(recipe: TrainingRecipe, film: Film, read: ReadImage) -> FloatArray:
    """Read one film and prepare it as the worker does.

    Raises
    ------
    DataError
        If it cannot be read; naming it.
    """
    shape = recipe.input
    with _naming(film):
        return prepare(recipe.preprocessing, read(film.path), shape.rows, shape.columns, shape.channels)


@contextmanager
def _naming(film: Film) -> Iterator[None]:
    try:
        yield
    except ImageError as error:
        raise DataError(f"{film.path}: {error}") from None
