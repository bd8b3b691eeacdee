"""Everything that stands at a site while the simulation runs, and how a transaction goes."""

import random
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import simpy

from tests.bench.simulation.plant import Plant
from tests.bench.simulation.resources import Flusher, Meter, Processors, Station, Steps
from tests.bench.simulation.stage_times import Stage

CHAIN = "database: audit chain"
WAITING = {
    "intake: its process": "intake: waiting for others' transactions",
    "inference workers": "inference workers: waiting for others' transactions",
}
"""Part of the time of a process: it stands still for the row of a study, the chain, or a connection."""

Cores = Processors | None
"""Where something is computed; None: on the machine of listener and intake, and what the database does on its own."""

OUTSIDE = frozenset({"sender", "peer"})
"""Parties that are no part of firstread: their machines are their own, but where all run on one."""


@dataclass
class Study:
    """A study on its way.

    Attributes
    ----------
    kind
        `cr` (film) or `ct` (slice): which stage times its objects have.
    """

    number: int
    kind: str
    objects: int
    sent_at: float
    acknowledged: int = 0
    registered: int = 0
    classified: int = 0
    last_at: float = 0.0
    row: simpy.Resource | None = None
    """Its row, which whoever changes anything of the study holds."""


@dataclass
class Object:
    """One object: when its transfer began, and its study."""

    study: Study
    at: float


@dataclass
class Counts:
    """What came in, what went out, and how long it took, in seconds."""

    received: int = 0
    registered: int = 0
    classified: int = 0
    reported: int = 0
    delivered: int = 0
    studies: int = 0
    last_result_at: float = 0.0
    store: list[float] = field(default_factory=list)
    to_result: dict[str, list[float]] = field(default_factory=lambda: {"cr": [], "ct": []})
    to_report: dict[str, list[float]] = field(default_factory=lambda: {"cr": [], "ct": []})
    batches: list[int] = field(default_factory=list)


class Site:
    """The resources, the queues between the services, and what is counted."""

    def __init__(self, plant: Plant, stages: Mapping[str, Stage], seed: int = 1) -> None:
        self.env = simpy.Environment()
        self.plant, self.stages = plant, stages
        self.chance = random.Random(seed)
        self.counts = Counts()
        env = self.env
        if plant.one_machine_cores:
            self.front = self.database = Processors(env, "cores of the machine", plant.one_machine_cores)
        else:
            self.front = Processors(env, "cores of listener and intake", plant.front_cores)
            self.database = Processors(env, "database: cores", plant.database_cores)
        self.listeners = [Station(env, "listener: its process") for _ in range(plant.listeners)]
        self.associations = Station(env, "listener: places", plant.max_associations * plant.listeners)
        self.spool = Station(env, "spool: durable writes", plant.spool_channels)
        self.spool_wire = Station(env, "spool: bytes")
        self.intake = Station(env, "intake: its process")
        self.connections = Station(env, "database: connections", plant.database_connections)
        self.chain = Station(env, CHAIN)
        self.log = Flusher(env, "database: log flushes")
        self.broker = Station(env, "broker")
        self.workers = Station(env, "inference workers", plant.workers)
        self.waiting = {
            "intake": Meter(env, WAITING["intake: its process"], 1),
            "worker": Meter(env, WAITING["inference workers"], plant.workers),
        }
        self.decoding = Meter(env, "inference workers: decoding", plant.workers)
        self.computing = Meter(env, "GPUs" if plant.gpu else "inference workers: network", plant.workers)
        self.delivery = Station(env, "delivery: its process")
        self.threads = Station(env, "delivery: threads", plant.delivery_threads)
        self.arrived: deque[Object] = deque()
        self.arrival = env.event()
        self.owed: dict[str, deque[Object]] = {"cr": deque(), "ct": deque()}
        self.reports: list[tuple[float, int, Study]] = []
        """A heap: due when, of which study."""
        self.deliveries: deque[Study] = deque()

    def meters(self) -> dict[str, Meter]:
        """Every resource that may be the first to be full, by name."""
        single = [
            self.associations, self.spool, self.spool_wire, self.intake, self.connections, self.chain, self.broker,
            self.workers, self.delivery, self.threads,
        ]  # fmt: skip
        meters = [station.meter for station in (*self.listeners, *single)]
        meters += [
            self.front.meter,
            self.database.meter,
            self.log.meter,
            *self.waiting.values(),
            self.decoding,
            self.computing,
        ]
        found: dict[str, Meter] = {}
        for meter in meters:  # of several listeners the first stands for all
            found.setdefault(meter.name, meter)
        return found

    def compute(self, party: str, seconds: float, machine: Cores = None) -> simpy.Event:
        """Have a party's work done where it runs."""
        if party in OUTSIDE and not self.plant.one_machine_cores:
            return self.env.timeout(0)
        if machine is None or self.plant.one_machine_cores:
            machine = self.database if party == "database" else self.front
        return machine.work(seconds)

    def draw(self, name: str, count: int = 1, seen: int = 0) -> dict[str, float]:
        """Return the seconds of every party in one run of a stage."""
        stage = self.stages[name]
        factor = stage.draw(self.chance)
        return {party: factor * stage.seconds(party, count, seen) for party in sorted(stage.parties)}

    def wait(self, party: str, waited_for: simpy.Event) -> Steps:
        """Wait for what others hold; that a process waits is told from that it works."""
        meter = self.waiting.get(party)
        if meter is not None:
            meter.add(1)
        yield waited_for
        if meter is not None:
            meter.add(-1)

    def change(self, name: str, objects: Sequence[Object], party: str, machine: Cores = None) -> Steps:
        """Run a transaction over objects: it holds the rows of their studies, in one order, and reads all of them."""
        studies = sorted({id(one.study): one.study for one in objects}.values(), key=lambda study: study.number)
        held = []
        for study in studies:
            study.row = study.row or simpy.Resource(self.env)
            held.append((study.row, study.row.request()))
            yield from self.wait(party, held[-1][1])
        seen = sum(study.registered for study in studies)
        yield from self.transaction(name, len(objects), party, machine, seen)
        for row, request in held:
            row.release(request)

    def transaction(self, name: str, count: int, party: str, machine: Cores = None, seen: int = 0) -> Steps:
        """Run one: its statements, then, where it writes audit events, the head of the chain until it is durable."""
        stage, seconds = self.stages[name], self.draw(name, count, seen)
        trips = (stage.statements[0] + count * stage.statements[1]) * self.plant.round_trip_seconds
        connection = self.connections.take()
        yield from self.wait(party, connection)
        for chained in (False, True):
            share = stage.chained if chained else 1 - stage.chained
            head = self.chain.take() if chained and stage.chained else None
            if head is not None:
                yield from self.wait(party, head)
            if share:
                yield self.compute(party, share * seconds.get(party, 0.0), machine)
                yield self.compute("database", share * seconds.get("database", 0.0))
                if trips:
                    yield self.env.timeout(share * trips)
            if chained:
                yield self.log.flush(self.draw("log")["wait"])
            if head is not None:
                self.chain.leave(head)
        self.connections.leave(connection)

    def read_spool(self, size: float) -> Steps:
        """Read or write so many bytes of the spool over its wire, where it has one."""
        if self.plant.spool_bytes:
            yield from self.spool_wire.serve(size / self.plant.spool_bytes)

    @property
    def in_system(self) -> int:
        """Objects that were received and are not classified yet."""
        return self.counts.received - self.counts.classified
