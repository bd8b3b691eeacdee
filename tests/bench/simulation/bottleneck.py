"""Which resource is full first, and at which rate: found with the utilisation law, shown by a simulation at that rate.

The utilisation law (Denning and Buzen, 1978): utilisation = throughput x demand. A simulation gives the demand of every
resource at its load; the rate at which the busiest would reach the limit is simulated next, until both agree, for
demands change with the load (batches fill up).
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tests.bench.simulation.arrivals import Mix, evenly
from tests.bench.simulation.plant import Plant
from tests.bench.simulation.simulate import Outcome, simulate
from tests.bench.simulation.site import WAITING
from tests.bench.simulation.stage_times import Stage

LIMIT = 0.9
"""A resource that is busier is full: queues before it grow without measure."""
CLOSE = 0.03
ROUNDS = 6
PARTS = {*WAITING.values(), "inference workers: decoding", "inference workers: network"}
"""What is part of another resource's time."""


@dataclass(frozen=True)
class Bottleneck:
    """The first resource to be full.

    Attributes
    ----------
    rate
        Instances a second at which it is `LIMIT` busy.
    demand
        Seconds of each resource's capacity that an instance takes.
    outcome
        The simulation at about this rate.
    """

    resource: str
    rate: float
    demand: Mapping[str, float]
    outcome: Outcome

    def next_ones(self, count: int = 3) -> list[tuple[str, float]]:
        """Return what is full next once the first is widened, each with its rate."""
        left = [name for name, seconds in self.demand.items() if seconds and name not in {self.resource, *PARTS}]
        order = sorted(left, key=lambda name: -self.demand[name])
        return [(name, LIMIT / self.demand[name]) for name in order[:count]]


def demands(outcome: Outcome) -> dict[str, float]:
    """Return how many seconds of each resource's capacity an instance took: the utilisation law turned round."""
    return {name: busy / outcome.done if outcome.done else 0.0 for name, busy in outcome.utilisation.items()}


def window(mix: Mix, rate: float) -> tuple[float, float]:
    """Return how long to look at a rate, and how much of it is warm-up: over whole rounds of the mix, in seconds."""
    a_round = mix.objects_a_study / mix.ct_studies_share if mix.ct_studies_share else FEWEST / COUNTED
    rounds = max(COUNTED, round(FEWEST / a_round))
    return (WARM_UP + rounds) * a_round / rate, WARM_UP * a_round / rate


COUNTED, WARM_UP = 5, 2
"""Rounds of the mix, from one CT study to the next."""
FEWEST = 1000
"""Instances that count at least."""


def find(
    plant: Plant,
    stages: Mapping[str, Stage],
    mix: Mix,
    *,
    start: float = 10.0,
    seed: int = 1,
    tell: Callable[[str], object] = lambda _: None,
) -> Bottleneck:
    """Find the first bottleneck of a plant under an even load.

    Parameters
    ----------
    start
        Instances a second to begin with.
    tell
        Called with what is being tried.
    """
    rate, low, high = start, 0.0, float("inf")
    for _ in range(ROUNDS):
        tell(f"{rate:.0f} instances/s")
        seconds, warm_up = window(mix, rate)
        load = evenly(mix, rate, seconds, random.Random(seed))
        outcome = simulate(plant, stages, load, seconds, warm_up=warm_up, seed=seed)
        name, busy = outcome.first
        if abs(busy - LIMIT) < CLOSE:
            break
        low, high = (max(low, rate), high) if busy < LIMIT else (low, min(high, rate))
        rate = LIMIT * outcome.done / busy if busy else 2 * rate
        if not low < rate < high:  # a queue that grows tells no demand of the whole
            rate = (low + high) / 2 if high < float("inf") else 2 * low
    return Bottleneck(name, LIMIT * outcome.done / busy, demands(outcome), outcome)
