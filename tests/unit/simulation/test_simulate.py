"""A site as a whole: nothing is lost or made, time goes where it should, the same seed gives the same."""

import random
from dataclasses import replace

import pytest

from tests.bench.simulation.arrivals import Mix, by_the_clock, evenly
from tests.bench.simulation.hints import Hints
from tests.bench.simulation.plant import Plant, bucket_of
from tests.bench.simulation.simulate import begin_everything, percentiles, simulate
from tests.bench.simulation.site import Site, Study

MIX = Mix(ct_share=0.2, films_a_day=60, cts_a_day=12, film_instances=(1, 1), slices=(20, 60))


def one_film(at: float = 0.0) -> list[Study]:
    return [Study(1, "cr", 1, at)]


def test_what_comes_in_goes_out_or_is_in_the_system(stages) -> None:
    site = Site(Plant(workers=2), stages)
    studies = [Study(number, kind, objects, 0.1 * number) for number, (kind, objects) in enumerate(
        [("cr", 2), ("ct", 70), ("cr", 1), ("ct", 33)] * 3)]  # fmt: skip
    begin_everything(site, studies)
    for until in (0.5, 1.0, 2.0, 5.0, 200.0):
        site.env.run(until=until)
        counts = site.counts
        waiting = len(site.arrived) + sum(map(len, site.owed.values()))
        assert counts.received >= counts.registered >= counts.classified
        assert 0 <= waiting <= site.in_system
        assert sum(study.classified for study in studies) == counts.classified
    assert counts.received == counts.classified == sum(study.objects for study in studies)
    assert counts.reported == counts.delivered == len(studies)
    assert sum(counts.batches) == counts.classified
    assert max(counts.batches) <= 32


def test_a_single_film_takes_the_sum_of_its_stages(stages) -> None:
    plant = Plant(quiet_seconds=10, sweep_seconds=2)
    counts = simulate(plant, stages, one_film(1.0), 60).counts
    (result,), (report,) = counts.to_result["cr"], counts.to_report["cr"]
    work = 0.004 + 0.002 + 0.015 + 0.0002 + 0.001 + 0.03 + 0.01 + 0.002
    assert result == pytest.approx(work)  # intake is rung for
    assert 10 <= report <= 10 + 2 + 0.5  # quiet, the next sweep, report and PACS


def test_the_same_seed_gives_the_same_and_another_does_not(stages) -> None:
    def run(seed: int) -> dict:
        load = by_the_clock(MIX, 20, [1 / 24] * 24, 9, 9.05, random.Random(seed))
        return simulate(Plant(), stages, load, 180, seed=seed).as_document()

    assert run(3) == run(3)
    assert run(3) != run(4)


def test_more_than_a_site_can_do_piles_up_and_the_batches_fill(stages) -> None:
    outcome = simulate(Plant(), stages, evenly(MIX, 80, 20, random.Random(1)), 20)
    begin, end, most = outcome.in_system
    assert (begin, most) == (0, end)
    assert end > 200
    assert outcome.utilisation["inference workers"] > 0.95
    assert outcome.as_document()["batch"] > 12  # as large as the second that a batch may take allows


def test_a_gpu_leaves_decoding_and_overlap_hides_the_network(stages) -> None:
    load = [Study(1, "ct", 256, 0.0)]
    seconds = {
        name: simulate(replace(Plant(), **settings), stages, load_of(load), 60).counts.last_result_at
        for name, settings in {
            "in turns": {"overlap": False}, "overlapping": {}, "gpu": {"gpu": True}, "decoders": {"decoders": 4},
        }.items()
    }  # fmt: skip
    assert seconds["gpu"] < seconds["overlapping"] < seconds["in turns"]
    assert seconds["decoders"] < seconds["overlapping"]


def load_of(studies: list[Study]) -> list[Study]:
    return [replace(study) for study in studies]


def test_two_workers_with_batches_of_one_study_wait_for_its_row(stages) -> None:
    """With commits that take most of the time, a second worker on the same study brings nothing."""
    stages["commit"] = replace(stages["commit"], each={"worker": 0.1})
    for name in ("decode.ct", *(f"infer.ct.{bucket}" for bucket in (1, 2, 4, 8, 16, 32))):
        stages[name] = replace(stages[name], fixed={"worker": 0.0001})
    together = simulate(Plant(workers=2), stages, [Study(1, "ct", 128, 0.0)], 60).counts.last_result_at
    apart = simulate(
        Plant(workers=2), stages, [Study(n, "ct", 32, float(n)) for n in range(4)], 60
    ).counts.last_result_at
    assert together > 12.8
    assert apart < 0.9 * together


def test_no_more_hints_wait_than_batches_are_due(stages) -> None:
    site = Site(Plant(), stages)
    hints = Hints(site, ("cr", "ct"))

    def publish():
        for _ in range(5):
            yield from hints.publish("cr", "intake", 64)
        yield from hints.publish("ct", "intake")

    site.env.process(publish())
    site.env.run(until=1)
    taken = [hints.take() for _ in range(4)]
    site.env.run(until=2)
    assert sorted(one.value for one in taken if one.triggered) == ["cr", "cr", "ct"]


def test_buckets_and_percentiles() -> None:
    assert [bucket_of(count) for count in (1, 3, 16, 17, 32)] == [1, 4, 16, 32, 32]
    assert percentiles(range(100)) == {"p50": 50, "p95": 95, "p99": 99}
    assert percentiles([]) == {}


@pytest.mark.parametrize("modalities", [5, 50])
def test_the_clock_gives_each_hour_its_share(modalities: int) -> None:
    shares = [0.0] * 24
    shares[9], shares[10] = 0.75, 0.25
    studies = list(by_the_clock(MIX, modalities, shares, 0, 24, random.Random(2)))
    hours = [int(study.sent_at // 3600) for study in studies]
    assert set(hours) == {9, 10}
    expected = modalities * MIX.studies_a_day
    assert abs(len(studies) - expected) < 4 * expected**0.5
    assert abs(hours.count(9) - 0.75 * expected) < 4 * expected**0.5
    assert sum(study.kind == "ct" for study in studies) / len(studies) == pytest.approx(MIX.ct_studies_share, abs=0.05)


def test_an_even_load_has_the_rate_and_the_mix() -> None:
    studies = list(evenly(MIX, 50, 400, random.Random(1)))
    assert sum(study.objects for study in studies) / 400 == pytest.approx(50, rel=0.05)
    assert sum(study.kind == "ct" for study in studies) / len(studies) == pytest.approx(MIX.ct_studies_share, abs=0.01)
