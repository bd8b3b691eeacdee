"""Answering for what was stored: the bytes are read again, and the peer that asked is told (PS3.4 J.3.3).

The result is kept before it is sent, so that each repetition says the same under the same Transaction UID: once in
effect, however often the way is broken off.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping

from sqlmodel import Session, col, select

from worker import metrics
from worker.commitment.message import (
    CLASS_INSTANCE_CONFLICT,
    DUPLICATE_TRANSACTION_UID,
    NO_SUCH_OBJECT_INSTANCE,
    PROCESSING_FAILURE,
    Message,
    Reference,
)
from worker.config import Credentials, Peer
from worker.database import CommitmentRequest, CommitmentStatus, Database, Instance, WorkKind, utc_now
from worker.errors import FirstreadError, PeerUnreachable
from worker.intake.registration import Record
from worker.intake.spool import Spool
from worker.intake.stored_bytes import is_whole
from worker.intake.work import Claim, Work
from worker.logs import get_logger
from worker.reporting import commitment

log = get_logger(__name__)

ADDRESS_SECONDS = 300.0
"""How often it is looked whether the address of who asked is known by now."""
AT_ONCE = 500
"""Instances looked up in one query."""

Stored = tuple[str, str, str]
"""SOP Class UID, spool name and SHA-256 of a stored instance."""


class CommitmentReport:
    """Checks the instances of a request and sends the result.

    Parameters
    ----------
    record
        Writes an audit event: (session, action, subject, detail).
    peers
        Where a peer is that asked, by its AE title.
    credentials
        The files of TLS, for peers that are reached over it.
    stopping
        Says whether the process has been asked to end: a check is then left for another.
    """

    def __init__(
        self,
        database: Database,
        spool: Spool,
        work: Work,
        record: Record,
        *,
        ae_title: str,
        peers: Mapping[str, Peer],
        credentials: Credentials | None,
        stopping: Callable[[], bool],
    ) -> None:
        self.database = database
        self.spool = spool
        self.work = work
        self.record = record
        self.ae_title = ae_title
        self.peers = peers
        self.credentials = credentials
        self.stopping = stopping

    def report(self, claim: Claim) -> None:
        """Do one piece of owed work: check what was not checked yet, then tell the peer.

        Raises
        ------
        PeerUnreachable
            The peer could not be told; that is written down, and it is tried again.
        """
        with self.database.read() as session:
            request = session.exec(select(CommitmentRequest).where(CommitmentRequest.id == claim.subject_id)).one()
        peer = self.peers.get(request.calling_ae)
        if peer is None:  # the bytes are read again when there is somebody to tell: a stranger costs us nothing
            self._no_address(claim, request)
            return
        if request.failures is None:
            with metrics.stage_seconds.labels(stage="verify").time():
                failures = self._check(request)
            if failures is None:
                with self.database.write() as session:
                    self.work.put_off(session, claim, "", seconds=0.0, costs_attempt=False)
                return
            self._keep(request, failures)
        try:
            called_ae = request.called_ae or self.ae_title
            commitment.report(_result(request), peer, called_ae, credentials=self.credentials)
        except FirstreadError as error:
            self._not_reported(claim, request, error)
            if isinstance(error, PeerUnreachable):
                raise
            return
        self._reported(claim, request, peer)

    def give_up(self, session: Session, request_id: int, error: str) -> None:
        """Write that a result cannot be told, until somebody tries again or the peer asks again."""
        request = session.exec(select(CommitmentRequest).where(CommitmentRequest.id == request_id)).one()
        request.status, request.last_error = CommitmentStatus.FAILED, error
        session.add(request)
        self.record(session, "commitment.failed", request.transaction_uid, {"error": error})
        metrics.commitments.labels(role="scp", status="failed").inc()
        metrics.quarantined.labels(kind=WorkKind.COMMIT).inc()

    def _check(self, request: CommitmentRequest) -> list[list[str | int]] | None:
        """Return what we do not answer for, and why; None when the process has been asked to end."""
        if request.duplicate:
            return [[*instance, DUPLICATE_TRANSACTION_UID] for instance in request.instances]
        stored = self._stored([sop_instance_uid for _, sop_instance_uid in request.instances])
        failures: list[list[str | int]] = []
        for sop_class_uid, sop_instance_uid in request.instances:
            if self.stopping():
                return None
            reason = self._reason(sop_class_uid, stored[sop_instance_uid])
            if reason:
                failures.append([sop_class_uid, sop_instance_uid, reason])
        return failures

    def _stored(self, sop_instance_uids: list[str]) -> defaultdict[str, list[Stored]]:
        found: defaultdict[str, list[Stored]] = defaultdict(list)
        columns = (Instance.sop_instance_uid, Instance.sop_class_uid, Instance.spool_name, Instance.sha256)
        kept = col(Instance.removal_began_at).is_(None)  # for bytes that retention removed nobody answers any more
        with self.database.read() as session:
            for start in range(0, len(sop_instance_uids), AT_ONCE):
                some = sop_instance_uids[start : start + AT_ONCE]
                for uid, *stored in session.exec(
                    select(*columns).where(kept, col(Instance.sop_instance_uid).in_(some))
                ):
                    sop_class_uid, spool_name, sha256 = stored
                    found[uid].append((sop_class_uid, spool_name, sha256))
        return found

    def _reason(self, sop_class_uid: str, stored: list[Stored]) -> int:
        """Return why we do not answer for an instance; 0: we do.

        Of objects that came under one SOP Instance UID with different bytes all must be there: nobody knows which the
        peer means.
        """
        if not stored:
            return NO_SUCH_OBJECT_INSTANCE
        if all(stored_class != sop_class_uid for stored_class, _, _ in stored):
            return CLASS_INSTANCE_CONFLICT
        return 0 if all(is_whole(self.spool, name, sha256) for _, name, sha256 in stored) else PROCESSING_FAILURE

    def _keep(self, request: CommitmentRequest, failures: list[list[str | int]]) -> None:
        request.failures, request.checked_at = failures, utc_now()
        with self.database.write() as session:
            row = session.exec(select(CommitmentRequest).where(CommitmentRequest.id == request.id)).one()
            row.failures, row.checked_at = request.failures, request.checked_at
            session.add(row)

    def _no_address(self, claim: Claim, request: CommitmentRequest) -> None:
        error = (
            f"{request.calling_ae!r} asked, and nobody said where it is: add it to FIRSTREAD_COMMITMENT_PEERS "
            "(AE@HOST:PORT) and start the services again; the request is kept, and answered then"
        )
        with self.database.write() as session:
            self._tried(session, request, error)
            self.work.put_off(session, claim, error, seconds=ADDRESS_SECONDS, costs_attempt=False)
        log.warning("commitment_not_reported", transaction_uid=request.transaction_uid, error=error)

    def _not_reported(self, claim: Claim, request: CommitmentRequest, error: FirstreadError) -> None:
        """Write that the peer could not be reached (tried again, without end) or refused (a few times)."""
        unreachable = isinstance(error, PeerUnreachable)
        with self.database.write() as session:
            self._tried(session, request, str(error))
            if not unreachable and self.work.exhausted(claim):
                self.work.quarantine(session, claim, str(error))
                self.give_up(session, request.id or 0, str(error))
            else:
                self.work.put_off(session, claim, str(error), costs_attempt=not unreachable)
        log.warning("commitment_not_reported", transaction_uid=request.transaction_uid, error=str(error))

    def _reported(self, claim: Claim, request: CommitmentRequest, peer: Peer) -> None:
        failed = len(request.failures or ())
        detail = {"to": str(peer), "committed": len(request.instances) - failed, "failed": failed}
        with self.database.write() as session:
            self.work.finish(session, claim)
            row = self._tried(session, request, None)
            row.status, row.reported_at = CommitmentStatus.REPORTED, utc_now()
            self.record(session, "commitment.reported", request.transaction_uid, detail)
        metrics.commitments.labels(role="scp", status="failures_exist" if failed else "all_committed").inc()
        log.info("commitment_reported", transaction_uid=request.transaction_uid, **detail)

    @staticmethod
    def _tried(session: Session, request: CommitmentRequest, error: str | None) -> CommitmentRequest:
        row = session.exec(select(CommitmentRequest).where(CommitmentRequest.id == request.id)).one()
        row.attempts, row.last_error = row.attempts + 1, error
        session.add(row)
        return row


def _result(request: CommitmentRequest) -> Message:
    reasons = {(sop_class, instance): int(reason) for sop_class, instance, reason in request.failures or ()}
    references = [Reference(one, other, reasons.get((one, other), 0)) for one, other in request.instances]
    return Message("result", request.transaction_uid, tuple(references))
