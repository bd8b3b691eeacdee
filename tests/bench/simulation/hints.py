"""Hints: what the broker carries, one a batch that is due. A consumer takes the queues in turn."""

from collections import deque
from collections.abc import Sequence

import simpy

from tests.bench.simulation.resources import Steps
from tests.bench.simulation.site import Site
from worker.wakeups import BATCH, MOST


class Hints:
    """The queues of one kind of consumer.

    Parameters
    ----------
    lanes
        Names of the queues.
    """

    def __init__(self, site: Site, lanes: Sequence[str]) -> None:
        self.site = site
        self._waiting = dict.fromkeys(lanes, 0)
        self._consumers: deque[simpy.Event] = deque()
        self._order = deque(lanes)

    def publish(self, lane: str, party: str, due: int = 1) -> Steps:
        """Leave hints until there is one a batch of what is due; it costs the publisher and the broker either way."""
        wanted = min(-(-due // BATCH), MOST)
        for _ in range(max(wanted - self._waiting[lane], 1)):
            seconds = self.site.draw("hint")
            yield self.site.compute(party, seconds.get("publisher", 0.0))
            yield from self.site.broker.serve(seconds.get("broker", 0.0))
            if self._waiting[lane] >= wanted:
                return
            if self._consumers:
                self._consumers.popleft().succeed(lane)
            else:
                self._waiting[lane] += 1

    def take(self) -> simpy.Event:
        """Wait for a hint; what is yielded becomes its queue's name."""
        taken = self.site.env.event()
        for _ in range(len(self._order)):
            self._order.rotate(-1)
            lane = self._order[-1]
            if self._waiting[lane]:
                self._waiting[lane] -= 1
                return taken.succeed(lane)
        self._consumers.append(taken)
        return taken
