"""Films are kept in memory up to a budget, and small enough that a thousand of them are nothing."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from models.training.cache import FilmCache, working_film
from models.training.dataset import Dataset, Film


def test_a_film_is_made_once_and_those_over_the_budget_each_time(films: Callable[..., Dataset]) -> None:
    made: Counter[Film] = Counter()

    def make(film: Film) -> NDArray[np.uint8]:
        made[film] += 1
        return np.full(100, len(film.path.name), np.uint8)

    cache, wanted = FilmCache(make, budget=250), films().split("train")[:4]
    for _ in range(3):
        for film in wanted:
            assert cache.get(film)[0] == len(film.path.name)
    assert [made[film] for film in wanted] == [1, 1, 3, 3]


def test_threads_do_not_spend_the_budget_twice(films: Callable[..., Dataset]) -> None:
    wanted = films().split("train")
    cache = FilmCache(lambda _: np.zeros(100, np.uint8), budget=100 * len(wanted))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(cache.get, [*wanted] * 20))
    first = [cache.get(film) for film in wanted]
    assert all(cache.get(film) is array for film, array in zip(wanted, first, strict=True))


def test_a_working_film_is_a_little_larger_than_the_input_and_keeps_its_shape() -> None:
    film = np.tile(np.linspace(0, 255, 600, dtype=np.float32), (400, 1))
    reduced = working_film(film, 32, 64)
    assert (reduced.dtype, reduced.shape) == (np.dtype(np.uint8), (80, 120))
    assert abs(reduced.mean() - film.mean()) < 1
    small = film[:50, :70]
    assert np.array_equal(working_film(small, 32, 64), np.rint(small).astype(np.uint8))
