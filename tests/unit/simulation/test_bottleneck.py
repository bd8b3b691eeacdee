"""The finder against what can be reckoned by hand: the first bottleneck, its rate, and what stands behind it."""

from dataclasses import replace

import pytest

from models.engines.keras import BUCKETS
from tests.bench.simulation import bottleneck as bottleneck_module
from tests.bench.simulation.arrivals import Mix
from tests.bench.simulation.bottleneck import CLOSE, LIMIT, demands, find
from tests.bench.simulation.plant import Plant
from tests.unit.simulation.conftest import stage

SLICES = Mix(ct_share=1.0, films_a_day=0, cts_a_day=10, film_instances=(1,), slices=(64, 64))
"""Nothing but stacks of 64."""
SINGLE = replace(SLICES, cts_a_day=640, slices=(1, 1))
"""As many slices, each a study of its own: nobody waits for another's transaction on the same study."""


def found(stages, start=40, mix=SLICES, **plant):
    """Find it where workers do one thing after the other, which is easier to reckon with."""
    return find(Plant(modality_rate=30, overlap=False, **plant), stages, mix, start=start)


@pytest.fixture
def stages(stages, monkeypatch):
    """A slice costs intake 9 ms with the database's share, and a worker 20 ms, whatever the batch."""
    monkeypatch.setattr(bottleneck_module, "FEWEST", 400)  # there is no luck in this load
    free = {f"infer.ct.{bucket}": stage(f"infer.ct.{bucket}", {"worker": 0.0}) for bucket in BUCKETS}
    headers = stage("headers.ct", {"intake": 0.004})
    return stages | free | {"decode.ct": stage("decode.ct", {"worker": 0.018}), "headers.ct": headers}


def test_one_worker_is_full_first_at_the_rate_of_its_seconds(stages) -> None:
    bottleneck = found(stages)
    assert bottleneck.resource == "inference workers"
    assert bottleneck.rate == pytest.approx(LIMIT / 0.020, rel=0.05)
    assert bottleneck.next_ones()[0][0] == "intake: its process"


def test_with_workers_enough_it_is_the_one_intake(stages) -> None:
    bottleneck = found(stages, start=95, mix=SINGLE, workers=8)
    assert bottleneck.resource == "intake: its process"
    assert bottleneck.rate == pytest.approx(LIMIT / 0.009, rel=0.08)  # now and then others hold the audit chain
    assert abs(bottleneck.outcome.utilisation["intake: its process"] - LIMIT) < 2 * CLOSE


def test_a_chain_that_everybody_waits_for_is_found(stages) -> None:
    stages["commit"] = replace(stages["commit"], each={"worker": 0.012}, chained=1.0)
    bottleneck = found(stages, start=60, workers=8)
    assert bottleneck.resource == "database: audit chain"
    bound = LIMIT / (0.012 + 0.0025)  # what the chain alone would carry; whoever waits for it is full a little before
    assert 0.8 * bound < bottleneck.rate <= 1.02 * bound


def test_demands_are_the_utilisation_law_turned_round(stages) -> None:
    outcome = found(stages).outcome
    for name, demand in demands(outcome).items():
        assert demand * outcome.done == pytest.approx(outcome.utilisation[name])
