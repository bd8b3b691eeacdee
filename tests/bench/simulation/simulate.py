"""One simulation: a plant, its stage times and a load in; rates, latencies and how busy everything was out."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from tests.bench.simulation.delivering import Delivering
from tests.bench.simulation.hints import Hints
from tests.bench.simulation.inferring import Worker
from tests.bench.simulation.plant import Plant
from tests.bench.simulation.receiving import Receiving
from tests.bench.simulation.registering import Registering
from tests.bench.simulation.resources import Steps
from tests.bench.simulation.site import CHAIN, WAITING, Counts, Site, Study
from tests.bench.simulation.stage_times import Stage

ROWS = "rows of studies"
"""What transactions wait for that change the same study: a worker's commit, and intake with the next slices of it."""
NEARLY = 0.8

POINTS = (0.5, 0.95, 0.99)


def percentiles(values: Iterable[float]) -> dict[str, float]:
    """Return p50, p95 and p99, each a value that was seen; nothing where none was."""
    ordered = sorted(values)
    if not ordered:
        return {}
    return {f"p{100 * point:.0f}": ordered[min(int(point * len(ordered)), len(ordered) - 1)] for point in POINTS}


@dataclass
class Outcome:
    """What a simulation showed after its warm-up.

    Attributes
    ----------
    offered, done
        Instances received and classified a second.
    utilisation
        By resource, 0 to 1.
    in_system
        Instances received and not yet classified: at the beginning of what counts, at the end, and at most.
    samples
        Looks at the site: second, instances in the system, received and classified so far.
    """

    seconds: float
    offered: float
    done: float
    utilisation: dict[str, float]
    in_system: tuple[int, int, int]
    counts: Counts
    samples: list[tuple[float, int, int, int]] = field(default_factory=list)

    @property
    def first(self) -> tuple[str, float]:
        """The busiest resource, and how busy it was; what is mostly waited for, where it mostly waits."""
        parts = set(WAITING.values())
        busiest = max((name for name in self.utilisation if name not in parts), key=self.utilisation.__getitem__)
        busy = self.utilisation[busiest]
        waiting = self.utilisation.get(WAITING.get(busiest, ""), 0.0)
        if waiting > busy / 5 and self.utilisation[CHAIN] > NEARLY * busy:
            return CHAIN, busy
        return (ROWS if waiting > busy / 2 else busiest), busy

    def as_document(self) -> dict[str, Any]:
        """Return it for a file."""
        counts = self.counts
        return {
            "seconds": self.seconds,
            "objects_a_second": {"offered": self.offered, "done": self.done},
            "studies": counts.studies,
            "store_seconds": percentiles(counts.store),
            "to_result_seconds": {kind: percentiles(values) for kind, values in counts.to_result.items()},
            "to_report_seconds": {kind: percentiles(values) for kind, values in counts.to_report.items()},
            "batch": fmean(counts.batches) if counts.batches else 0.0,
            "in_system": dict(zip(("begin", "end", "most"), self.in_system, strict=True)),
            "utilisation": self.utilisation,
            "first": dict(zip(("resource", "busy"), self.first, strict=True)),
        }


def simulate(
    plant: Plant,
    stages: Mapping[str, Stage],
    studies: Iterable[Study],
    seconds: float,
    *,
    warm_up: float = 0.0,
    seed: int = 1,
    look_seconds: float = 60.0,
    tell: Callable[[float], object] = lambda _: None,
) -> Outcome:
    """Let a site work through a load.

    Parameters
    ----------
    studies
        In the order in which they are sent; after `seconds` nobody looks any more.
    warm_up
        Seconds that do not count.
    tell
        Called now and then with the share of the time that has passed.
    """
    site = Site(plant, stages, seed)
    begin_everything(site, studies)
    samples: list[tuple[float, int, int, int]] = []
    begun = 0
    now = 0.0
    while now < seconds:
        target = min(now + look_seconds, warm_up if now < warm_up else seconds)
        site.env.run(until=target)
        if now < warm_up <= target:
            begun = site.in_system
            start_counting(site)
        now = target
        received, classified = site.counts.received, site.counts.classified
        samples.append((now, begun + received - classified if now > warm_up else begun, received, classified))
        tell(now / seconds)
    counts, span = site.counts, seconds - warm_up
    end = begun + counts.received - counts.classified
    return Outcome(
        span, counts.received / span, counts.classified / span,
        {name: meter.utilisation for name, meter in site.meters().items()},
        (begun, end, max(sample[1] for sample in samples)), counts, samples,
    )  # fmt: skip


def begin_everything(site: Site, studies: Iterable[Study]) -> None:
    """Start every service, and the senders."""
    env = site.env
    inference, delivery = Hints(site, ("cr", "ct")), Hints(site, ("delivery",))
    receiving = Receiving(site)
    env.process(Registering(site, inference, delivery).run())
    for _ in range(site.plant.workers):
        env.process(Worker(site, inference).run())
    for _ in range(site.plant.delivery_threads):
        env.process(Delivering(site, delivery).run())

    def senders() -> Steps:
        for study in studies:
            yield env.timeout(max(0.0, study.sent_at - env.now))
            env.process(receiving.take(study))

    env.process(senders())


def start_counting(site: Site) -> None:
    """Forget what was counted so far: it was the warm-up."""
    for meter in site.meters().values():
        meter.reset()
    site.counts = Counts()
