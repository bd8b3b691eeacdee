"""Work that failed: put off, or given up and shown where people look. Whoever claimed it says how it went wrong."""

from sqlmodel import Session, select

from worker import metrics
from worker.commitment.steps import Commitments
from worker.database import Instance, Study, WorkItem, WorkKind
from worker.errors import LeaseLost
from worker.inference_commit import InferenceCommit
from worker.intake.registration import Record
from worker.intake.work import Claim, Work
from worker.logs import get_logger
from worker.report_commit import ReportCommit
from worker.study_state import locked, refresh

log = get_logger(__name__)


class GivingUp:
    """Ends claims that came to nothing.

    Parameters
    ----------
    record
        Appends an audit event: (session, action, subject, detail).
    results, reports, commitments
        Where what was given up becomes visible.
    """

    def __init__(
        self, work: Work, record: Record, results: InferenceCommit, reports: ReportCommit, commitments: Commitments
    ) -> None:
        self.work = work
        self.record = record
        self.results = results
        self.reports = reports
        self.commitments = commitments

    def failed(self, claim: Claim, error: str, *, final: bool, costs_attempt: bool = True) -> None:
        """Put failed work off, or give it up; both only while it is still ours.

        Parameters
        ----------
        error
            What went wrong, in words for the person who will look.
        final
            Whether it would be the same next time.
        costs_attempt
            Whether the work itself may be at fault.
        """
        try:
            with self.work.database.write() as session:
                if not costs_attempt or not (final or self.work.exhausted(claim)):
                    self.work.put_off(session, claim, error, costs_attempt=costs_attempt)
                    return
                study = self._locked_study(session, claim.kind, claim.subject_id)
                self.work.quarantine(session, claim, error)
                self._show(session, claim, study, error)
        except LeaseLost as lost:
            log.warning("result_dropped", work=claim.id, kind=claim.kind, error=str(lost))

    def lost(self, item: WorkItem) -> None:
        """Give up what a worker that vanished held on its last attempt."""
        with self.work.database.write() as session:
            study = self._locked_study(session, item.kind, item.subject_id)
            if error := self.work.give_up_lost(session, item):
                self._show(session, item, study, error)

    @staticmethod
    def _locked_study(session: Session, kind: str, subject_id: int) -> Study | None:
        """Lock the study that work is about, before anything else of it: studies first, then work."""
        if kind not in {WorkKind.INFER, WorkKind.REPORT}:
            return None
        if kind == WorkKind.REPORT:
            return locked(session, subject_id)
        return locked(session, session.exec(select(Instance.study_id).where(Instance.id == subject_id)).one())

    def _show(self, session: Session, item: Claim | WorkItem, study: Study | None, error: str) -> None:
        """Make work that was given up visible: on the instance, the study, the delivery or the commitment."""
        if study is None:
            give_up = self.commitments.give_up.get(WorkKind(item.kind), self.reports.give_up)
            give_up(session, item.subject_id, error)
        elif item.kind == WorkKind.INFER:
            instance = session.exec(select(Instance).where(Instance.id == item.subject_id)).one()
            self.results.fail_instance(session, instance, error, item.lane)
            refresh(session, study)
            self.results.owe_report(session, study)
        else:
            study.failure_acknowledged_at = None  # nobody has seen this one yet
            study.report_error = f"no report could be made: {error}"
            refresh(session, study)
            self.record(session, "report.failed", study.study_instance_uid, {"error": error})
            metrics.quarantined.labels(kind=WorkKind.REPORT).inc()
        log.error("work_given_up", work=item.id, kind=item.kind, subject=item.subject_id, error=error)
