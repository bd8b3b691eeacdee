"""The real thing: the services as processes, the same studies sent over real associations, and what came of them."""

import os
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import psutil
from sqlmodel import Session, col, select

from tests.bench.simulation.measuring.loads import Loads
from tests.bench.simulation.measuring.pace import Pace
from tests.bench.simulation.measuring.receiving import MAXIMUM
from tests.bench.simulation.measuring.stages import MODELS, threads
from tests.bench.simulation.site import Study
from tests.conftest import RedisServer
from tests.faults.postgres import PostgresServer
from tests.faults.scans import Scan
from tests.support.peers import Storescp
from tests.support.raw_store import EXPLICIT_VR_LITTLE_ENDIAN, RawAssociation
from tests.support.stack import Stack
from worker import schema
from worker.database import Database, Delivery, Instance, Prediction, Report
from worker.database import Study as StudyRow

QUIET_SECONDS = 2.0
SWEEP_SECONDS = 2.0
PATIENCE_SECONDS = 300.0


@dataclass
class Seen:
    """What a phase of a real run showed; latencies in seconds, by kind.

    Attributes
    ----------
    rate
        Instances a second, from the first that came to the last result.
    others
        Cores that others on this machine kept busy meanwhile.
    pace_seconds
        As `measuring.pace` has it.
    """

    rate: float
    others: float
    pace_seconds: float = 0.0
    to_result: dict[str, list[float]] = field(default_factory=lambda: {"cr": [], "ct": []})
    to_report: dict[str, list[float]] = field(default_factory=lambda: {"cr": [], "ct": []})


class RealSite:
    """All services with so many inference workers, PostgreSQL, Redis and a PACS; one thread a worker."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._servers = ExitStack()
        self.loads = Loads()

    def __enter__(self) -> Self:
        threads()
        with ExitStack() as servers:
            folder = Path(servers.enter_context(tempfile.TemporaryDirectory(prefix="fr-", ignore_cleanup_errors=True)))
            servers.callback((postgres := PostgresServer(folder / "pg")).stop)
            redis = RedisServer(folder)
            servers.callback(redis.stop)
            redis.start()
            pacs = servers.enter_context(Storescp(folder / "pacs"))
            self._postmaster = postgres._tree()[0].pid
            schema.migrate(Database(postgres.url))
            self.stack = servers.enter_context(
                Stack(
                    folder / "data", redis.url, database_url=postgres.url, pacs=pacs.peer,
                    study_quiet_seconds=QUIET_SECONDS, sweep_seconds=SWEEP_SECONDS, lease_seconds=60,
                )
            )  # fmt: skip
            servers.callback(self._end)
            self.stack.start("listener", "intake", "delivery")
            names = [f"inference-{number}" for number in range(self.workers)]
            self.stack.start(*names)
            self.stack.wait(lambda: all(self._warm(name) for name in names), 240, "the workers to be warm")
            self.database = Database(postgres.url)
            servers.callback(self.database.dispose)
            self._servers = servers.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._servers.close()

    def _end(self) -> None:
        """End the services at once: all is done by then, or has failed."""
        for name in list(self.stack.processes):
            self.stack.kill(name)

    def _warm(self, name: str) -> bool:
        return self.stack.log(name).count("model_ready") == len(MODELS)

    def work_through(self, studies: Sequence[Study], tell: Callable[[str], object]) -> Seen:
        """Send studies at their times, each over an association of its own; wait until every report is delivered."""
        tell("drawing what is sent")
        sent = {study.number: list(self.loads.study(study.kind, study.objects)) for study in studies}
        busy = Busy(self._postmaster)
        with Pace() as pace:
            senders = [threading.Thread(target=self._send, args=(sent[one.number], one.sent_at)) for one in studies]
            for sender in senders:
                sender.start()
            for sender in senders:
                sender.join()
            tell("waiting for the last report")
            uids = {scans[0].study_instance_uid: one for one in studies for scans in [sent[one.number]]}
            deadline = time.monotonic() + PATIENCE_SECONDS
            while (left := self._left(list(uids))) and time.monotonic() < deadline:
                time.sleep(1.0)
            others = busy.others()
        if left:
            raise AssertionError(f"{left} reports were not delivered in {PATIENCE_SECONDS:.0f} s")
        seen = self._read(uids)
        seen.others, seen.pace_seconds = others, pace.seconds
        return seen

    def _send(self, scans: Sequence[Scan], after: float) -> None:
        time.sleep(after)
        contexts = [(scans[0].sop_class_uid, [EXPLICIT_VR_LITTLE_ENDIAN])]
        with RawAssociation("127.0.0.1", self.stack.port, contexts, timeout=120) as association:
            for one in scans:
                status = association.store(one.sop_class_uid, one.sop_instance_uid, one.data, room=MAXIMUM)
                assert status == 0, f"answered {status:#06x}"

    def _left(self, uids: Sequence[str]) -> int:
        with self.database.read() as session:
            done = session.exec(
                select(StudyRow.id)
                .join(Report, col(Report.study_id) == col(StudyRow.id))
                .join(Delivery, col(Delivery.report_id) == col(Report.id))
                .where(col(StudyRow.study_instance_uid).in_(uids), Delivery.status == "delivered")
                .distinct()
            ).all()
        return len(uids) - len(done)

    def _read(self, uids: dict[str, Study]) -> Seen:
        seen = Seen(0.0, 0.0)
        with self.database.read() as session:
            results = _results(session, list(uids))
            reports = session.exec(
                select(StudyRow.study_instance_uid, StudyRow.last_received_at, Delivery.delivered_at)
                .join(Report, col(Report.study_id) == col(StudyRow.id))
                .join(Delivery, col(Delivery.report_id) == col(Report.id))
                .where(col(StudyRow.study_instance_uid).in_(list(uids)), Report.generation == StudyRow.generation)
            ).all()
        for uid, came, done in results:
            seen.to_result[uids[uid].kind].append((done - came).total_seconds())
        for uid, last, delivered in reports:
            assert delivered is not None
            seen.to_report[uids[uid].kind].append((delivered - last).total_seconds())
        span = max(done for *_, done in results) - min(came for _, came, _ in results)
        seen.rate = len(results) / span.total_seconds()
        return seen


def _results(session: Session, uids: Sequence[str]):  # type: ignore[no-untyped-def]
    return session.exec(
        select(StudyRow.study_instance_uid, Instance.received_at, Prediction.created_at)
        .join(Instance, col(Instance.study_id) == col(StudyRow.id))
        .join(Prediction, col(Prediction.instance_id) == col(Instance.id))
        .where(col(StudyRow.study_instance_uid).in_(uids))
    ).all()


class Busy:
    """How many cores others keep busy, from its making on.

    Parameters
    ----------
    besides
        A process that is ours too with its descendants, though no child of this one.
    """

    def __init__(self, besides: int) -> None:
        self._roots = (os.getpid(), besides)
        self._began = time.monotonic()
        self._all, self._ours = self._look()

    def _look(self) -> tuple[float, float]:
        times = psutil.cpu_times()
        whole = sum(times) - times.idle - times.iowait - times.guest - times.guest_nice
        ours = 0.0
        for root in map(psutil.Process, self._roots):
            for process in (root, *root.children(recursive=True)):
                with suppress(psutil.NoSuchProcess):
                    spent = process.cpu_times()
                    ours += spent.user + spent.system
        return whole, ours

    def others(self) -> float:
        """Return the mean number of cores since the beginning."""
        whole, ours = self._look()
        return max(0.0, (whole - self._all) - (ours - self._ours)) / (time.monotonic() - self._began)
