"""Every film comes once an epoch, changed by (seed, epoch, film) alone; classes are weighed or drawn again."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.errors import DataError, ImageError
from models.preprocessing import FloatArray, load_picture
from models.training.dataset import Dataset
from models.training.feed import Batch, Feed, film_inputs, prepare_film, prepared_films
from models.training.recipes import TrainingRecipe

Films = Callable[[], Dataset]


def fed(recipe: TrainingRecipe, dataset: Dataset, *, seed: int = 3, threads: int = 2, **changes: Any) -> Feed:
    changed = replace(recipe.hyper_parameters, **changes)
    return Feed(dataset, film_inputs(recipe, changed.augmentation, load_picture), changed, seed=seed, threads=threads)


def uneven(dataset: Dataset, normal: int) -> Dataset:
    """The data set with so many normal training films."""
    left_out = [film for film in dataset.split("train") if film.label == "normal"][normal:]
    return replace(dataset, films=tuple(film for film in dataset.films if film not in left_out))


def same(one: list[Batch], other: list[Batch]) -> bool:
    return all(np.array_equal(a, b) for x, y in zip(one, other, strict=True) for a, b in zip(x, y, strict=True))


def test_threads_do_not_change_a_batch_and_epochs_do(tiny_recipe: TrainingRecipe, films: Films) -> None:
    one, many = (list(fed(tiny_recipe, films(), threads=threads).epoch(1)) for threads in (1, 4))
    assert same(one, many)
    assert not np.array_equal(one[0][0], next(fed(tiny_recipe, films()).epoch(2))[0])


def test_a_remembered_film_is_changed_as_a_film_read_anew(tiny_recipe: TrainingRecipe, films: Films) -> None:
    kept = fed(tiny_recipe, films())
    anew = Feed(
        films(),
        film_inputs(tiny_recipe, "triage", load_picture, cache_bytes=0),
        tiny_recipe.hyper_parameters,
        seed=3,
        threads=2,
    )
    assert same(list(kept.epoch(1)) + list(kept.epoch(2)), list(anew.epoch(1)) + list(anew.epoch(2)))


def test_a_broken_off_epoch_goes_on_where_it_was(tiny_recipe: TrainingRecipe, films: Films) -> None:
    feed = fed(tiny_recipe, films(), mixup=0.4)
    whole = list(feed.epoch(2))
    assert same(whole[2:], list(feed.epoch(2, first=2)))
    assert list(feed.epoch(2, first=3)) == []


def test_no_film_is_left_out_and_no_batch_is_tiny(tiny_recipe: TrainingRecipe, films: Films) -> None:
    feed = fed(tiny_recipe, films(), batch_size=10, augmentation="none")
    sizes = [len(x) for x, _, _ in feed.epoch(1)]
    assert (sizes, feed.batches) == ([8, 8, 8], 3)
    assert sum(y.sum() for _, y, _ in feed.epoch(1)) == 24


def test_without_augmentation_the_network_sees_what_the_worker_will(tiny_recipe: TrainingRecipe, films: Films) -> None:
    dataset = films()
    feed = fed(tiny_recipe, dataset, augmentation="none", batch_size=24)
    [(x, _, _)] = feed.epoch(1)
    served = prepared_films(tiny_recipe, dataset.split("train"), load_picture, 2)
    assert sorted(map(bytes, x)) == sorted(map(bytes, served))


def test_weights_make_classes_count_the_same(tiny_recipe: TrainingRecipe, films: Films) -> None:
    dataset = uneven(films(), 4)
    sums = np.sum([(y * w[:, None]).sum(axis=0) for _, y, w in fed(tiny_recipe, dataset).epoch(1)], axis=0)
    assert sums == pytest.approx([8, 8])
    plain = np.concatenate([w for _, _, w in fed(tiny_recipe, dataset, balance="none").epoch(1)])
    assert plain == pytest.approx(np.ones(16))


def test_the_few_films_of_a_small_source_are_heard(tiny_recipe: TrainingRecipe, films: Films) -> None:
    dataset = films()
    train = dataset.split("train")
    small = [film for film in train if film.label == "normal"][:3]
    changed = tuple(replace(film, source="small" if film in small else "large") for film in dataset.films)
    dataset = replace(dataset, films=changed)
    feed = fed(tiny_recipe, dataset, balance="sources", augmentation="none", batch_size=24)
    [(_, y, w)] = feed.epoch(1)
    assert (y * w[:, None]).sum(axis=0) == pytest.approx([12, 12])
    counts = {
        round(float(value), 4): int(count) for value, count in zip(*np.unique(w, return_counts=True), strict=True)
    }
    assert sorted(counts.values()) == [3, 9, 12]
    heavy, light = (next(v for v, count in counts.items() if count == number) for number in (3, 9))
    assert heavy / light == pytest.approx(3**0.75, rel=1e-3)


def test_the_smaller_class_is_drawn_again(tiny_recipe: TrainingRecipe, films: Films) -> None:
    dataset = uneven(films(), 5)
    batches = list(fed(tiny_recipe, dataset, balance="oversample", augmentation="none").epoch(1))
    x, y, w = (np.concatenate(part) for part in zip(*batches, strict=True))
    assert y.sum(axis=0) == pytest.approx([12, 12])
    assert w == pytest.approx(np.ones(24))
    again = np.unique(x[y[:, 0] == 1], axis=0, return_counts=True)[1]
    assert sorted(again) == [2, 2, 2, 3, 3]
    changed = np.concatenate([x for x, _, _ in fed(tiny_recipe, dataset, balance="oversample").epoch(1)])
    assert len(np.unique(changed, axis=0)) == 24  # no two drawings of a film are changed alike


def test_mixup_lays_films_and_targets_over_each_other(tiny_recipe: TrainingRecipe, films: Films) -> None:
    plain = fed(tiny_recipe, films(), augmentation="none", batch_size=24)
    mixed = fed(tiny_recipe, films(), augmentation="none", batch_size=24, mixup=1.0)
    [(x, _, _)], [(mixed_x, mixed_y, _)] = plain.epoch(1), mixed.epoch(1)
    assert mixed_y.sum(axis=1) == pytest.approx(np.ones(24))
    shares = np.unique(np.round(mixed_y, 4))
    assert len(shares) == 4
    share = float(shares[2])
    for film, target in zip(mixed_x, mixed_y, strict=True):
        parts = [abs(s * a + (1 - s) * b - film).max() for a in x for b in x for s in (share, 1 - share)]
        assert min(parts) < 1e-3
        assert target.max() == pytest.approx(share, abs=1e-3) or target.max() == 1


def test_an_unreadable_film_is_named(tiny_recipe: TrainingRecipe, films: Films) -> None:
    def torn(_path: Path) -> FloatArray:
        raise ImageError("torn")

    film = films().split("train")[0]
    for make in (film_inputs(tiny_recipe, "triage", torn), film_inputs(tiny_recipe, "none", torn)):
        with pytest.raises(DataError, match=rf"{film.path.name}: torn"):
            make(film, np.random.default_rng(1))
    with pytest.raises(DataError, match="torn"):
        prepare_film(tiny_recipe, film, torn)
