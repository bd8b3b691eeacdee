"""The whole journey of a scan on one page. It joins the rooms, which never import each other.

    spool ──register_arrivals──▶ rows, owed inference ──infer──▶ predictions, owed report
          ──report──▶ stored Structured Report, owed deliveries ──deliver──▶ PACS

Each step claims what is owed, does it, and commits the result together with what it makes owed next. `sweep` takes back
what vanished workers held and publishes a hint for all that is due. Nothing here decides by a message: the rows do.
Storage commitment, which answers for what was stored, goes the same way beside this: `worker.commitment.steps`.
"""

import socket
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pydicom.dataset import Dataset
from sqlalchemy.exc import SQLAlchemyError

from worker import metrics
from worker.arrivals import Arrivals
from worker.audit.log import record
from worker.commitment.steps import CommitmentPolicy, Commitments
from worker.config import Credentials, Peer
from worker.database import Database, Heartbeat, Instance, WorkKind, insert_into, is_away, utc_now
from worker.errors import FirstreadError, LeaseLost, Never, PeerUnreachable
from worker.files import make_private
from worker.giving_up import GivingUp
from worker.inference.batch_size import BatchSize
from worker.inference.classify import Reader, Task
from worker.inference_commit import InferenceCommit
from worker.inference_turn import InferenceTurn
from worker.intake.grace import Grace
from worker.intake.headers import HeaderReader
from worker.intake.registration import Registration
from worker.intake.routing import Router
from worker.intake.rows import spool_names
from worker.intake.spool import Spool
from worker.intake.stored_bytes import is_whole
from worker.intake.work import LONGEST_RETRY_SECONDS, Claim, Work
from worker.logs import get_logger, where
from worker.patience import Patience
from worker.report_commit import ReportCommit
from worker.reporting import pacs, structured_report
from worker.reporting.gathering import Gathered, gather
from worker.reporting.study_result import Iod
from worker.study_state import locked, refresh
from worker.wakeups import Wakeups, hints, queue_of

if TYPE_CHECKING:
    from models.classifier import Classifier

log = get_logger(__name__)

ALIVE_SECONDS = 5.0
"""How often a worker that takes work says so."""


class Ended(Enum):
    """What became of one look for work."""

    NOTHING = "nothing was due"
    HANDLED = "it was handled, well or not"
    BARRED = "the way is barred for now"


class Pipeline:
    """What every service is a part of; each uses the steps that are its own.

    Parameters
    ----------
    router
        Needed to register arrivals; None in services that do not.
    headers
        Reads their headers; None: one of its own, started with the first arrival.
    destinations
        Where reports go.
    credentials
        The files of TLS, for destinations that are reached over it.
    quiet_seconds
        How long a study must have been quiet before it is reported.
    commitment
        Who gets the results of storage commitment where, and who is asked for it.
    batch_seconds
        How long the images that are classified together may take; 0: no limit.
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
        credentials: Credentials | None = None,
        ae_title: str = "FIRSTREAD",
        calling_aes: Sequence[str] = (),
        quiet_seconds: float = 10.0,
        report_iod: Iod = "comprehensive_3d",
        router: Router | None = None,
        headers: HeaderReader | None = None,
        actor: str = "firstread",
        commitment: CommitmentPolicy | None = None,
        batch_seconds: float = 0.0,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self.database = database
        self.spool = spool
        self.work = work
        self.grace = Grace(work.lease.total_seconds())
        self.wakeups = wakeups
        self.previews_dir = make_private(previews_dir)
        self.ae_title = ae_title
        self.credentials = credentials
        self.report_iod = report_iod
        self.stopping = stopping
        self.batch_seconds = batch_seconds
        self._batch_sizes: dict[str, tuple[Classifier, BatchSize]] = {}
        self._report_due: datetime | None = None
        self._alive_at: dict[str, float] = {}
        self._shown: set[tuple[str, str]] = set()
        self.patience = Patience(database, work, stopping)
        self.record = partial(record, actor=actor)
        self.results = InferenceCommit(work, self.record, quiet_seconds)
        self.reports = ReportCommit(database, work, self.record, make_private(reports_dir), destinations)
        self.commitments = Commitments(
            database, spool, work, self.record, self.reports, commitment or CommitmentPolicy(),
            ae_title=ae_title, credentials=credentials, stopping=stopping,
        )  # fmt: skip
        self.giving_up = GivingUp(work, self.record, self.results, self.reports, self.commitments)
        self.arrivals: Arrivals | None = None
        if router is not None:
            registration = Registration(router, work, self.record, partial(is_whole, spool))
            reader = headers or HeaderReader(announce=True)
            self.arrivals = Arrivals(database, spool, registration, self.results, reader, frozenset(calling_aes))

    def say(self, action: str) -> None:
        """Write into the audit chain that this service has started or stopped."""
        with self.database.write() as session:
            self.record(session, action, socket.gethostname(), {})

    # ---- intake

    def register_arrivals(self) -> int:
        """Register a batch of what waits in the spool, oldest first; return how many objects were handled."""
        if self.arrivals is None:
            raise RuntimeError("this service has no router: it cannot register")
        count, models = self.arrivals.register()
        messages = self.commitments.arrivals.register(self.arrivals.left())
        fresh = [(WorkKind.INFER, model, owed) for model, owed in models.items()]
        self.wakeups.send(hints([*fresh, (WorkKind.COMMIT, "", messages)] if messages else fresh))
        return count + messages

    def sweep(self) -> None:
        """Take back what vanished workers held, publish hints for what is due, and show both in the metrics."""
        with self.grace.watch(), self.database.write() as session:
            self.work.mind_the_clock(session, self._longest_wait)
        if not self.grace.holds():
            with self.grace.watch(), self.database.write() as session:
                self.work.take_back(session)
        with self.grace.watch(), self.database.read() as session:
            lost = self.work.lost_for_good(session)
            due, pending = self.work.due(session), self.work.pending(session)
            self._report_due = self.work.next_due(session, WorkKind.REPORT)
        for item in [] if self.grace.holds() else lost:
            self.giving_up.lost(item)
        self.wakeups.send(hints((one.kind, one.lane, one.count) for one in due))
        self._shown |= {(one.kind, one.lane) for one in pending}
        now = utc_now()
        found = {(one.kind, one.lane): (one.count, (now - one.oldest).total_seconds()) for one in pending}
        for kind, lane in self._shown:  # what is done falls to zero; a series cannot be taken back between processes
            count, age = found.get((kind, lane), (0, 0.0))
            metrics.work_pending.labels(kind=kind, model=lane).set(count)
            metrics.work_oldest_seconds.labels(kind=kind, model=lane).set(age)
        metrics.spool_free_bytes.set(self.spool.free_bytes())

    def hint_when_due(self) -> None:
        """Between two sweeps: wake somebody up for the next report at the moment when its study has been quiet."""
        if self._report_due is None or self.work.clock() < self._report_due:
            return
        with self.database.read() as session:
            self._report_due = self.work.next_due(session, WorkKind.REPORT)
        self.wakeups.send({queue_of(WorkKind.REPORT, "")})

    @property
    def _longest_wait(self) -> timedelta:
        """The longest time for which anybody puts work off: what lies further ahead was put there by another clock."""
        seconds = max(LONGEST_RETRY_SECONDS, self.commitments.longest_wait_seconds)
        return max(self.results.quiet, timedelta(seconds=seconds))

    # ---- inference

    def infer(self, model: str, classifier: "Classifier", reader: Reader, *, turn_seconds: float = float("inf")) -> int:
        """Classify what is owed to a model, across studies, until nothing is due; return how many instances.

        Batches overlap: `worker.inference_turn`.

        Parameters
        ----------
        turn_seconds
            After so long, between two batches, a hint that there is more is left for a later turn: other models of
            this process have work too. Where no hint can be left, the turn goes on.
        """
        began = time.monotonic()

        def goes_on(claimed: int) -> bool:
            seconds = time.monotonic() - began
            if seconds > ALIVE_SECONDS:
                self._alive(f"inference {model}")
            late = claimed > 0 and seconds >= turn_seconds
            return not self.stopping() and not (late and self.wakeups.send({queue_of(WorkKind.INFER, model)}))

        turn = InferenceTurn(
            model, classifier, reader, work=self.work, results=self.results, patience=self.patience,
            giving_up=self.giving_up, size=self._batch_size(model, classifier, reader), tasks=self._tasks,
            goes_on=goes_on,
        )  # fmt: skip
        count = turn.run()
        self._alive(f"inference {model}")  # afterwards: nobody waits for it then
        return count

    def _batch_size(self, model: str, classifier: "Classifier", reader: Reader) -> BatchSize:
        """Return what has been learnt of a classifier: how many images it takes at once.

        When it is new here, a model that is not the one it was is refused, before it costs anybody.
        """
        known, size = self._batch_sizes.get(model, (None, None))
        if known is not classifier or size is None:
            with self.database.write() as session:
                self.results.model_version(session, classifier.card)
            size = BatchSize(classifier.max_batch, seconds=self.batch_seconds, side_by_side=reader.count)
            self._batch_sizes[model] = classifier, size
        return size

    def _alive(self, service: str) -> None:
        """Write that a service takes work; the worklist says so when none has for a while."""
        if time.monotonic() - self._alive_at.get(service, float("-inf")) < ALIVE_SECONDS:
            return
        self._alive_at[service] = time.monotonic()
        with self.database.write() as session:
            beat = insert_into(session, Heartbeat).values(service=f"{service} {socket.gethostname()}", at=utc_now())
            session.execute(beat.on_conflict_do_update(index_elements=["service"], set_={"at": beat.excluded.at}))

    def _tasks(self, claims: Sequence[Claim]) -> list[Task]:
        with self.database.read() as session:
            names = spool_names(session, [claim.subject_id for claim in claims])
        return [
            Task(partial(self.spool.path, names[claim.subject_id]), self.previews_dir / f"{claim.subject_id}.png")
            for claim in claims
        ]

    # ---- reporting

    def report(self) -> int:
        """Make the reports that are due; return how many pieces of work were handled."""
        count = 0
        while self._one(WorkKind.REPORT, "", self._report) is not Ended.NOTHING:
            count += 1
        return count

    def _report(self, claim: Claim) -> None:
        with self.database.write() as session:
            study = locked(session, claim.subject_id)
            if study.ai_status == "pending":
                self.work.put_off(session, claim, "", seconds=1.0, costs_attempt=False)
                return
            gathered = gather(session, study)
            if gathered.said_before:
                self.work.finish(session, claim)
                return
        part = self.reports.part(gathered.study_id, claim)
        try:
            with metrics.stage_seconds.labels(stage="report").time():
                result = gathered.result(iod=self.report_iod, created_at=claim.created_at, header_of=self._header)
                dataset = structured_report.build(result)
                structured_report.write(dataset, part)
            self.patience.write(lambda: self._keep(claim, gathered, dataset, part))
        finally:
            part.unlink(missing_ok=True)

    def _keep(self, claim: Claim, gathered: Gathered, dataset: Dataset, part: Path) -> None:
        with self.database.write() as session:
            study = locked(session, claim.subject_id)
            if gather(session, study).sha256 != gathered.sha256:  # something came in while the report was made
                wait = (self.results.quiet_at(study) - utc_now()).total_seconds()
                self.work.put_off(session, claim, "", seconds=max(wait, 0.0), costs_attempt=False)
                return
            self.work.finish(session, claim)
            self.reports.keep(session, study, gathered, dataset, part)
            refresh(session, study)
        log.info("report_stored", sop_instance_uid=dataset.SOPInstanceUID, generation=gathered.generation)

    def _header(self, instance: Instance) -> Path | Dataset:
        """Return where the patient's and the study's attributes are read from, byte for byte as they were sent."""
        return self.spool.path(instance.spool_name) or Dataset()

    # ---- delivery

    def deliver(self) -> int:
        """Deliver what is due, one report to each destination in turn, so that a slow one does not starve the others.

        New reports are made between the rounds, and storage commitment has its turn. A destination that cannot be
        reached is left alone until the next call. Returns how many deliveries were tried.
        """
        with pacs.KeptAssociations() as kept:
            deliver = partial(self._deliver, kept=kept)
            return self._deliver_all({WorkKind.DELIVER: deliver, **self.commitments.steps}, kept)

    def _deliver_all(self, outgoing: Mapping[WorkKind, Callable[[Claim], None]], kept: pacs.KeptAssociations) -> int:
        count = 0
        barred: set[tuple[str, str]] = set()
        while not self.stopping():
            with self.database.read() as session:
                due = {(one.kind, one.lane) for one in self.work.due(session) if one.kind in outgoing}
            if not due - barred:
                break
            kept.release_all_but({destination for kind, destination in due - barred if kind == WorkKind.DELIVER})
            for kind, destination in sorted(due - barred):
                if kind != WorkKind.DELIVER:  # it has an association of its own, and some peers allow one
                    kept.release(destination)
                ended = self._one(WorkKind(kind), destination, outgoing[WorkKind(kind)])
                count += ended is not Ended.NOTHING
                if ended is not Ended.HANDLED:  # away, or another thread has what was due
                    barred.add((kind, destination))
            self.report()
        return count

    def _deliver(self, claim: Claim, *, kept: pacs.KeptAssociations) -> None:
        delivery, report = self.reports.find(claim)
        try:
            with metrics.stage_seconds.labels(stage="deliver").time():
                sent = pacs.deliver(
                    self.reports.reports_dir / report.path,
                    Peer.parse(delivery.destination).secured_as(self.reports.destinations),
                    calling_ae=self.ae_title,
                    credentials=self.credentials,
                    kept=kept,
                )
        except FirstreadError as error:
            failure = error  # the name of an except clause ends with it
            self.patience.write(lambda: self.reports.not_delivered(claim, report, failure))
            if isinstance(error, PeerUnreachable):
                raise
            return
        self.patience.write(lambda: self.reports.delivered(claim, report, sent))

    # ---- what goes wrong

    def _one(self, kind: WorkKind, lane: str, handle: Callable[[Claim], None]) -> Ended:
        """Claim one piece of work and handle it, whatever becomes of it."""
        claims = [] if self.stopping() else self.work.claim(kind, lane=lane)
        if not claims:
            return Ended.NOTHING
        (claim,) = claims
        try:
            with self.work.kept(claims):
                self._handle(claim, handle)
        except PeerUnreachable:
            return Ended.BARRED
        except LeaseLost as error:
            log.warning("result_dropped", work=claim.id, kind=kind, error=str(error))
        except Never as error:
            self.giving_up.failed(claim, str(error), final=True)
        except OSError as error:  # the disk, not the work: it is tried until the disk is well
            log.error("disk_trouble", work=claim.id, kind=kind, error=str(error))
            self.giving_up.failed(claim, str(error), final=False, costs_attempt=False)
        except Exception as error:
            if is_away(error):
                raise
            log.error("work_failed", work=claim.id, kind=kind, error=where(error))
            self.giving_up.failed(claim, f"it failed ({where(error)})", final=False)
        return Ended.HANDLED

    def _handle(self, claim: Claim, handle: Callable[[Claim], None]) -> None:
        try:
            handle(claim)
        except SQLAlchemyError as error:
            if is_away(error):
                self.patience.hand_back([claim])
            raise
