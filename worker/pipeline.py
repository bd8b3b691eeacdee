"""The whole journey of a scan on one page. It joins the rooms, which never import each other.

    spool ──register_arrivals──▶ rows, owed inference ──infer──▶ predictions, owed report
          ──report──▶ stored Structured Report, owed deliveries ──deliver──▶ PACS

Each step claims what is owed, does it, and commits the result together with what it makes owed next. `sweep` takes back
what vanished workers held and publishes a hint for all that is due. Nothing here decides by a message: the rows do.
"""

import socket
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pydicom.dataset import Dataset
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session, col, select

from worker import metrics
from worker.audit.log import append
from worker.config import Peer
from worker.database import Database, Delivery, Heartbeat, Instance, Study, WorkItem, WorkKind, utc_now
from worker.errors import FirstreadError, LeaseLost, Never, PeerUnreachable
from worker.files import make_private
from worker.inference.classify import Reader, Task, classify
from worker.inference_commit import InferenceCommit
from worker.intake.headers import StoredObject, read_object
from worker.intake.registration import Registered, Registration
from worker.intake.routing import Router
from worker.intake.spool import Spool
from worker.intake.work import Claim, Work
from worker.logs import get_logger
from worker.report_commit import ReportCommit
from worker.reporting import pacs, structured_report
from worker.reporting.gathering import gather
from worker.reporting.study_result import Iod
from worker.study_state import refresh
from worker.wakeups import Wakeups, queue_of

if TYPE_CHECKING:
    from models.classifier import Classifier

log = get_logger(__name__)

BATCH_BYTES = 64 << 20
BATCH_OBJECTS = 64
"""So much is registered in one transaction at most."""

UNREADABLE_SECONDS = 30.0
"""An arrival that the disk will not give is tried again after so long."""

ALIVE_SECONDS = 5.0
"""How often a worker that takes work says so."""


class Pipeline:
    """What every service is a part of; each uses the steps that are its own.

    Parameters
    ----------
    router
        Needed to register arrivals; None in services that do not.
    destinations
        Where reports go.
    quiet_seconds
        How long a study must have been quiet before it is reported.
    stopping
        Says whether the process has been asked to end; steps then finish what they hold and take no more.
    """

    def __init__(
        self,
        database: Database,
        spool: Spool,
        work: Work,
        wakeups: Wakeups,
        *,
        reports_dir: Path,
        previews_dir: Path,
        destinations: Sequence[Peer] = (),
        ae_title: str = "FIRSTREAD",
        calling_aes: Sequence[str] = (),
        quiet_seconds: float = 10.0,
        report_iod: Iod = "comprehensive_3d",
        router: Router | None = None,
        actor: str = "firstread",
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self.database = database
        self.spool = spool
        self.work = work
        self.wakeups = wakeups
        self.previews_dir = make_private(previews_dir)
        self.ae_title = ae_title
        self.calling_aes = frozenset(calling_aes)
        self.report_iod = report_iod
        self.stopping = stopping
        self._unreadable_until: dict[str, float] = {}
        self._alive_at = float("-inf")
        self.record = partial(append, actor=actor)
        self.results = InferenceCommit(work, self.record, quiet_seconds)
        self.reports = ReportCommit(database, work, self.record, make_private(reports_dir), destinations)
        self.registration = (
            Registration(router, work, self.record, lambda name: spool.path(name) is not None) if router else None
        )

    # ---- intake

    def register_arrivals(self) -> int:
        """Register what waits in the spool, oldest first; return how many objects were handled."""
        if self.registration is None:
            raise RuntimeError("this service has no router: it cannot register")
        arrivals = self._read_arrivals()
        if not arrivals:
            return 0
        done = Registered()
        with metrics.stage_seconds.labels(stage="register").time(), self.database.write() as session:
            for name, stored in arrivals:
                self.registration.register(session, name, stored, done)
            for study_id, study in sorted(done.studies.items()):
                refresh(session, study)
                self.results.hold_report(session, study)
                if study_id in done.failed_images:
                    self.results.owe_report(session, study)
        self.spool.file_away(done.file_away)
        for name in done.discard:
            self.spool.discard(name)
        self._announce(done)
        self._wake()
        return len(arrivals)

    def _read_arrivals(self) -> list[tuple[str, StoredObject]]:
        """Read the headers of a batch; a file that the disk will not give is left for later, its neighbours go on."""
        arrivals: list[tuple[str, StoredObject]] = []
        size, now = 0, time.monotonic()
        for path in self.spool.arrivals():
            if self._unreadable_until.get(path.stem, 0.0) > now:
                continue
            try:
                stored = read_object(path)
            except OSError as error:
                self._unreadable_until[path.stem] = now + UNREADABLE_SECONDS
                log.warning("arrival_not_readable", spool_name=path.stem, error=str(error), todo="look at the disk")
                continue
            self._unreadable_until.pop(path.stem, None)
            arrivals.append((path.stem, stored))
            size += stored.size_bytes
            if size > BATCH_BYTES or len(arrivals) == BATCH_OBJECTS:
                break
        return arrivals

    def _announce(self, done: Registered) -> None:
        for instance, modality in done.fresh:
            calling = instance.calling_ae if instance.calling_ae in self.calling_aes else "other"
            metrics.instances_received.labels(calling_ae=calling, modality=modality, status=instance.status).inc()
            log.info(
                "registered",
                sop_instance_uid=instance.sop_instance_uid,
                calling_ae=instance.calling_ae,
                status=instance.status,
                reason=instance.reason,
            )
        for name in done.discard:
            log.info("identical_resend", spool_name=name)

    def sweep(self) -> None:
        """Take back what vanished workers held, publish hints for what is due, and show both in the metrics."""
        with self.database.write() as session:
            for item in self.work.take_back(session):
                self._gave_up(session, item)
        self._wake()
        with self.database.read() as session:
            pending = self.work.pending(session)
        metrics.work_pending.clear()
        metrics.work_oldest_seconds.clear()
        for due in pending:
            metrics.work_pending.labels(kind=due.kind, model=due.lane).set(due.count)
            age = (utc_now() - due.oldest).total_seconds()
            metrics.work_oldest_seconds.labels(kind=due.kind, model=due.lane).set(age)
        metrics.spool_free_bytes.set(self.spool.free_bytes())

    def _wake(self) -> None:
        with self.database.read() as session:
            queues = {queue_of(due.kind, due.lane) for due in self.work.due(session)}
        if queues:
            self.wakeups.send(queues)

    # ---- inference

    def infer(self, model: str, classifier: "Classifier", reader: Reader) -> int:
        """Classify what is owed to a model, across studies, until nothing is due; return how many instances."""
        total = 0
        while not self.stopping():
            self._alive("inference")
            claims = self.work.claim(WorkKind.INFER, lane=model, limit=classifier.max_batch)
            if not claims:
                break
            total += len(claims)
            with self.work.kept(claims):
                outcomes = classify(self._tasks(claims), classifier, reader)
                with metrics.stage_seconds.labels(stage="commit").time():
                    self.results.commit(claims, outcomes, classifier)
        return total

    def _alive(self, service: str) -> None:
        """Write that a service takes work; the worklist says so when none has for a while."""
        if time.monotonic() - self._alive_at < ALIVE_SECONDS:
            return
        self._alive_at = time.monotonic()
        with self.database.write() as session:
            session.merge(Heartbeat(service=f"{service} {socket.gethostname()}", at=utc_now()))

    def _tasks(self, claims: Sequence[Claim]) -> list[Task]:
        with self.database.read() as session:
            names = dict(
                session.exec(
                    select(Instance.id, Instance.spool_name).where(
                        col(Instance.id).in_([claim.subject_id for claim in claims])
                    )
                ).all()
            )
        return [
            Task(self.spool.path(names[claim.subject_id]), self.previews_dir / f"{claim.subject_id}.png")
            for claim in claims
        ]

    # ---- reporting

    def report(self) -> int:
        """Make the reports that are due; return how many pieces of work were handled."""
        return self._each(WorkKind.REPORT, "", self._report)

    def _report(self, claim: Claim) -> None:
        with self.database.write() as session:
            study = session.exec(select(Study).where(Study.id == claim.subject_id)).one()
            if study.ai_status == "pending":
                self.work.put_off(session, claim, "", seconds=1.0, costs_attempt=False)
                return
            gathered = gather(session, study)
            if gathered.said_before:
                self.work.finish(session, claim)
                return
        with metrics.stage_seconds.labels(stage="report").time():
            dataset = structured_report.build(
                gathered.result(iod=self.report_iod, created_at=claim.created_at, header_of=self._header)
            )
            relative = f"{gathered.study_id:08d}/{gathered.generation:04d}-{dataset.SOPInstanceUID}.dcm"
            path = self.reports.reports_dir / relative
            make_private(path.parent)
            structured_report.write(dataset, path)
        with self.database.write() as session:
            study = session.exec(select(Study).where(Study.id == claim.subject_id).with_for_update()).one()
            if gather(session, study).sha256 != gathered.sha256:  # something came in while the report was made
                path.unlink(missing_ok=True)
                self.work.put_off(session, claim, "", seconds=0.0, costs_attempt=False)
                return
            self.work.finish(session, claim)
            self.reports.keep(session, study, gathered, dataset, relative)
        log.info("report_stored", sop_instance_uid=dataset.SOPInstanceUID, generation=gathered.generation)

    def _header(self, instance: Instance) -> Path | Dataset:
        """Return where the patient's and the study's attributes are read from, byte for byte as they were sent."""
        return self.spool.path(instance.spool_name) or Dataset()

    # ---- delivery

    def deliver(self) -> int:
        """Deliver what is due; a destination that cannot be reached is left alone until the next round."""
        with self.database.read() as session:
            destinations = sorted(due.lane for due in self.work.due(session) if due.kind == WorkKind.DELIVER)
        return sum(self._each(WorkKind.DELIVER, destination, self._deliver) for destination in destinations)

    def _deliver(self, claim: Claim) -> None:
        delivery, report = self.reports.find(claim)
        try:
            with metrics.stage_seconds.labels(stage="deliver").time():
                sent = pacs.deliver(
                    self.reports.reports_dir / report.path, Peer.parse(delivery.destination), calling_ae=self.ae_title
                )
        except FirstreadError as error:
            self.reports.not_delivered(claim, report, error)
            if isinstance(error, PeerUnreachable):
                raise
            return
        self.reports.delivered(claim, report, sent)

    # ---- what goes wrong

    def _each(self, kind: WorkKind, lane: str, handle: Callable[[Claim], None]) -> int:
        """Claim and handle one piece of work after the other, until none is due or the way is barred."""
        count = 0
        while not self.stopping():
            claims = self.work.claim(kind, lane=lane)
            if not claims:
                break
            count += 1
            (claim,) = claims
            try:
                with self.work.kept(claims):
                    handle(claim)
            except PeerUnreachable:
                break
            except LeaseLost as error:
                log.warning("result_dropped", work=claim.id, kind=kind, error=str(error))
            except SQLAlchemyError:  # the database is away: nothing can be written of it now; the lease will end
                raise
            except Never as error:
                self._failed(claim, str(error), final=True)
            except Exception as error:
                log.exception("work_failed", work=claim.id, kind=kind)
                self._failed(claim, f"{type(error).__name__}: {error}", final=False)
        return count

    def _failed(self, claim: Claim, error: str, *, final: bool) -> None:
        with self.database.write() as session:
            if final or self.work.exhausted(claim):
                self.work.quarantine(session, claim, error)
                self._gave_up(session, session.exec(select(WorkItem).where(WorkItem.id == claim.id)).one())
            else:
                self.work.put_off(session, claim, error)

    def _gave_up(self, session: Session, item: WorkItem) -> None:
        """Make work that was given up visible where people look: on the instance, the study or the delivery."""
        error = item.last_error or "given up"
        if item.kind == WorkKind.INFER:
            instance = session.exec(select(Instance).where(Instance.id == item.subject_id)).one()
            self.results.fail_instance(session, instance, error, item.lane)
            study = session.exec(select(Study).where(Study.id == instance.study_id).with_for_update()).one()
            refresh(session, study)
            self.results.owe_report(session, study)
            return
        if item.kind == WorkKind.DELIVER:
            self.reports.give_up(
                session, session.exec(select(Delivery).where(Delivery.id == item.subject_id)).one(), error
            )
        else:
            study = session.exec(select(Study).where(Study.id == item.subject_id).with_for_update()).one()
            study.remark = f"no report could be made: {error}"
            refresh(session, study)
            self.record(session, "report.failed", study.study_instance_uid, {"error": error})
            metrics.quarantined.labels(kind=WorkKind.REPORT).inc()
        log.error("work_given_up", work=item.id, kind=item.kind, subject=item.subject, error=error)
