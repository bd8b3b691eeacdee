"""Owed work: claim, lease, retry, quarantine, sweep.

A message may vanish and may come twice; the row is the truth. Work is claimed with a lease and a fencing token, its
attempt counted before it begins. Whoever finishes must still hold the newest token, in the transaction that carries the
results. Work whose worker vanished is claimed singly, so that a poison input does not use up its neighbours' attempts.
"""

import dataclasses
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlmodel import Session, col, select

from worker.database import Database, WorkItem, WorkKind, WorkState, is_leased, is_owed, utc_now
from worker.errors import LeaseLost
from worker.intake import statements
from worker.logs import get_logger

log = get_logger(__name__)

FIRST_RETRY_SECONDS = 1.0
LONGEST_RETRY_SECONDS = 60.0


@dataclass(frozen=True)
class Claim:
    """Work that is ours until the lease ends.

    Attributes
    ----------
    token
        The fencing token: a later claim of the same work has a larger one.
    attempts
        Attempts, this one counted.
    lost_leases
        How many workers have vanished while they held it.
    """

    id: int
    kind: str
    lane: str
    subject_id: int
    token: int
    attempts: int
    retries: int
    created_at: datetime
    lost_leases: int = 0


@dataclass(frozen=True)
class Owed:
    """A piece of work to be owed: what it is about, where it waits, and until when."""

    subject: str
    subject_id: int
    lane: str
    not_before: datetime


@dataclass(frozen=True)
class Failure:
    """A claim that came to nothing, why, and whether for good."""

    claim: Claim
    error: str
    final: bool


@dataclass(frozen=True)
class Due:
    """How much work of a kind can be done now, and since when the oldest waits."""

    kind: str
    lane: str
    count: int
    oldest: datetime

    def and_also(self, other: "Due") -> "Due":
        """Return the sum with other work of the same kind and lane."""
        return dataclasses.replace(self, count=self.count + other.count, oldest=min(self.oldest, other.oldest))


def lease_lost(claim: Claim) -> LeaseLost:
    """Return the error that says that a claim is no longer ours."""
    return LeaseLost(f"work {claim.id} ({claim.kind}) was claimed by another worker meanwhile")


class Work:
    """The table of owed work.

    Parameters
    ----------
    lease_seconds
        A worker that says nothing for so long has lost its claims.
    max_attempts
        Attempts at work that fails by itself before it is quarantined.
    clock
        Returns the time, UTC.
    """

    def __init__(
        self,
        database: Database,
        *,
        lease_seconds: float,
        max_attempts: int,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self.database = database
        self.lease = timedelta(seconds=lease_seconds)
        self.max_attempts = max_attempts
        self.clock = clock

    def owe(
        self, session: Session, kind: WorkKind, subject: str, subject_id: int, *, lane: str = "", not_before: datetime
    ) -> None:
        """Make sure that work is owed: new, or waiting already (then `not_before` moves), or done before (then again).

        Work that someone holds right now is left as it is.
        """
        self.owe_all(session, kind, [Owed(subject, subject_id, lane, not_before)])

    def owe_all(self, session: Session, kind: WorkKind, owed: Sequence[Owed]) -> None:
        """Make sure that all of this is owed, each as `owe` says."""
        if not owed:
            return
        session.flush()
        now = self.clock()
        fresh = {"kind": kind, "state": WorkState.OWED, "created_at": now}
        fresh |= dict.fromkeys(("attempts", "lost_leases", "retries", "token"), 0)
        session.connection().execute(
            statements.owe(on_sqlite=self.database.is_sqlite), [fresh | vars(one) for one in owed]
        )

    def given_up(self, session: Session, kind: WorkKind, subject_id: int) -> Sequence[WorkItem]:
        """Return the work about one subject that is in quarantine."""
        return session.exec(
            select(WorkItem).where(
                WorkItem.kind == kind, WorkItem.subject_id == subject_id, WorkItem.state == WorkState.QUARANTINED
            )
        ).all()

    def reopen(self, item: WorkItem, not_before: datetime) -> None:
        """Owe finished or quarantined work once more, with fresh attempts."""
        item.state, item.attempts, item.lost_leases, item.retries = WorkState.OWED, 0, 0, 0
        item.finished_at, item.last_error, item.lease_until = None, None, None
        item.not_before, item.created_at = not_before, self.clock()

    def claim(self, kind: WorkKind, *, lane: str = "", limit: int = 1, alone: bool = True) -> list[Claim]:
        """Take up to `limit` pieces of due work, oldest first; the attempt is counted and committed at once.

        Parameters
        ----------
        alone
            Whether the caller holds nothing else. If it does, work whose worker vanished is not given to it, nor what
            comes after that: should the worker vanish again, the rest of what it holds would pay for it.
        """
        now = self.clock()
        with self.database.write() as session:
            given = {"wanted_kind": kind, "wanted_lane": lane, "most": limit, "now": now, "end": now + self.lease}
            rows = session.connection().execute(statements.claim(suspects=alone), given).mappings().all()
        return sorted((Claim(**row) for row in rows), key=lambda claim: claim.id)

    @contextmanager
    def kept(self, claims: Collection[Claim]) -> Iterator[None]:
        """Renew the leases of `claims`, whichever those are by then, from a thread for as long as the block runs."""
        stop = threading.Event()

        def renew() -> None:
            while not stop.wait(self.lease.total_seconds() / 3):
                try:
                    self._renew(tuple(claims))
                except sa.exc.SQLAlchemyError as error:  # the database is away: the fencing token decides later
                    log.warning("lease_not_renewed", work=[claim.id for claim in tuple(claims)], error=str(error))

        thread = threading.Thread(target=renew, name="lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _renew(self, claims: Sequence[Claim]) -> None:
        with self.database.write() as session:
            given = statements.pairs((claim.id, claim.token) for claim in claims)
            session.connection().execute(statements.renew(), given | {"end": self.clock() + self.lease})

    def finish(self, session: Session, claim: Claim) -> None:
        """Mark work done, in the transaction that carries its results.

        Raises
        ------
        LeaseLost
            When someone else has claimed it since: the caller's transaction must not commit these results.
        """
        if not self.finish_all(session, [claim]):
            raise lease_lost(claim)

    def finish_all(self, session: Session, claims: Sequence[Claim]) -> set[int]:
        """Mark work done, all that is still ours; return its numbers. Of the rest no result may be committed."""
        return self._end_all(
            session, claims, state=WorkState.DONE, finished_at=self.clock(), last_error=None, retries=0
        )

    def fail_all(self, session: Session, failures: Sequence[Failure]) -> set[int]:
        """Give failed work up or put it off, all that is still ours; return the numbers of that.

        What is given up waits for a person; what is put off waits the longer the more often it was.
        """
        if not failures:
            return set()
        session.flush()
        connection = session.connection()
        held = statements.pairs((one.claim.id, one.claim.token) for one in failures)
        ours = set(connection.scalars(statements.held(), held))
        now = self.clock()
        given_up = [
            {"number": one.claim.id, "state": WorkState.QUARANTINED, "finished_at": now, "last_error": one.error}
            for one in failures
            if one.final and one.claim.id in ours
        ]
        put_off = [
            {
                "number": one.claim.id,
                "state": WorkState.OWED,
                "not_before": now + timedelta(seconds=self.backoff(one.claim.retries)),
                "last_error": one.error or None,
                "retries": one.claim.retries + 1,
            }
            for one in failures
            if not one.final and one.claim.id in ours
        ]
        for rows in (given_up, put_off):
            if rows:
                connection.execute(statements.end_one(), rows)
        return ours

    def quarantine(self, session: Session, claim: Claim, error: str) -> None:
        """Give work up: it failed for good, and waits for a person. Raises `LeaseLost` as `finish` does."""
        self._end(session, claim, state=WorkState.QUARANTINED, finished_at=self.clock(), last_error=error)

    def put_off(
        self, session: Session, claim: Claim, error: str, *, seconds: float | None = None, costs_attempt: bool = True
    ) -> datetime:
        """Owe work again later; the delay grows with each retry unless `seconds` is given. Returns when.

        Raises `LeaseLost` as `finish` does.
        """
        delay = self.backoff(claim.retries) if seconds is None else seconds
        not_before = self.clock() + timedelta(seconds=delay)
        self._end(
            session,
            claim,
            state=WorkState.OWED,
            not_before=not_before,
            last_error=error or None,
            retries=claim.retries + 1,
            attempts=claim.attempts if costs_attempt else claim.attempts - 1,
        )
        return not_before

    def _end(self, session: Session, claim: Claim, **values: object) -> None:
        if not self._end_all(session, [claim], **values):
            raise lease_lost(claim)

    @staticmethod
    def _end_all(session: Session, claims: Sequence[Claim], **values: object) -> set[int]:
        if not claims:
            return set()
        session.flush()
        held = statements.pairs((claim.id, claim.token) for claim in claims)
        return set(session.connection().scalars(statements.end(), held | values))

    @staticmethod
    def backoff(retries: int) -> float:
        """Return the seconds to wait: 1, 2, 4 … at most a minute."""
        return float(min(FIRST_RETRY_SECONDS * 2 ** min(retries, 16), LONGEST_RETRY_SECONDS))

    def exhausted(self, claim: Claim) -> bool:
        """Say whether this was the last attempt."""
        return claim.attempts >= self.max_attempts

    def take_back(self, session: Session) -> int:
        """Owe again what vanished workers held and has an attempt left; return how much."""
        now = self.clock()
        lost = session.exec(
            select(WorkItem)
            .where(self._is_lost(now), col(WorkItem.attempts) < self.max_attempts)
            .with_for_update(skip_locked=True)
        ).all()
        for item in lost:
            item.state, item.not_before, item.lease_until = WorkState.OWED, now, None
            item.lost_leases += 1
            item.last_error = f"the worker vanished while it held this (attempt {item.attempts})"
            log.warning("lease_lost", work=item.id, kind=item.kind, attempts=item.attempts)
        session.flush()
        return len(lost)

    def mind_the_clock(self, session: Session, longest: timedelta) -> int:
        """Bring near what lies further ahead than anybody puts it: the clock was stepped back since. Return how much.

        A lease then ends after a whole lease, so that a worker that lives can renew it; what was put off is due.

        Parameters
        ----------
        longest
            The longest time for which work is put off.
        """
        before = self.clock()
        too_far = (
            sa.and_(is_leased(), col(WorkItem.lease_until) > before + self.lease),
            sa.and_(is_owed(), col(WorkItem.not_before) > before + longest),
        )
        found = [  # one after the other, in no order: each has an index of its own, and nobody is waited for
            item
            for far in too_far
            for item in session.exec(select(WorkItem).where(far).with_for_update(skip_locked=True))
        ]
        now = self.clock()  # what was renewed or put off while we waited for the lock lies no further ahead than this
        stranded = [
            item
            for item in found
            if (item.lease_until or item.not_before) > now + (self.lease if item.lease_until else longest)
        ]
        for item in stranded:
            if item.state == WorkState.LEASED:
                item.lease_until = now + self.lease
            else:
                item.not_before = now
            log.warning("clock_stepped_back", work=item.id, kind=item.kind, state=item.state)
        session.flush()
        return len(stranded)

    def lost_for_good(self, session: Session) -> list[WorkItem]:
        """Return what vanished workers held on its last attempt: to be given up, each in a transaction of its own."""
        now = self.clock()
        return list(
            session.exec(select(WorkItem).where(self._is_lost(now), col(WorkItem.attempts) >= self.max_attempts)).all()
        )

    def give_up_lost(self, session: Session, item: WorkItem) -> str:
        """Quarantine one of `lost_for_good`; return why, or nothing where somebody else has dealt with it."""
        now = self.clock()
        error = f"its worker vanished {item.lost_leases + 1} times; given up after {item.attempts} attempts"
        ended = session.execute(
            sa.update(WorkItem)
            .where(col(WorkItem.id) == item.id, col(WorkItem.token) == item.token, self._is_lost(now))
            .values(
                state=WorkState.QUARANTINED,
                finished_at=now,
                lease_until=None,
                lost_leases=item.lost_leases + 1,
                last_error=error,
            )
        )
        return error if ended.rowcount == 1 else ""  # type: ignore[attr-defined]

    @staticmethod
    def _is_lost(now: datetime) -> sa.ColumnElement[bool]:
        return sa.and_(is_leased(), col(WorkItem.lease_until) < now)

    def next_due(self, session: Session, kind: WorkKind) -> datetime | None:
        """Return when the next of what is owed but not yet due will be; None where there is none."""
        waits = sa.select(sa.func.min(col(WorkItem.not_before))).where(is_owed(), col(WorkItem.kind) == kind)
        return session.scalar(waits.where(col(WorkItem.not_before) > self.clock()))

    def due(self, session: Session) -> list[Due]:
        """Return what could be done now, by kind and lane."""
        return self._counted(session, sa.and_(is_owed(), col(WorkItem.not_before) <= self.clock()))

    def pending(self, session: Session) -> list[Due]:
        """Return all that is not done, by kind and lane: due, held, or waiting for its time."""
        found: dict[tuple[str, str], Due] = {}
        held = sa.and_(is_leased(), col(WorkItem.lease_until).is_not(None))  # it is never null: for SQLite's planner
        for one in (*self._counted(session, is_owed()), *self._counted(session, held)):
            other = found.get((one.kind, one.lane))
            found[one.kind, one.lane] = one if other is None else one.and_also(other)
        return list(found.values())

    @staticmethod
    def _counted(session: Session, condition: sa.ColumnElement[bool]) -> list[Due]:
        return [Due(*row) for row in session.execute(statements.counted(condition)).all()]
