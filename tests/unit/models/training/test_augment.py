"""Augmentation changes how a film was taken, never what it shows, and is the same for the same chance."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from models.golden import golden_image
from models.training.augment import AUGMENTATIONS, bent, compressed, covered, moved, noisy, sharpened, toned

Change = Callable[[Any, np.random.Generator], Any]
KINDS = pytest.mark.parametrize("kind", sorted(AUGMENTATIONS))


@KINDS
def test_the_same_chance_gives_the_same_film(kind: str) -> None:
    film, change = golden_image(), AUGMENTATIONS[kind]
    first, again, other = (change(film, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert first.shape != other.shape or not np.array_equal(first, other)


@KINDS
def test_it_stays_an_image_and_leaves_the_film_alone(kind: str) -> None:
    film = golden_image(400, 300)
    before = film.copy()
    for seed in range(30):
        changed = AUGMENTATIONS[kind](film, np.random.default_rng(seed))
        assert changed.dtype == np.float32
        assert 0 <= changed.min() <= changed.max() <= 255
        assert max(changed.shape) >= 128
        assert changed.std() > 10
    assert np.array_equal(film, before)


@pytest.mark.parametrize("change", [bent, toned])
def test_a_changed_grey_scale_keeps_black_white_and_order(change: Change) -> None:
    greys = np.arange(256, dtype=np.uint8)[np.newaxis]
    for seed in range(10):
        curve = change(greys, np.random.default_rng(seed))[0]
        assert (curve[0], curve[-1]) == pytest.approx((0, 255))
        assert (np.diff(curve) >= 0).all()


def test_noise_is_as_likely_up_as_down() -> None:
    flat = np.full((200, 200), 128, np.float32)
    found = [noisy(flat, np.random.default_rng(seed)) for seed in range(20)]
    changed = [film for film in found if film is not flat]
    assert 4 <= len(changed) <= 16
    for film in changed:
        assert abs(film.mean() - 128) < 0.2
        assert film.std() < 4.1
    assert max(film.std() for film in changed) > 2


@pytest.mark.parametrize("change", [sharpened, compressed])
def test_what_processing_changes_stays_near_the_film(change: Change) -> None:
    film = golden_image(200, 170).astype(np.float32)
    found = [change(film, np.random.default_rng(seed)) for seed in range(30)]
    changed = [other for other in found if other is not film]
    assert 4 <= len(changed) <= 18
    for other in changed:
        assert other.shape == film.shape
        assert 0 < np.abs(other - film).mean() < 12


def test_what_is_covered_is_of_one_grey_and_little() -> None:
    film = golden_image(200, 170).astype(np.float32)
    found = [covered(film, np.random.default_rng(seed)) for seed in range(40)]
    shares = [float((other != film).mean()) for other in found]
    assert 10 <= sum(share == 0 for share in shares) <= 32
    assert 0.01 < max(shares) < 0.45


def test_the_middle_stays_near_the_middle() -> None:
    film = np.zeros((200, 200), np.float32)
    film[95:105, 95:105] = 255
    for seed in range(30):
        rows, columns = np.nonzero(moved(film, np.random.default_rng(seed)) > 100)
        assert abs(rows.mean() - 99.5) <= 14
        assert abs(columns.mean() - 99.5) <= 14
