"""Measured: each step of the real pipeline, on PostgreSQL and with the shipped models, alone and by many at once."""

import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from statistics import median
from typing import Any

import numpy as np
from sqlmodel import select

from models.classifier import Classifier
from models.engines.keras import BUCKETS
from tests.bench.simulation.measuring.fit import Run, fitted
from tests.bench.simulation.measuring.loads import Loads
from tests.bench.simulation.measuring.parties import Parties, children_that_run, tree
from tests.bench.simulation.measuring.probe import Probe
from tests.bench.simulation.stage_times import Stage
from tests.faults.postgres import PostgresServer
from tests.support.peers import Storescp
from worker import bootstrap
from worker.config import Settings
from worker.database import Delivery, DeliveryStatus, WorkKind
from worker.inference import classify
from worker.inference.readers import PixelReaders
from worker.intake.spool import Spool
from worker.wakeups import DELIVERY, queue_of

MODELS = {"cr": "chest_xray_triage", "ct": "chest_ct_covid"}
LOTS = {"cr": ((1, 1), (1, 4)), "ct": ((1, 1), (1, 32), (4, 32))}
"""Of a round, by kind: how many batches of how many objects each study has."""

Tell = Callable[[str], object]


class Bench:
    """The pipeline of one process that does every step itself, with what it needs running beside it."""

    def __init__(self, settings: Settings, app: Any, postgres: PostgresServer, broker: int, pacs: Storescp) -> None:
        self.stack = ExitStack()
        self.settings = settings
        self.database = bootstrap.open_database(settings)
        self.pipeline = bootstrap.build_pipeline(settings, self.database, actor="bench", app=app, routes=True)
        self.probe = self.stack.enter_context(Probe(self.database).listening())
        self.reader = self.stack.enter_context(
            PixelReaders(1, seconds=settings.decode_seconds, memory_bytes=settings.decode_bytes)
        )
        registry = bootstrap.model_registry(settings)
        self.classifiers = {kind: Classifier.load(registry.find(model)) for kind, model in MODELS.items()}
        self.spool = Spool(settings.spool_dir)
        self.loads = Loads()
        postmaster = postgres._tree()[0].pid
        assert pacs.process is not None
        self.parties = Parties(
            "self",
            {
                "database": tree(postmaster),
                "child_of_intake": children_that_run("header_child"),
                "child": children_that_run("inference.decoder"),
                "broker": tree(broker),
                "peer": tree(pacs.process.pid),
            },
        )
        self.runs: dict[str, list[Run]] = defaultdict(list)

    def close(self) -> None:
        """End what runs beside it."""
        self.stack.close()
        self.database.dispose()

    def step(self, name: str, act: Callable[[], object], count: int = 1, seen: int = 0) -> None:
        """Run one step and keep what it took."""
        self.probe.take()
        spent = self.parties.time(act)
        self.runs[name].append(Run(count, spent, seen, self.probe.take()))


def warm(bench: Bench) -> None:
    """Let everything do its work once: what comes first is slower."""
    for classifier in bench.classifiers.values():
        classifier.warm_up()
    for kind in MODELS:
        journey(bench, kind, 1, 1)
    bench.runs.clear()


def journey(bench: Bench, kind: str, batches: int, size: int) -> None:
    """Take one study the whole way, batch after batch, each step timed."""
    scans = bench.loads.study(kind, batches * size)
    seen = 0
    for _ in range(batches):
        for one in [next(scans) for _ in range(size)]:
            with bench.spool.receive() as incoming:
                incoming.write(part10(one.sop_class_uid, one.sop_instance_uid, one.data))
                incoming.commit()
        seen += size
        _intake(bench, kind, size, seen)
        _inference(bench, kind, size, seen)
    pipeline = bench.pipeline
    bench.step("report", lambda: pipeline._one(WorkKind.REPORT, "", pipeline._report), seen)
    bench.step("deliver", pipeline.deliver)
    with bench.database.read() as session:
        undone = session.exec(select(Delivery.last_error).where(Delivery.status != DeliveryStatus.DELIVERED)).all()
    assert not undone, f"reports that are not at the PACS: {undone}"


def part10(sop_class: str, sop_instance: str, data: bytes) -> bytes:
    """Return the file that the listener would have made of a data set."""
    from tests.support.objects import prefix
    from tests.support.raw_store import EXPLICIT_VR_LITTLE_ENDIAN

    return prefix(EXPLICIT_VR_LITTLE_ENDIAN, sop_class, sop_instance) + data


def _intake(bench: Bench, kind: str, size: int, seen: int) -> None:
    arrivals = bench.pipeline.arrivals
    assert arrivals is not None
    batch: list[Any] = []
    bench.step(f"headers.{kind}", lambda: batch.extend(arrivals._read()), size)
    assert len(batch) == size, f"{len(batch)} of {size} objects in one batch"
    bench.step("register", lambda: arrivals._commit(batch), size, seen)


def _inference(bench: Bench, kind: str, size: int, seen: int) -> None:
    pipeline, classifier = bench.pipeline, bench.classifiers[kind]
    lane = classifier.card.identifier
    claims: list[Any] = []
    bench.step("claim", lambda: claims.extend(pipeline.work.claim(WorkKind.INFER, lane=lane, limit=size)), size)
    tasks = pipeline._tasks(claims)
    objects: list[Any] = []

    def decode() -> None:
        objects.extend(classify.prepare(task, classifier, bench.reader) for task in tasks)
        bench.reader.settle()  # the previews are part of it

    bench.step(f"decode.{kind}", decode, size)
    outcomes = classify.score(objects, classifier)
    assert all(outcome.probabilities for outcome in outcomes), "an object was not classified"
    bench.step("commit", lambda: pipeline.results.commit(claims, outcomes, classifier), size, seen)


def others(bench: Bench, rounds: int, tell: Tell) -> None:
    """Measure what belongs to no single object: the networks by batch, the sweep, the hints."""
    for _ in range(rounds):
        for kind, classifier in bench.classifiers.items():
            shape = classifier.card.input
            tell(f"network {kind}")
            for bucket in BUCKETS:
                batch = np.random.default_rng(bucket).random((bucket, shape.rows, shape.columns, shape.channels))
                pixels = batch.astype(np.float32)
                bench.step(f"infer.{kind}.{bucket}", lambda c=classifier, p=pixels: c.probabilities(p))
        tell("sweep and hints")
        bench.step("sweep", bench.pipeline.sweep)
        for queue in (DELIVERY, queue_of(WorkKind.INFER, bench.classifiers["cr"].card.identifier)):
            bench.step("hint", lambda queue=queue: bench.pipeline.wakeups.send({queue}))


def measure(bench: Bench, rounds: int, tell: Tell) -> list[Stage]:
    """Run every step, kinds and sizes in turns, and return the stages."""
    warm(bench)
    for number in range(rounds):
        for kind, lots in LOTS.items():
            for batches, size in lots:
                tell(f"round {number + 1}: {batches} x {size} {kind}")
                journey(bench, kind, batches, size)
    others(bench, rounds, tell)
    return [*(_stage(name, runs) for name, runs in bench.runs.items()), _pacs(bench.runs["deliver"])]


PARTY = {"headers": "intake", "register": "intake", "sweep": "intake", "hint": "publisher", "report": "process",
         "deliver": "process"}  # fmt: skip
"""Whom this process was, by the first word of a stage; the inference worker else."""


def _stage(name: str, runs: Sequence[Run]) -> Stage:
    own = PARTY.get(name.partition(".")[0], "worker")
    how = f"processor seconds, {len(runs)} runs, PostgreSQL, nothing else of firstread at work"
    stage = fitted(name, how, runs, {"self": own})
    return _split(stage, runs) if own == "process" else stage


def _pacs(runs: Sequence[Run]) -> Stage:
    """What a delivery waits for that is nobody's work here: the stand-in PACS, which is dcmtk's storescp."""
    waits = sorted(run.spent.wall - sum(run.spent.processor.values()) for run in runs)
    wait, work = max(0.0, waits[len(waits) // 4]), median(run.spent.processor["peer"] for run in runs)
    how = "a delivery to dcmtk's storescp on this machine: wall time without anybody's processor seconds, and its own"
    return Stage("pacs_here", "measured", how, {"wait": wait, "peer": work})


def _split(stage: Stage, runs: Sequence[Run]) -> Stage:
    """Tell what the delivery process does in its transaction from what it does before."""
    inside = sum(run.probed.transaction_seconds for run in runs if run.probed)
    share = min(1.0, inside / sum(run.spent.processor["self"] for run in runs))

    def split(part: Mapping[str, float]) -> dict[str, float]:
        whole = part.get("process", 0.0)
        return {**part, "process": (1 - share) * whole, "delivery": share * whole}

    return replace(stage, fixed=split(stage.fixed), each=split(stage.each))


def threads() -> None:
    """Let networks and libraries compute with one thread, as one worker a core does; before they are loaded."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ[name] = "1"
