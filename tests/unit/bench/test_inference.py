"""The benchmark of inference: each contender is asked for as many images, and long enough for the clock."""

from collections.abc import Iterator

import pytest

from tests.bench import inference


@pytest.mark.parametrize(("step", "images", "calls"), [(0.001, 32, 100), (0.04, 32, 4), (0.25, 1, 1)])
def test_a_contender_works_until_its_images_are_done_and_the_clock_has_moved(
    step: float, images: int, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ticking() -> Iterator[float]:
        now = 0
        while True:
            yield now * step
            now += 1

    clock, asked = ticking(), []
    monkeypatch.setattr(inference.time, "perf_counter", lambda: next(clock))
    one = inference.Contender("somebody", lambda: asked.append(1), images=8)
    found = one.measured(images)
    assert len(asked) == pytest.approx(calls, abs=1)
    assert found == {"ms": pytest.approx(1000 * step / 8)}
