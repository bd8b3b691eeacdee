"""What work waits for: places in a row, shared processors, a log that many flush at once; each with its meter."""

import heapq
from collections.abc import Generator
from typing import Any

import simpy

Steps = Generator[simpy.Event, Any, Any]
"""What a SimPy process yields."""


class Meter:
    """The integral of how much of a resource was busy, over time.

    Parameters
    ----------
    capacity
        What is busy at most.
    """

    def __init__(self, env: simpy.Environment, name: str, capacity: float) -> None:
        self.env, self.name, self.capacity = env, name, capacity
        self.served = 0
        self._busy = self._integral = self._since = self._begin = 0.0

    def set(self, busy: float) -> None:
        """Say how much is busy from now on."""
        self._integral += self._busy * (self.env.now - self._since)
        self._busy, self._since = busy, self.env.now

    def add(self, busy: float) -> None:
        """Say how much more is busy from now on."""
        self.set(self._busy + busy)

    def reset(self) -> None:
        """Count from now on: what came before was the warm-up."""
        self.set(self._busy)
        self._integral, self._begin, self.served = 0.0, self.env.now, 0

    @property
    def busy_seconds(self) -> float:
        """Seconds that were worked, over all places."""
        return self._integral + self._busy * (self.env.now - self._since)

    @property
    def utilisation(self) -> float:
        """Share of the capacity that was busy since the start or the last reset."""
        elapsed = self.env.now - self._begin
        return self.busy_seconds / (elapsed * self.capacity) if elapsed else 0.0


class Station:
    """So many places, first come first served."""

    def __init__(self, env: simpy.Environment, name: str, places: int = 1) -> None:
        self.env = env
        self.meter = Meter(env, name, places)
        self._resource = simpy.Resource(env, places)
        self.longest_queue = 0

    def take(self) -> simpy.resources.resource.Request:
        """Ask for a place; to be yielded, then given back with `leave`."""
        request = self._resource.request()
        self.longest_queue = max(self.longest_queue, len(self._resource.queue))
        request.callbacks.append(self._count)  # a place that is free is given at once, before anybody yields
        return request

    def _count(self, _: simpy.Event) -> None:
        self.meter.add(1)

    def leave(self, request: simpy.resources.resource.Request) -> None:
        """Give a place back."""
        self._resource.release(request)
        self.meter.served += 1
        self.meter.add(-1)

    def serve(self, seconds: float) -> Steps:
        """Wait for a place and keep it for so long."""
        request = self.take()
        yield request
        yield self.env.timeout(seconds)
        self.leave(request)


class Processors:
    """Cores that share themselves evenly among all that want one, as the kernel does (egalitarian processor sharing).

    Each job is at work on one core at most. The work done for a job that has been there all the time is kept as one
    number, and a job is done when that number has grown by its seconds.
    """

    def __init__(self, env: simpy.Environment, name: str, cores: float) -> None:
        self.env, self.cores = env, cores
        self.meter = Meter(env, name, cores)
        self._done = self._since = 0.0
        self._jobs: list[tuple[float, int, simpy.Event]] = []
        self._number = 0
        self._turn = 0

    def work(self, seconds: float) -> simpy.Event:
        """Have so many seconds of one core's work done; yield what is returned."""
        job = self.env.event()
        if seconds <= 0:
            return job.succeed()
        self._advance()
        self._number += 1
        heapq.heappush(self._jobs, (self._done + seconds, self._number, job))
        self._plan()
        return job

    def _speed(self) -> float:
        return min(1.0, self.cores / len(self._jobs)) if self._jobs else 0.0

    def _advance(self) -> None:
        self._done += (self.env.now - self._since) * self._speed()
        self._since = self.env.now

    def _plan(self) -> None:
        self.meter.set(min(len(self._jobs), self.cores))
        self._turn += 1
        if self._jobs:
            turn = self._turn
            wait = self.env.timeout(max(0.0, (self._jobs[0][0] - self._done) / self._speed()))
            wait.callbacks.append(lambda _: self._finish(turn))

    def _finish(self, turn: int) -> None:
        if turn != self._turn:  # somebody came meanwhile, and it was planned anew
            return
        self._advance()
        first = self._jobs[0][0]
        self._done = max(self._done, first)
        while self._jobs and self._jobs[0][0] <= first:
            heapq.heappop(self._jobs)[2].succeed()
            self.meter.served += 1
        self._plan()


class Flusher:
    """A write-ahead log: one flush makes durable whatever was written before it began (group commit)."""

    def __init__(self, env: simpy.Environment, name: str) -> None:
        self.env = env
        self.meter = Meter(env, name, 1)
        self._waiting: list[tuple[float, simpy.Event]] = []
        self._running = False

    def flush(self, seconds: float) -> simpy.Event:
        """Have something made durable; a flush alone would take so long."""
        done = self.env.event()
        self._waiting.append((seconds, done))
        if not self._running:
            self._running = True
            self.env.process(self._run())
        return done

    def _run(self) -> Steps:
        self.meter.set(1)
        while self._waiting:
            together, self._waiting = self._waiting, []
            yield self.env.timeout(max(seconds for seconds, _ in together))
            for _, done in together:
                done.succeed()
            self.meter.served += len(together)
        self.meter.set(0)
        self._running = False
