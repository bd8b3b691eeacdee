"""Delivery: threads of one process that make the reports that are due and hand each to the PACS."""

import heapq

from tests.bench.simulation.hints import Hints
from tests.bench.simulation.resources import Steps
from tests.bench.simulation.site import Site, Study


class Delivering:
    """One thread of the delivery worker."""

    def __init__(self, site: Site, hints: Hints) -> None:
        self.site, self.hints = site, hints

    def run(self) -> Steps:
        """Take a hint; report and deliver until nothing is due."""
        site = self.site
        while True:
            yield self.hints.take()
            thread = site.threads.take()
            yield thread
            yield site.env.timeout(site.draw("wakeup")["wait"])
            yield from self._report()
            while site.deliveries:
                yield from self._deliver(site.deliveries.popleft())
                yield from self._report()
            site.threads.leave(thread)

    def _report(self) -> Steps:
        site = self.site
        while (study := self._due()) is not None:
            yield from self._in_the_process("report", study.objects)
            yield from site.spool.serve(site.draw("report_file")["wait"])
            yield from site.transaction("report", study.objects, "delivery")
            site.counts.reported += 1
            site.deliveries.append(study)

    def _due(self) -> Study | None:
        reports = self.site.reports
        return heapq.heappop(reports)[2] if reports and reports[0][0] <= self.site.env.now else None

    def _deliver(self, study: Study) -> Steps:
        site = self.site
        yield from self._in_the_process("deliver")
        seconds = site.draw("pacs")
        yield site.compute("peer", seconds.get("peer", 0.0))
        wait = seconds.get("wait", 0.0) if site.plant.pacs_seconds is None else site.plant.pacs_seconds
        yield site.env.timeout(wait)
        yield from site.transaction("deliver", 1, "delivery")
        site.counts.delivered += 1
        site.counts.to_report[study.kind].append(site.env.now - study.last_at)

    def _in_the_process(self, name: str, count: int = 1) -> Steps:
        """What a stage takes of the delivery process itself: one of its threads computes at a time."""
        site = self.site
        turn = site.delivery.take()
        yield turn
        yield site.compute("delivery", site.draw(name, count)["process"])
        site.delivery.leave(turn)
