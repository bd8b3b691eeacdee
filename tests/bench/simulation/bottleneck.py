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
from tests.bench.simulation.stage_times import Stage

LIMIT = 0.9
"""A resource that is busier is full: queues before it grow without measure."""
CLOSE = 0.03
ROUNDS = 6


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
        order = sorted((name for name in self.demand if self.demand[name]), key=lambda name: -self.demand[name])
        return [(name, LIMIT / self.demand[name]) for name in order[1 : count + 1]]


def demands(outcome: Outcome) -> dict[str, float]:
    """Return how many seconds of each resource's capacity an instance took: the utilisation law turned round."""
    return {name: busy / outcome.done if outcome.done else 0.0 for name, busy in outcome.utilisation.items()}


def find(
    plant: Plant,
    stages: Mapping[str, Stage],
    mix: Mix,
    *,
    start: float = 10.0,
    seconds: float = 90.0,
    warm_up: float = 30.0,
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
        load = evenly(mix, rate, seconds, random.Random(seed))
        outcome = simulate(plant, stages, load, seconds, warm_up=warm_up, seed=seed)
        demand = demands(outcome)
        name, busy = outcome.first
        grows = outcome.in_system[1] - outcome.in_system[0] > (1 - LIMIT) * outcome.offered * outcome.seconds
        busy = 1.0 if grows and busy < LIMIT else busy  # it is full of waiting
        if abs(busy - LIMIT) < CLOSE:
            break
        low, high = (max(low, rate), high) if busy < LIMIT else (low, min(high, rate))
        rate = LIMIT / demand[name] if demand[name] else 2 * rate
        if not low < rate < high:  # a queue that grows tells no demand of the whole
            rate = (low + high) / 2 if high < float("inf") else 2 * low
    return Bottleneck(name, LIMIT / demand[name], demand, outcome)
