"""What peers say of storage commitment: from the spool into rows and owed work.

A request is registered only after all objects that were in the spool before it: an instance that was accepted is then
known, and never answered for with a failure because nobody had looked at it yet.
"""

import time
from collections.abc import Container
from pathlib import Path

from sqlmodel import Session, col, select

from worker.commitment.message import Message
from worker.database import (
    CommitmentAsked,
    CommitmentRequest,
    CommitmentStatus,
    Database,
    Delivery,
    Report,
    WorkKind,
    is_away,
    utc_now,
)
from worker.intake.registration import Record
from worker.intake.spool import Spool, received_at
from worker.intake.work import Work
from worker.logs import get_logger, where

log = get_logger(__name__)

AT_ONCE = 16
"""So many messages are registered in one turn; arrivals have the next."""
OTHER = "other"
"""The lane of those that nobody said the address of."""
UNREADABLE_SECONDS = 30.0
"""A message that the disk will not give is tried again after so long."""


class CommitmentArrivals:
    """The way of requests and results from the spool into the database.

    Parameters
    ----------
    record
        Writes an audit event: (session, action, subject, detail).
    known
        AE titles whose requests wait in a lane of their own; all others share one, and one label of the metrics.
    """

    def __init__(self, database: Database, spool: Spool, work: Work, record: Record, known: Container[str]) -> None:
        self.database = database
        self.spool = spool
        self.work = work
        self.record = record
        self.known = known
        self._before: dict[str, frozenset[str]] = {}
        self._later: dict[str, float] = {}

    def register(self, left: frozenset[str] = frozenset()) -> int:
        """Register messages whose time has come, oldest first; return how many.

        Parameters
        ----------
        left
            Arrivals that intake has tried in vain so often that no message waits for them. For any other it waits,
            however long: a database that is away, or a backlog, is no reason to deny what was accepted.
        """
        messages = self.spool.commitments()
        if not messages:
            self._before = {}
            return 0
        arrivals = frozenset(path.stem for path in self.spool.arrivals())  # listed second: it misses none from before
        self._before = {path.stem: self._before.get(path.stem, arrivals) for path in messages}
        waited_for, now = arrivals - left, time.monotonic()
        ready = [
            path
            for path in messages
            if self._later.get(path.stem, 0.0) <= now and not self._before[path.stem] & waited_for
        ][:AT_ONCE]
        return sum(self._register(path) for path in ready)

    def _register(self, path: Path) -> bool:
        """Register one message; one that cannot be is left where it is, and holds up no other."""
        try:
            message = Message.from_json(path.read_bytes())
            with self.database.write() as session:
                if message.kind == "request":
                    self._request(session, path.stem, message)
                else:
                    self._result(session, message)
        except FileNotFoundError:
            return False
        except Exception as error:
            if is_away(error):
                raise
            self._later[path.stem] = time.monotonic() + UNREADABLE_SECONDS
            log.error(
                "commitment_message_left", path=str(path), error=where(error), todo="look at the file and the disk"
            )
            return False
        path.unlink(missing_ok=True)
        return True

    def _request(self, session: Session, name: str, message: Message) -> None:
        """Write a request, or find that it was made before: the same one is answered once more, no other like it."""
        known = session.exec(
            select(CommitmentRequest)
            .where(CommitmentRequest.transaction_uid == message.transaction_uid)
            .order_by(col(CommitmentRequest.id))
            .with_for_update()
        ).all()
        if any(one.spool_name == name for one in known):
            return  # committed before a crash that came before its file went
        instances = sorted([one.sop_class_uid, one.sop_instance_uid] for one in message.references)
        request = next(
            (one for one in known if (one.calling_ae, one.instances) == (message.calling_ae, instances)), None
        )
        if request is None:
            request = CommitmentRequest(
                transaction_uid=message.transaction_uid,
                calling_ae=message.calling_ae,
                called_ae=message.called_ae,
                spool_name=name,
                received_at=received_at(name),
                instances=instances,
                duplicate=bool(known),
            )
        else:
            request.spool_name = name
            if request.status != CommitmentStatus.PENDING:
                request.status, request.failures, request.checked_at = CommitmentStatus.PENDING, None, None
        session.add(request)
        session.flush()
        subject_id = request.id or 0
        self.work.owe(
            session,
            WorkKind.COMMIT,
            f"commitment {subject_id}",
            subject_id,
            lane=message.calling_ae if message.calling_ae in self.known else OTHER,
            not_before=utc_now(),
        )
        detail = {"calling_ae": message.calling_ae, "instances": len(instances), "duplicate": request.duplicate}
        self.record(session, "commitment.requested", message.transaction_uid, detail)
        log.info("commitment_requested", transaction_uid=message.transaction_uid, **detail)

    def _result(self, session: Session, message: Message) -> None:
        """Write what a destination said of a report of ours; who asked goes on with it."""
        row = session.exec(
            select(CommitmentAsked, Delivery, Report)
            .join(Delivery, col(Delivery.id) == col(CommitmentAsked.delivery_id))
            .join(Report, col(Report.id) == col(Delivery.report_id))
            .where(CommitmentAsked.transaction_uid == message.transaction_uid)
            .with_for_update(of=CommitmentAsked)
        ).one_or_none()
        facts = {"transaction_uid": message.transaction_uid, "calling_ae": message.calling_ae}
        if row is None:
            log.warning("commitment_result_unknown", **facts, todo="none, if it is late: the report was asked for anew")
            return
        asked, delivery, report = row
        said = [one for one in message.references if one.sop_instance_uid == report.sop_instance_uid]
        if not said:
            log.warning("commitment_result_of_something_else", **facts, sop_instance_uid=report.sop_instance_uid)
            return
        if asked.status not in OPEN:
            return  # it was said before
        reason = max(one.failure_reason for one in said)
        asked.status = CommitmentStatus.FAILED if reason else CommitmentStatus.COMMITTED
        asked.failure_reason, asked.answered_at = reason or None, utc_now()
        session.add(asked)
        self.work.owe(
            session,
            WorkKind.ASK_COMMITMENT,
            f"delivery {delivery.id}",
            delivery.id or 0,
            lane=delivery.destination,
            not_before=utc_now(),
        )


OPEN = frozenset((CommitmentStatus.PENDING, CommitmentStatus.ASKED, CommitmentStatus.UNANSWERED))
"""Where a request of ours stands as long as a result still counts."""
