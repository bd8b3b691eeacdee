"""The load of the pipeline benchmark: at the rate that is asked for, timed from when an image was due."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import pytest

from tests.bench import pipeline
from tests.bench.loads import Sendable, radiograph
from tests.bench.pipeline import BURST, IDLE, LOADS, Rounds
from tests.bench.systems import System
from tests.bench.watch import Watch
from tests.support.fakes import MODEL, FakeClassifier, FakeReader, make_pipeline
from tests.support.objects import film, spool_object


class InstantSystem(System):
    """Commits a result `delay` after it took an image; its sender takes `sending` for each."""

    name, called, port, reports_expected = "instant", "ANY", 0, True

    def __init__(self, delay: float, sending: float) -> None:
        super().__init__()
        self.delay, self.sending = delay, sending

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def look(self) -> None: ...

    def clear(self) -> None: ...

    def send(self, one: Sendable) -> None:
        time.sleep(self.sending)
        self.results[one.sop_instance_uid] = time.perf_counter() + self.delay
        self.reports[one.study_instance_uid] = time.perf_counter() + 2 * self.delay


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> Rounds:
    class Sender:
        def __init__(self, *_: object, **__: object) -> None: ...

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None: ...

        def send(self, one: Sendable) -> None:
            systems[0].send(one)

    systems: list[InstantSystem] = []
    monkeypatch.setattr(pipeline, "LeanSender", Sender)
    made = Rounds(radiograph(64), 0.1)
    made.systems = systems  # type: ignore[attr-defined]
    return made


def run(rounds: Rounds, case: str, system: InstantSystem) -> dict[str, float]:
    rounds.systems[:] = [system]  # type: ignore[attr-defined]
    return rounds.run(case, system)


def test_an_idle_image_takes_as_long_as_its_result_and_its_report(rounds: Rounds) -> None:
    figures = run(rounds, IDLE, InstantSystem(delay=5.0, sending=0.0))
    assert 5000 <= figures["p50_ms"] < 6000
    assert 10000 <= figures["sr_p50_ms"] < 11000


def test_the_rate_of_a_burst_is_that_of_the_slower_end(rounds: Rounds) -> None:
    figures = run(rounds, BURST, InstantSystem(delay=0.0, sending=0.02))
    assert figures["per_second"] <= 50


def test_who_takes_images_late_is_not_forgiven(rounds: Rounds) -> None:
    """At ten times the rate it can take, the last image waits for all before it: that counts, from when it was due."""
    system = InstantSystem(delay=0.0, sending=0.02)
    rounds.rates[system.name] = 500.0
    rounds._share = 0.01
    figures = run(rounds, next(case for case, share in LOADS.items() if share == 1), system)
    images = round(pipeline.LOAD_SECONDS * 500 * 0.01)
    assert figures["p99_ms"] >= 1000 * 0.018 * (images - 2)


def test_images_are_never_sent_twice(rounds: Rounds) -> None:
    first, second = rounds.images(50), rounds.images(50)
    assert not uids(first) & uids(second)


def uids(images: Sequence[Sendable]) -> set[str]:
    return {one.sop_instance_uid for one in images}


def test_the_watch_sees_what_was_committed_and_nothing_else(tmp_path: Path) -> None:
    journey = make_pipeline(f"sqlite:///{tmp_path / 'firstread.db'}", tmp_path)
    results: dict[str, float] = {}
    watch = Watch(tmp_path / "firstread.db", results, {})
    watch.open(5)
    ds = film()
    spool_object(journey.spool, ds)
    journey.register_arrivals()
    watch.look()
    assert watch.instances() == 1
    assert results == {}
    journey.infer(MODEL, FakeClassifier(), FakeReader())  # type: ignore[arg-type]
    before = time.perf_counter()
    watch.look()
    assert set(results) == {ds.SOPInstanceUID}
    assert results[ds.SOPInstanceUID] >= before
    watch.close()
    journey.database.dispose()
