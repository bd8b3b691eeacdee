"""Augmentation changes how a film was taken, never what it shows, and is the same for the same chance."""

import numpy as np

from models.golden import golden_image
from models.training.augment import augmented, moved


def test_the_same_chance_gives_the_same_film() -> None:
    film = golden_image().astype(np.float32)
    first, again, other = (augmented(film, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert first.shape != other.shape or not np.array_equal(first, other)


def test_it_stays_an_image() -> None:
    film = golden_image(400, 300).astype(np.float32)
    for seed in range(30):
        changed = augmented(film, np.random.default_rng(seed))
        assert changed.dtype == np.float32
        assert 0 <= changed.min() <= changed.max() <= 255
        assert max(changed.shape) >= 160
        assert changed.std() > 10


def test_the_middle_stays_near_the_middle() -> None:
    film = np.zeros((200, 200), np.float32)
    film[95:105, 95:105] = 255
    for seed in range(30):
        rows, columns = np.nonzero(moved(film, np.random.default_rng(seed)) > 100)
        assert abs(rows.mean() - 99.5) <= 14
        assert abs(columns.mean() - 99.5) <= 14
