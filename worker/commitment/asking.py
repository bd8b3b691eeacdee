"""Asking the destinations of our reports to answer for them (Storage Commitment SCU, PS3.4 Annex J).

After a delivery the destination is asked; its result comes to the listener and is registered by intake, who makes this
due again. Committed: the delivery says so. Not committed: the report is sent again, a few times, then shown as failed.
No result in time: asked anew under another Transaction UID, a few times, then left to a person.
"""

from collections import Counter
from datetime import timedelta

from pydicom.uid import generate_uid
from sqlmodel import Session, col, select

from worker import metrics
from worker.commitment.message import Message, Reference, reason_words
from worker.config import Credentials, Peer
from worker.database import (
    CommitmentAsked,
    CommitmentStatus,
    Database,
    Delivery,
    DeliveryStatus,
    Report,
    WorkKind,
)
from worker.errors import FirstreadError, PeerUnreachable
from worker.intake.spool import Spool
from worker.intake.work import Claim, Work
from worker.logs import get_logger
from worker.report_commit import ReportCommit
from worker.reporting import commitment
from worker.reporting.association import NothingAccepted

log = get_logger(__name__)


class CommitmentAsking:
    """Asks, and draws the conclusions of the answer.

    Parameters
    ----------
    reports
        Delivers again what a destination does not answer for.
    ae_title
        Our AE title.
    credentials
        The files of TLS, for destinations that are reached over it.
    answer_seconds
        A destination that has not given its result is asked again after so long.
    """

    def __init__(
        self,
        database: Database,
        spool: Spool,
        work: Work,
        reports: ReportCommit,
        *,
        ae_title: str,
        credentials: Credentials | None,
        answer_seconds: float,
    ) -> None:
        self.database = database
        self.spool = spool
        self.work = work
        self.reports = reports
        self.ae_title = ae_title
        self.answer_seconds = answer_seconds
        self.credentials = credentials

    def ask(self, claim: Claim) -> None:
        """Do one piece of owed work: act on the result that came, or ask for one.

        Raises
        ------
        PeerUnreachable
            The destination could not be asked; that is written down, and it is tried again.
        """
        delivery, report = self.reports.find(claim)
        transaction_uid = self._next(claim)
        if not transaction_uid:
            return
        reference = Reference(delivery.sent_sop_class_uid or report.sop_class_uid, report.sop_instance_uid)
        request = Message("request", transaction_uid, (reference,))
        peer = Peer.parse(delivery.destination).secured_as(self.reports.destinations)
        try:
            commitment.ask(request, peer, self.ae_title, keep=self._keep, credentials=self.credentials)
        except NothingAccepted:
            self._unsupported(claim, transaction_uid)
        except FirstreadError as error:
            self._not_asked(claim, error)
            if isinstance(error, PeerUnreachable):
                raise
        else:
            self._asked(claim, transaction_uid)

    def begin_anew(self, session: Session, delivery: Delivery) -> None:
        """Forget what was asked about a delivery: a person sends the report again, or has it asked for again."""
        delivery.committed = None
        session.add(delivery)
        for asked in self._all(session, delivery.id or 0):
            asked.status = CommitmentStatus.SUPERSEDED
            session.add(asked)

    def give_up(self, session: Session, delivery_id: int, error: str) -> None:
        """Write that a destination does not commit; one that says so has not got the report."""
        delivery, report = self._delivery(session, delivery_id)
        delivery.last_error = error
        if delivery.committed is False:
            delivery.status = DeliveryStatus.FAILED
        session.add(delivery)
        detail = {"destination": delivery.destination, "error": error}
        self.reports.record(session, "report.not_committed", report.sop_instance_uid, detail)
        metrics.commitments.labels(role="scu", status="given_up").inc()
        metrics.quarantined.labels(kind=WorkKind.ASK_COMMITMENT).inc()

    def _next(self, claim: Claim) -> str:
        """Act on what is known by now; return the Transaction UID of the request to make, or nothing."""
        with self.database.write() as session:
            delivery, report = self._delivery(session, claim.subject_id)
            rows = self._all(session, claim.subject_id)
            counts = Counter(row.status for row in rows)
            last = rows[-1] if rows else None
            if delivery.status != DeliveryStatus.DELIVERED:
                self.work.finish(session, claim)  # it is on its way again, and asked for after that
                return ""
            if counts[CommitmentStatus.COMMITTED]:
                self._committed(session, claim, delivery, report)
                return ""
            if last is not None and last.status == CommitmentStatus.FAILED:
                self._failed(session, claim, delivery, last, counts[CommitmentStatus.SENT_AGAIN])
                return ""
            if last is not None and last.status == CommitmentStatus.ASKED:
                left = last.asked_at + timedelta(seconds=self.answer_seconds) - self.work.clock()
                if left > timedelta():
                    seconds = min(left.total_seconds(), self.answer_seconds)  # more, where the clock was stepped back
                    self.work.put_off(session, claim, "", seconds=seconds, costs_attempt=False)
                    return ""
                last.status = CommitmentStatus.UNANSWERED
                session.add(last)
                metrics.commitments.labels(role="scu", status="unanswered").inc()
                if counts[CommitmentStatus.UNANSWERED] + 1 >= self.work.max_attempts:
                    self._silent(session, claim, delivery, counts[CommitmentStatus.UNANSWERED] + 1)
                    return ""
            if last is None or last.status != CommitmentStatus.PENDING:
                last = CommitmentAsked(delivery_id=claim.subject_id, transaction_uid="", asked_at=self.work.clock())
            last.transaction_uid = str(generate_uid(prefix=None))  # random: nobody else can answer for the destination
            last.asked_at = self.work.clock()
            session.add(last)
            return last.transaction_uid

    def _committed(self, session: Session, claim: Claim, delivery: Delivery, report: Report) -> None:
        self.work.finish(session, claim)
        delivery.committed = True
        session.add(delivery)
        detail = {"destination": delivery.destination}
        self.reports.record(session, "report.committed", report.sop_instance_uid, detail)
        metrics.commitments.labels(role="scu", status="committed").inc()
        log.info("report_committed", sop_instance_uid=report.sop_instance_uid, **detail)

    def _failed(self, session: Session, claim: Claim, delivery: Delivery, last: CommitmentAsked, before: int) -> None:
        error = f"{delivery.destination}: does not answer for it: {reason_words(last.failure_reason or 0)}"
        delivery.committed, delivery.last_error = False, error
        session.add(delivery)
        metrics.commitments.labels(role="scu", status="not_committed").inc()
        if before + 1 >= self.work.max_attempts:
            error += f"; given up after {before + 1} deliveries. See its log, then `firstread resend STUDY_UID`"
            self.work.quarantine(session, claim, error)
            self.give_up(session, delivery.id or 0, error)
            return
        last.status = CommitmentStatus.SENT_AGAIN
        session.add(last)
        self.work.finish(session, claim)
        self.reports.deliver_again(session, delivery)
        log.warning("report_not_committed", destination=delivery.destination, error=error, next="it is sent again")

    def _silent(self, session: Session, claim: Claim, delivery: Delivery, times: int) -> None:
        error = (
            f"{delivery.destination}: took {times} requests for storage commitment and gave no result; does it know "
            f"host and port of {self.ae_title!r}, and can it reach our listener?"
        )
        self.work.quarantine(session, claim, error)
        self.give_up(session, delivery.id or 0, error)
        log.error("commitment_unanswered", destination=delivery.destination, error=error)

    def _asked(self, claim: Claim, transaction_uid: str) -> None:
        """Write that the request was taken, and wait; not where the result was faster than we are."""
        with self.database.write() as session:
            row = self._row(session, transaction_uid)
            wait = 0.0
            if row.status == CommitmentStatus.PENDING:
                row.status, wait = CommitmentStatus.ASKED, self.answer_seconds
                session.add(row)
            self.work.put_off(session, claim, "", seconds=wait, costs_attempt=False)

    def _unsupported(self, claim: Claim, transaction_uid: str) -> None:
        with self.database.write() as session:
            row = self._row(session, transaction_uid)
            row.status = CommitmentStatus.UNSUPPORTED
            session.add(row)
            self.work.finish(session, claim)
        metrics.commitments.labels(role="scu", status="unsupported").inc()
        log.info("commitment_not_offered", destination=claim.lane, why="the delivery counts as it is")

    def _not_asked(self, claim: Claim, error: FirstreadError) -> None:
        """Write that a destination could not be reached (tried again, without end) or refused (a few times)."""
        unreachable = isinstance(error, PeerUnreachable)
        with self.database.write() as session:
            if not unreachable and self.work.exhausted(claim):
                self.give_up(session, claim.subject_id, str(error))
                self.work.quarantine(session, claim, str(error))
            else:
                self.work.put_off(session, claim, str(error), costs_attempt=not unreachable)
        log.warning("commitment_not_asked", destination=claim.lane, error=str(error))

    def _keep(self, result: Message) -> None:
        """Make a result durable that came on the association of its request; intake registers it as any other."""
        with self.spool.receive_commitment() as incoming:
            incoming.write(result.to_json())
            incoming.commit()

    @staticmethod
    def _delivery(session: Session, delivery_id: int) -> tuple[Delivery, Report]:
        row = session.exec(
            select(Delivery, Report)
            .join(Report, col(Report.id) == col(Delivery.report_id))
            .where(Delivery.id == delivery_id)
            .with_for_update(of=Delivery)
        ).one()
        return row[0], row[1]

    @staticmethod
    def _all(session: Session, delivery_id: int) -> list[CommitmentAsked]:
        """Return what was asked about a delivery and still counts, oldest first."""
        return list(
            session.exec(
                select(CommitmentAsked)
                .where(
                    CommitmentAsked.delivery_id == delivery_id,
                    CommitmentAsked.status != CommitmentStatus.SUPERSEDED,
                )
                .order_by(col(CommitmentAsked.id))
                .with_for_update()
            ).all()
        )

    @staticmethod
    def _row(session: Session, transaction_uid: str) -> CommitmentAsked:
        query = select(CommitmentAsked).where(CommitmentAsked.transaction_uid == transaction_uid).with_for_update()
        return session.exec(query).one()
