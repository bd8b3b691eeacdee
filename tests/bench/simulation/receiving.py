"""The listener: an association a study, each object answered when its bytes and its name are on the disk."""

from tests.bench.simulation.resources import Steps
from tests.bench.simulation.site import Object, Site, Study

BYTES = {"cr": 2048 * 2048 * 2, "ct": 512 * 512 * 2}
"""Of an object: a film of 2048 x 2048, a slice of 512 x 512, 16 bit."""


class Receiving:
    """Takes studies from modalities."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self._next = 0

    def take(self, study: Study) -> Steps:
        """Receive all objects of a study, one after the other, over one association."""
        site = self.site
        site.counts.studies += 1
        self._next += 1
        process = site.listeners[self._next % len(site.listeners)]
        place = site.associations.take()
        yield place
        for number in range(study.objects):
            began = site.env.now
            yield from self._store(study, process)
            pace = 1 / site.plant.modality_rate if site.plant.modality_rate else 0.0
            if number + 1 < study.objects and (left := began + pace - site.env.now) > 0:
                yield site.env.timeout(left)
        site.associations.leave(place)

    def _store(self, study: Study, process: object) -> Steps:
        site, began = self.site, self.site.env.now
        seconds = site.draw(f"receive.{study.kind}")
        if site.plant.link_bytes:
            yield site.env.timeout(BYTES[study.kind] / site.plant.link_bytes)
        yield site.compute("sender", seconds.get("sender", 0.0))
        turn = process.take()  # one thread of a process computes at a time
        yield turn
        yield site.compute("listener", seconds["listener"])
        process.leave(turn)
        yield from site.read_spool(BYTES[study.kind])
        yield from site.spool.serve(site.draw(f"spool.{study.kind}")["wait"])
        study.acknowledged += 1
        study.last_at = site.env.now
        site.counts.received += 1
        site.counts.store.append(site.env.now - began)
        site.arrived.append(Object(study, began))
        if not site.arrival.triggered:
            site.arrival.succeed()
