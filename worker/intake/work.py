"""Owed work: claim, lease, retry, quarantine, sweep.

A message may vanish and may come twice; the row is the truth. Work is claimed with a lease and a fencing token, its
attempt counted before it begins. Whoever finishes must still hold the newest token, in the transaction that carries the
results. Work whose worker vanished is claimed singly, so that a poison input does not use up its neighbours' attempts.
"""

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlmodel import Session, col, select

from worker.database import Database, WorkItem, WorkKind, WorkState, utc_now
from worker.errors import LeaseLost
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
class Due:
    """How much work of a kind can be done now, and since when the oldest waits."""

    kind: str
    lane: str
    count: int
    oldest: datetime


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
    ) -> WorkItem:
        """Make sure that work is owed: new, or waiting already (then `not_before` moves), or done before (then again).

        Work that someone holds right now is left as it is.
        """
        found = session.exec(select(WorkItem).where(WorkItem.kind == kind, WorkItem.subject == subject)).one_or_none()
        if found is None:
            found = WorkItem(
                kind=kind,
                lane=lane,
                subject=subject,
                subject_id=subject_id,
                not_before=not_before,
                created_at=self.clock(),
            )
            session.add(found)
        elif found.state == WorkState.OWED:
            found.not_before = not_before
        elif found.state in {WorkState.DONE, WorkState.QUARANTINED}:
            self.reopen(found, not_before)
        session.flush()
        return found

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
        due = (
            sa.select(col(WorkItem.id))
            .where(
                col(WorkItem.state) == WorkState.OWED,
                col(WorkItem.kind) == kind,
                col(WorkItem.lane) == lane,
                col(WorkItem.not_before) <= now,
            )
            .order_by(col(WorkItem.id))
        )
        with self.database.write() as session:
            first = due.add_columns(col(WorkItem.lost_leases)).limit(1).with_for_update(skip_locked=True)
            head = session.execute(first).first()
            if head is None or (head.lost_leases and not alone):
                return []
            if head.lost_leases:
                chosen = due.where(col(WorkItem.id) == head.id)
            else:
                chosen = due.where(col(WorkItem.lost_leases) == 0).limit(limit)
            # One statement: on PostgreSQL the rows are locked where they are chosen, and a bare IN (SELECT … LIMIT)
            # may over-claim; SQLite ignores FOR UPDATE, there BEGIN IMMEDIATE does the same.
            locked = chosen.with_for_update(skip_locked=True).cte("due").prefix_with("MATERIALIZED")
            rows = session.execute(
                sa.update(WorkItem)
                .where(col(WorkItem.id) == locked.c.id)
                .values(
                    state=WorkState.LEASED,
                    attempts=col(WorkItem.attempts) + 1,
                    token=col(WorkItem.token) + 1,
                    lease_until=now + self.lease,
                )
                .returning(*(col(getattr(WorkItem, name)) for name in Claim.__dataclass_fields__))
            ).mappings()
            claims = [Claim(**row) for row in rows]
        return sorted(claims, key=lambda claim: claim.id)

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
            for claim in claims:
                session.execute(self._held(claim).values(lease_until=self.clock() + self.lease))

    def _held(self, claim: Claim) -> sa.Update:
        return sa.update(WorkItem).where(
            col(WorkItem.id) == claim.id,
            col(WorkItem.token) == claim.token,
            col(WorkItem.state) == WorkState.LEASED,
        )

    def finish(self, session: Session, claim: Claim) -> None:
        """Mark work done, in the transaction that carries its results.

        Raises
        ------
        LeaseLost
            When someone else has claimed it since: the caller's transaction must not commit these results.
        """
        self._end(session, claim, state=WorkState.DONE, finished_at=self.clock(), last_error=None, retries=0)

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
        ended = session.execute(self._held(claim).values(lease_until=None, **values))
        if ended.rowcount != 1:  # type: ignore[attr-defined]
            raise LeaseLost(f"work {claim.id} ({claim.kind}) was claimed by another worker meanwhile")

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
            .order_by(col(WorkItem.id))
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
        too_far = sa.or_(
            sa.and_(col(WorkItem.state) == WorkState.LEASED, col(WorkItem.lease_until) > before + self.lease),
            sa.and_(col(WorkItem.state) == WorkState.OWED, col(WorkItem.not_before) > before + longest),
        )
        query = select(WorkItem).where(too_far).order_by(col(WorkItem.id)).with_for_update(skip_locked=True)
        found = session.exec(query).all()
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
        return sa.and_(col(WorkItem.state) == WorkState.LEASED, col(WorkItem.lease_until) < now)

    def due(self, session: Session) -> list[Due]:
        """Return what could be done now, by kind and lane."""
        return self._counted(session, col(WorkItem.not_before) <= self.clock(), (WorkState.OWED,))

    def pending(self, session: Session) -> list[Due]:
        """Return all that is not done, by kind and lane: due, held, or waiting for its time."""
        return self._counted(session, sa.true(), (WorkState.OWED, WorkState.LEASED))

    def _counted(self, session: Session, condition: sa.ColumnElement[bool], states: tuple[WorkState, ...]) -> list[Due]:
        rows = session.execute(
            sa.select(col(WorkItem.kind), col(WorkItem.lane), sa.func.count(), sa.func.min(col(WorkItem.created_at)))
            .where(col(WorkItem.state).in_(states), condition)
            .group_by(col(WorkItem.kind), col(WorkItem.lane))
        ).all()
        return [Due(*row) for row in rows]
