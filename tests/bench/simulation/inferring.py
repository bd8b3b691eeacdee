"""Inference workers: claim what is due up to a batch, decode, compute, commit, until nothing is due."""

import heapq
from collections.abc import Sequence

import simpy

from tests.bench.simulation.hints import Hints
from tests.bench.simulation.plant import bucket_of
from tests.bench.simulation.receiving import BYTES
from tests.bench.simulation.resources import Processors, Steps
from tests.bench.simulation.site import Object, Site
from worker.inference.batch_size import BatchSize


class Worker:
    """One inference worker; it serves all lanes in turns.

    Parameters
    ----------
    hints
        What wakes it up.
    """

    def __init__(self, site: Site, hints: Hints) -> None:
        self.site, self.hints = site, hints
        cores = site.plant.worker_cores
        self.machine = site.front if site.plant.one_machine_cores else Processors(site.env, "a worker's cores", cores)
        plant = site.plant
        self._sizes = {
            lane: BatchSize(plant.max_batch, seconds=plant.batch_seconds, side_by_side=plant.decoders)
            for lane in site.owed
        }

    def run(self) -> Steps:
        """Take a hint, work a turn."""
        site = self.site
        while True:
            lane = yield self.hints.take()
            busy = site.workers.take()
            yield busy
            yield site.env.timeout(site.draw("wakeup")["wait"])
            yield from self._turn(lane)
            site.workers.leave(busy)

    def _turn(self, lane: str) -> Steps:
        site = self.site
        began = site.env.now
        committing: simpy.Process | None = None
        ahead = yield from self._begin(lane)
        while ahead is not None:
            batch, decoding = ahead
            yield decoding
            late = site.env.now - began >= site.plant.turn_seconds
            ahead = (yield from self._begin(lane)) if site.plant.overlap and not late else None
            took = site.env.now
            yield from self._compute(batch)
            self._sizes[lane].lasted(len(batch), decoding.value, site.env.now - took)
            if committing is not None:
                yield committing
            committing = site.env.process(self._commit(batch))
            if not site.plant.overlap:
                yield committing
                ahead = None if late else (yield from self._begin(lane))
            if late and ahead is None:
                yield from self.hints.publish(lane, "worker")
        if committing is not None:
            yield committing

    def _begin(self, lane: str) -> Steps:
        """Claim a batch and begin to decode it."""
        site, size = self.site, self._sizes[lane]
        owed, asked = site.owed[lane], size.wanted
        batch = [owed.popleft() for _ in range(min(len(owed), asked))]
        yield from site.transaction("claim", len(batch), "worker", self.machine)
        if not batch:
            return None
        size.found(asked, len(batch))
        return batch, site.env.process(self._decode(batch))

    def _decode(self, batch: Sequence[Object]) -> Steps:
        """Decode a batch; returns how long it took."""
        site = self.site
        began = site.env.now
        site.decoding.add(1)
        lots = [batch[start :: site.plant.decoders] for start in range(site.plant.decoders)]
        yield site.env.all_of([site.env.process(self._decode_in_turn(lot)) for lot in lots if lot])
        site.decoding.add(-1)
        return site.env.now - began

    def _decode_in_turn(self, lot: Sequence[Object]) -> Steps:
        for one in lot:
            yield from self.site.read_spool(BYTES[one.study.kind])
            for party, seconds in self.site.draw(f"decode.{one.study.kind}").items():
                yield self.site.compute(party, seconds, self.machine)

    def _compute(self, batch: Sequence[Object]) -> Steps:
        site, kind = self.site, batch[0].study.kind
        site.computing.add(1)
        if site.plant.gpu:
            seconds = site.draw(f"gpu.{kind}", bucket_of(len(batch)))
            yield site.env.timeout(seconds["wait"])
        else:
            seconds = site.draw(f"infer.{kind}.{bucket_of(len(batch))}")
            yield site.compute("worker", seconds["worker"], self.machine)
        site.computing.add(-1)
        site.counts.batches.append(len(batch))

    def _commit(self, batch: Sequence[Object]) -> Steps:
        site = self.site
        yield from site.change("commit", batch, "worker", self.machine)
        site.counts.last_result_at = now = site.env.now
        for one in batch:
            study = one.study
            study.classified += 1
            site.counts.classified += 1
            site.counts.to_result[study.kind].append(now - one.at)
            if study.classified == study.objects:
                due = max(now, study.last_at + site.plant.quiet_seconds)
                heapq.heappush(site.reports, (due, study.number, study))
