"""A picture added up in passing: the mean of what is displayed, whatever of it was asked for, and in what bands."""

import numpy as np
import pytest

from models.preprocessing import RECIPES, prepare_shown
from worker.inference.reduction import Reduction
from worker.inference.rendering import Rendering

RNG = np.random.default_rng(21)
CURVE = np.sort(RNG.uniform(0, 255, 4096)).astype(np.float32)


def rendering(rows: int, columns: int, kind: str = "one table") -> Rendering:
    if kind == "no table":
        return Rendering(RNG.uniform(0, 255, (rows, columns)).astype(np.float32), [], [])
    if kind == "colour":
        tables = [weight * np.arange(256, dtype=np.float32) for weight in (0.299, 0.587, 0.114)]
        return Rendering(RNG.integers(0, 256, (rows, columns, 3), np.uint8), tables, [])
    return Rendering(RNG.integers(0, 4096, (rows, columns)).astype(np.uint16), [CURVE], [])


def mean_levels(shown: Rendering, factor: int) -> np.ndarray:
    whole = np.empty(shown.shape, np.float32)
    shown.fill(whole)
    rows, columns = (side // factor for side in shown.shape)
    return np.rint(whole.reshape(rows, factor, columns, factor).mean(axis=(1, 3), dtype=np.float64))


def off(found: np.ndarray, expected: np.ndarray) -> float:
    assert (found.shape, found.dtype) == (expected.shape, np.uint8)
    return float(abs(found - expected).max())


@pytest.mark.parametrize("kind", ["one table", "colour", "no table"])
@pytest.mark.parametrize(("shape", "factor"), [
    ((2048, 2048), 2), ((2048, 1500), 2), ((1000, 2048), 2), ((2048, 2), 2), ((3072, 2997), 3), ((4096, 640), 4),
])  # fmt: skip
def test_a_pixel_is_the_mean_of_what_is_displayed(shape: tuple[int, int], factor: int, kind: str) -> None:
    for recipe in ("chest_xray_triage", "chest_ct_covid"):  # one trims to a field, in either direction
        shown = rendering(*shape, kind)
        seen = Reduction(shown, factor)
        prepare_shown(recipe, seen, 32, 32, 1)
        # Half way between two levels the order of summation decides.
        assert off(seen.grey_levels(), mean_levels(shown, factor)) <= 1


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_the_input_is_what_it_is_without_a_picture(recipe: str) -> None:
    shown, channels = rendering(2048, 1500), 3
    plain = prepare_shown(recipe, shown, 64, 48, channels).tobytes()
    assert prepare_shown(recipe, Reduction(shown, 2), 64, 48, channels).tobytes() == plain


@pytest.mark.parametrize("fields", [
    [],
    [(slice(0, 96), slice(0, 64))],
    [(slice(0, 33), slice(0, 64)), (slice(33, 96), slice(0, 64))],
    [(slice(5, 6), slice(0, 64)), (slice(7, 50), slice(0, 64))],
    [(slice(11, 80), slice(3, 59))],
    [(slice(0, 50), slice(4, 40)), (slice(50, 96), slice(0, 64))],
    [(slice(95, 96), slice(63, 64)), (slice(10, 20), slice(2, 64)), (slice(0, 96), slice(2, 64))],
])  # fmt: skip
def test_what_nobody_asked_for_is_looked_up(fields: list[tuple[slice, slice]]) -> None:
    shown = rendering(96, 64)
    whole = np.empty(shown.shape, np.float32)
    shown.fill(whole)
    seen = Reduction(shown, 2)
    for field in fields:
        assert np.array_equal(seen[field], whole[field])
    expected = mean_levels(shown, 2)
    assert off(seen.grey_levels(), expected) <= 1
    assert (seen.grey_levels() != expected).mean() < 0.01


def test_what_was_seen_is_not_looked_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = rendering(2048, 2048)
    seen = Reduction(shown, 2)
    prepare_shown("chest_xray_triage", seen, 64, 64, 1)
    monkeypatch.setattr(Rendering, "__getitem__", lambda *_: pytest.fail("looked up again"))
    seen.grey_levels()
