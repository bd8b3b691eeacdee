"""Intake: the one process that registers what was received, and every few seconds hints at what is owed."""

from collections import Counter

from tests.bench.simulation.hints import Hints
from tests.bench.simulation.receiving import BYTES
from tests.bench.simulation.resources import Steps
from tests.bench.simulation.site import Object, Site
from worker.arrivals import BATCH_BYTES, BATCH_OBJECTS
from worker.intake_service import GATHER_SECONDS, SMALL_BATCH


class Registering:
    """The loop of the intake process.

    Parameters
    ----------
    inference, delivery
        Where the hints go.
    """

    def __init__(self, site: Site, inference: Hints, delivery: Hints) -> None:
        self.site, self.inference, self.delivery = site, inference, delivery
        self._sweeps = 0

    def run(self) -> Steps:
        """Register, sweep, and look again."""
        site, next_sweep = self.site, 0.0
        while True:
            if site.arrived:
                turn = site.intake.take()
                yield turn
                batch = self._batch()
                yield from self._register(batch)
                site.intake.leave(turn)
                if len(batch) < SMALL_BATCH:
                    yield site.env.timeout(GATHER_SECONDS)
            if site.env.now >= next_sweep:
                turn = site.intake.take()
                yield turn
                yield from self._sweep()
                site.intake.leave(turn)
                next_sweep = site.env.now + site.plant.sweep_seconds
            if not site.arrived:
                yield from self._idle(next_sweep)

    def _idle(self, next_sweep: float) -> Steps:
        """Sleep until something arrives, which rings a bell, or a sweep is due."""
        site = self.site
        site.arrival = site.env.event()
        yield site.arrival | site.env.timeout(max(0.0, next_sweep - site.env.now))

    def _batch(self) -> list[Object]:
        batch: list[Object] = []
        size = 0
        while self.site.arrived and size <= BATCH_BYTES and len(batch) < BATCH_OBJECTS:
            batch.append(self.site.arrived.popleft())
            size += BYTES[batch[-1].study.kind]
        return batch

    def _register(self, batch: list[Object]) -> Steps:
        site = self.site
        for one in batch:
            seconds = site.draw(f"headers.{one.study.kind}")
            yield from site.read_spool(BYTES[one.study.kind])
            for party, spent in seconds.items():
                yield site.compute(party, spent)
        yield from site.change("register", batch, "intake")
        filing = site.draw("file_away", len(batch))
        yield site.compute("intake", filing.get("intake", 0.0))
        yield from site.spool.serve(filing["wait"])
        site.counts.registered += len(batch)
        for one in batch:
            one.study.registered += 1
            site.owed[one.study.kind].append(one)
        for lane, owed in Counter(one.study.kind for one in batch).items():
            yield from self.inference.publish(lane, "intake", owed)

    def _sweep(self) -> Steps:
        site = self.site
        yield from site.transaction("sweep", 1, "intake")
        for lane, owed in site.owed.items():
            if owed:
                yield from self.inference.publish(lane, "intake", len(owed))
        if site.deliveries or (site.reports and site.reports[0][0] <= site.env.now):
            yield from self.delivery.publish("delivery", "intake")
        self._sweeps += 1
        site.env.process(self._hint_when_due(self._sweeps))

    def _hint_when_due(self, sweep: int) -> Steps:
        """Wake delivery at the moment when a study has been quiet, of those that the sweep saw; the next looks anew."""
        site = self.site
        while (due := min((one[0] for one in site.reports if one[0] > site.env.now), default=None)) is not None:
            yield site.env.timeout(due - site.env.now)
            if self._sweeps != sweep:
                return
            yield from self.delivery.publish("delivery", "intake")
