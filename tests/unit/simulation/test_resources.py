"""The resources against queueing theory: closed forms within the confidence interval of a fixed seed, Little's law."""

import random
from collections.abc import Callable
from statistics import fmean, stdev

import pytest
import simpy

from tests.bench.simulation.resources import Flusher, Meter, Processors, Station

RATE, SERVICE = 0.7, 1.0
CUSTOMERS, BATCHES = 12_000, 20


def exponential(chance: random.Random) -> float:
    return chance.expovariate(1 / SERVICE)


def constant(_: random.Random) -> float:
    return SERVICE


def in_a_row(env: simpy.Environment) -> tuple[Meter, Callable]:
    station = Station(env, "a place")
    return station.meter, station.serve


def shared(env: simpy.Environment) -> tuple[Meter, Callable]:
    processors = Processors(env, "a core", 1)

    def serve(seconds: float):
        yield processors.work(seconds)

    return processors.meter, serve


@pytest.mark.parametrize(
    ("discipline", "service", "expected"),
    [
        (in_a_row, exponential, SERVICE / (1 - RATE * SERVICE)),  # M/M/1
        (in_a_row, constant, SERVICE + RATE * SERVICE**2 / (2 * (1 - RATE * SERVICE))),  # M/D/1, Pollaczek-Khinchine
        (shared, exponential, SERVICE / (1 - RATE * SERVICE)),  # M/M/1 with processor sharing
        (shared, constant, SERVICE / (1 - RATE * SERVICE)),  # M/G/1-PS: only the mean of the service counts
    ],
    ids=["M/M/1", "M/D/1", "M/M/1-PS", "M/D/1-PS"],
)
def test_the_time_in_the_system_is_the_closed_form_and_the_laws_hold(discipline, service, expected) -> None:
    chance, env = random.Random(4), simpy.Environment()
    meter, serve = discipline(env)
    within = Meter(env, "in the system", 1)
    spent: list[float] = []

    def customer():
        began = env.now
        within.add(1)
        yield from serve(service(chance))
        within.add(-1)
        spent.append(env.now - began)

    def source():
        for _ in range(CUSTOMERS):
            yield env.timeout(chance.expovariate(RATE))
            env.process(customer())

    env.process(source())
    env.run()
    assert len(spent) == meter.served == CUSTOMERS
    size = CUSTOMERS // BATCHES
    means = [fmean(spent[start : start + size]) for start in range(0, CUSTOMERS, size)]
    assert abs(fmean(means) - expected) < 3 * stdev(means) / BATCHES**0.5
    throughput = CUSTOMERS / env.now
    assert within.utilisation == pytest.approx(throughput * fmean(spent)), "Little: L = X W"
    if service is constant:
        assert meter.utilisation == pytest.approx(throughput * SERVICE), "the utilisation law: U = X S"


def test_cores_are_shared_and_nobody_has_more_than_one() -> None:
    env = simpy.Environment()
    two = Processors(env, "cores", 2)
    ends: dict[str, float] = {}

    def job(name: str, seconds: float, after: float = 0.0):
        yield env.timeout(after)
        yield two.work(seconds)
        ends[name] = env.now

    for name, seconds, after in (("long", 4.0, 0.0), ("short", 1.0, 0.0), ("late", 1.0, 1.0), ("last", 1.0, 1.0)):
        env.process(job(name, seconds, after))
    env.run()
    # Alone on a core until 1; then three share two: 1 of work takes 1.5; the long one, with 2 left, is alone again.
    assert ends == pytest.approx({"short": 1.0, "late": 2.5, "last": 2.5, "long": 4.5})
    assert two.meter.busy_seconds == pytest.approx(7.0)


def test_what_is_written_while_a_flush_runs_is_flushed_together() -> None:
    env = simpy.Environment()
    log = Flusher(env, "log")
    ends = []

    def writer(after: float):
        yield env.timeout(after)
        yield log.flush(1.0)
        ends.append(env.now)

    for after in (0.0, 0.2, 0.4, 0.9):
        env.process(writer(after))
    env.run()
    assert ends == [1.0, 2.0, 2.0, 2.0]
    assert log.meter.served == 4


def test_the_warm_up_is_forgotten() -> None:
    env = simpy.Environment()
    meter = Meter(env, "two places", 2)
    meter.set(2)
    env.run(until=10)
    meter.reset()
    env.run(until=20)
    meter.set(0)
    env.run(until=30)
    assert meter.utilisation == pytest.approx(0.5)
