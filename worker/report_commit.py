"""The commit of reports and of their deliveries: the rows, what they make owed, and the audit events."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from pydicom.dataset import Dataset
from sqlmodel import Session, col, select

from worker import metrics
from worker.config import Peer
from worker.database import Database, Delivery, DeliveryStatus, Report, Study, WorkKind, utc_now
from worker.errors import FirstreadError, PeerUnreachable
from worker.files import make_private, sync_directory
from worker.intake.registration import Record
from worker.intake.work import Claim, Work
from worker.logs import get_logger
from worker.reporting.gathering import Gathered
from worker.reporting.pacs import Delivered

log = get_logger(__name__)


class ReportCommit:
    """Writes what became of a report.

    Parameters
    ----------
    record
        Appends an audit event: (session, action, subject, detail).
    destinations
        Where every report goes.
    """

    def __init__(
        self, database: Database, work: Work, record: Record, reports_dir: Path, destinations: Sequence[Peer]
    ) -> None:
        self.database = database
        self.work = work
        self.record = record
        self.reports_dir = reports_dir
        self.destinations = tuple(destinations)
        self.after_delivery: list[Callable[[Session, Delivery], None]] = []
        """Called in the transaction of each delivery that was taken."""
        self.before_new_delivery: list[Callable[[Session, Delivery], None]] = []
        """Called in the transaction that owes a report to a destination afresh."""

    def part(self, study_id: int, claim: Claim) -> Path:
        """Return where an attempt at a report is written; what killed attempts at it have left there is removed."""
        folder = make_private(self.reports_dir / f"{study_id:08d}")
        for pattern in (f".{claim.id}-*.part", f"..{claim.id}-*.part"):
            for left in folder.glob(pattern):
                left.unlink(missing_ok=True)
        return folder / f".{claim.id}-{claim.token}.part"

    def keep(self, session: Session, study: Study, gathered: Gathered, dataset: Dataset, part: Path) -> None:
        """Give a stored report its name, write its row, and owe it to each destination.

        Parameters
        ----------
        part
            The report under a name of this attempt's own: another attempt may have a report of the same name, and
            only the one that still holds the work may put its own there.
        """
        relative = f"{gathered.study_id:08d}/{gathered.generation:04d}-{dataset.SOPInstanceUID}.dcm"
        sha256 = hashlib.sha256(part.read_bytes()).hexdigest()
        part.rename(self.reports_dir / relative)
        sync_directory(part.parent)
        study.generation, study.report_error = gathered.generation, ""
        session.add(study)
        report = Report(
            study_id=gathered.study_id,
            generation=gathered.generation,
            kind="sr",
            sop_instance_uid=str(dataset.SOPInstanceUID),
            sop_class_uid=str(dataset.SOPClassUID),
            series_instance_uid=str(dataset.SeriesInstanceUID),
            path=relative,
            sha256=sha256,
            evidence_sha256=gathered.sha256,
            created_at=utc_now(),
        )
        session.add(report)
        session.flush()
        detail = {"study": study.study_instance_uid, "generation": report.generation, "sha256": report.sha256}
        self.record(session, "report.stored", report.sop_instance_uid, detail)
        for destination in dict.fromkeys(map(str, self.destinations)):  # one may be named twice in the settings
            self._owe_afresh(session, self._new_delivery(report, destination))

    def owe_delivery(self, session: Session, report: Report, destination: str) -> None:
        """Owe a report to a destination, for the first time or once more."""
        delivery = session.exec(
            select(Delivery).where(Delivery.report_id == report.id, Delivery.destination == destination)
        ).one_or_none()
        self._owe_afresh(session, delivery or self._new_delivery(report, destination))

    @staticmethod
    def _new_delivery(report: Report, destination: str) -> Delivery:
        return Delivery(report_id=report.id or 0, destination=destination, status=DeliveryStatus.PENDING)

    def _owe_afresh(self, session: Session, delivery: Delivery) -> None:
        session.add(delivery)
        session.flush()
        for prepare in self.before_new_delivery:
            prepare(session, delivery)
        self.deliver_again(session, delivery)

    def deliver_again(self, session: Session, delivery: Delivery) -> None:
        """Owe a delivery that is known, whatever became of it before."""
        delivery.status = DeliveryStatus.PENDING
        session.add(delivery)
        session.flush()
        self.work.owe(
            session,
            WorkKind.DELIVER,
            f"delivery {delivery.id}",
            delivery.id or 0,
            lane=delivery.destination,
            not_before=utc_now(),
        )

    def find(self, claim: Claim) -> tuple[Delivery, Report]:
        """Return the delivery that a claim is about, and its report."""
        with self.database.read() as session:
            row = session.exec(
                select(Delivery, Report)
                .join(Report, col(Report.id) == col(Delivery.report_id))
                .where(Delivery.id == claim.subject_id)
            ).one()
        return row[0], row[1]

    def delivered(self, claim: Claim, report: Report, sent: Delivered) -> None:
        """Write that a destination said yes."""
        with self.database.write() as session:
            self.work.finish(session, claim)
            delivery = session.exec(select(Delivery).where(Delivery.id == claim.subject_id)).one()
            delivery.status, delivery.attempts = DeliveryStatus.DELIVERED, delivery.attempts + 1
            delivery.last_error, delivery.delivered_at = sent.warning, utc_now()
            delivery.sent_sop_class_uid = sent.sop_class_uid
            session.add(delivery)
            for follow in self.after_delivery:
                follow(session, delivery)
            detail = {"destination": claim.lane, "status": f"0x{sent.status:04X}", "sop_class": sent.sop_class_uid}
            self.record(session, "report.delivered", report.sop_instance_uid, detail)
        metrics.deliveries.labels(destination=claim.lane, status="delivered").inc()
        log.info("report_delivered", sop_instance_uid=report.sop_instance_uid, destination=claim.lane)

    def not_delivered(self, claim: Claim, report: Report, error: FirstreadError) -> None:
        """Write that a destination could not be reached (tried again, without end) or refused (a few times)."""
        unreachable = isinstance(error, PeerUnreachable)
        final = not unreachable and self.work.exhausted(claim)
        with self.database.write() as session:
            delivery = session.exec(select(Delivery).where(Delivery.id == claim.subject_id)).one()
            delivery.attempts, delivery.last_error = delivery.attempts + 1, str(error)
            session.add(delivery)
            if final:
                self.work.quarantine(session, claim, str(error))
                self.give_up(session, claim.subject_id, str(error))
            else:
                self.work.put_off(session, claim, str(error), costs_attempt=not unreachable)
        if not final:
            status = "unreachable" if unreachable else "refused"
            metrics.deliveries.labels(destination=claim.lane, status=status).inc()
        log.warning("report_not_delivered", sop_instance_uid=report.sop_instance_uid, to=claim.lane, error=str(error))

    def give_up(self, session: Session, delivery_id: int, error: str) -> None:
        """Write that a delivery failed for good, until somebody sends it again."""
        delivery = session.exec(select(Delivery).where(Delivery.id == delivery_id)).one()
        delivery.status, delivery.last_error = DeliveryStatus.FAILED, error
        session.add(delivery)
        detail = {"destination": delivery.destination, "error": error}
        self.record(session, "delivery.failed", f"delivery {delivery.id}", detail)
        metrics.deliveries.labels(destination=delivery.destination, status="failed").inc()
        metrics.quarantined.labels(kind=WorkKind.DELIVER).inc()
