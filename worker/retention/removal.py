"""Removing the stored bytes of a study: decided in its rows, done on the disk, written down in its rows.

The decision is committed before anything is unlinked, under the lock of the study and with everything asked anew. So
whoever dies between the two leaves a row that says the bytes are going, which is accounted for; the next run finishes.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlmodel import Session, col, select

from worker import metrics
from worker.database import Database, Instance, Study, utc_now
from worker.files import sync_directory
from worker.intake.registration import Record
from worker.intake.spool import Spool
from worker.logs import get_logger
from worker.retention.promises import HELD, Waiting, promised
from worker.retention.rules import KEPT_BECAUSE, keeps_bytes, kept_because
from worker.study_state import locked

log = get_logger(__name__)

STUDIES_AT_ONCE = 100
_IDS_AT_ONCE = 500

AGE, SPACE, RESTORED = "age", "space", "restored"
"""Why bytes are gone: they were old enough, the disk was nearly full, or a backup is restored that lacks them."""


@dataclass(frozen=True)
class Removal:
    """The stored bytes of one study, removed."""

    study_instance_uid: str
    because: str
    instances: int
    bytes: int


@dataclass(frozen=True)
class Review:
    """What retention would do now.

    Attributes
    ----------
    removable
        Studies, instances and bytes that are old enough and may go.
    kept
        Studies that are old enough and stay, by why.
    older_than
        Studies that received nothing since are old enough; None: none ever is.
    free_bytes, floor_bytes
        Free space of the spool, and below how much of it the oldest go before their time (0: never).
    """

    removable: dict[str, int]
    kept: dict[str, int]
    older_than: str | None
    free_bytes: int
    floor_bytes: int

    def as_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


class Retention:
    """Removes stored bytes and previews that may go, oldest study first; rows and reports stay.

    Parameters
    ----------
    record
        Appends an audit event: (session, action, subject, detail).
    days
        Studies that received nothing for so many days are old enough; 0: never.
    floor_bytes
        Below so much free space the oldest go before their time; 0: never.
    clock
        Returns the time, UTC.
    """

    def __init__(
        self,
        database: Database,
        spool: Spool,
        previews_dir: Path,
        record: Record,
        *,
        days: int,
        floor_bytes: int,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self.database = database
        self.spool = spool
        self.previews_dir = previews_dir
        self.record = record
        self.days = days
        self.floor_bytes = floor_bytes
        self.clock = clock
        self._waiting = Waiting(spool)

    def review(self) -> Review:
        """Say what would be removed and what would stay, and touch nothing."""
        removable = {"studies": 0, "instances": 0, "bytes": 0}
        kept = dict.fromkeys(KEPT_BECAUSE, 0)
        until = self._until()
        with self.database.read() as session:
            because = self._kept_because().label("because")
            old = sa.select(col(Study.id), because).where(self._is_old(until), keeps_bytes()).subquery()
            counted = sa.select(old.c.because, sa.func.count()).group_by(old.c.because)
            for reason, count in session.execute(counted):
                if reason:
                    kept[reason] = count
                else:
                    removable["studies"] = count
            stored = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(col(Instance.size_bytes)), 0)).where(
                col(Instance.study_id).in_(sa.select(old.c.id).where(old.c.because == "")),
                col(Instance.bytes_removed_at).is_(None),
            )
            instances, size = session.execute(stored).one()
            removable["instances"], removable["bytes"] = instances, int(size)
        return Review(
            removable=removable,
            kept=kept,
            older_than=until.isoformat(timespec="seconds") if until else None,
            free_bytes=self.spool.free_bytes(),
            floor_bytes=self.floor_bytes,
        )

    def run(self) -> Iterator[Removal]:
        """Remove what may go, one study at a time; whoever iterates decides how fast."""
        yield from self._finish()
        if until := self._until():
            for study_id in self._candidates(until):
                if removed := self._tried(study_id, partial(self._remove, study_id, until, AGE)):
                    yield removed
        if not self.is_short():
            return
        log.warning("retention_floor", free=self.spool.free_bytes(), floor=self.floor_bytes, todo="give it more room")
        for study_id in self._candidates(None):
            if not self.is_short():
                return
            if removed := self._tried(study_id, partial(self._remove, study_id, None, SPACE)):
                yield removed
        if self.is_short():
            log.error(
                "retention_floor_not_reached",
                free=self.spool.free_bytes(),
                floor=self.floor_bytes,
                why="all that is left is pending, owed, undelivered or failed and not acknowledged",
                todo="free space: at FIRSTREAD_MIN_FREE_BYTES scans are refused with A700",
            )

    def is_short(self) -> bool:
        """Say whether less is free than the floor."""
        return self.spool.free_bytes() < self.floor_bytes

    def _until(self) -> datetime | None:
        return self.clock() - timedelta(days=self.days) if self.days else None

    @staticmethod
    def _is_old(until: datetime | None) -> sa.ColumnElement[bool]:
        return sa.false() if until is None else col(Study.last_received_at) < until

    def _kept_because(self) -> sa.ColumnElement[str]:
        return kept_because(promised(self.clock() - HELD, sqlite=self.database.is_sqlite))

    def _candidates(self, until: datetime | None) -> Iterator[int]:
        """Yield studies whose bytes may go, oldest first; of any age where `until` is None."""
        place = sa.tuple_(col(Study.last_received_at), col(Study.id))
        after: tuple[datetime, int] | None = None
        while True:
            query = (
                sa.select(col(Study.last_received_at), col(Study.id))
                .where(keeps_bytes(), self._kept_because() == "")
                .order_by(col(Study.last_received_at), col(Study.id))
                .limit(STUDIES_AT_ONCE)
            )
            if until is not None:
                query = query.where(self._is_old(until))
            if after is not None:
                query = query.where(
                    place > sa.tuple_(*(sa.literal(v, c.type) for v, c in zip(after, place, strict=True)))
                )
            with self.database.read() as session:
                found = [(moment, int(study_id or 0)) for moment, study_id in session.execute(query)]
            if not found:
                return
            yield from (study_id for _, study_id in found)
            after = found[-1]

    @staticmethod
    def _tried(study_id: int, step: Callable[[], Removal | None]) -> Removal | None:
        """Take a step; a study whose files the disk will not let go holds up no other, and has its turn again."""
        try:
            return step()
        except OSError as error:
            log.error("bytes_not_removed", study=study_id, error=str(error), todo="look at the disk; it is tried again")
            return None

    def _remove(self, study_id: int, until: datetime | None, because: str) -> Removal | None:
        with self.database.write() as session:
            study = locked(session, study_id)
            waiting = self._waiting.uids()  # looked at before the rows: what is registered meanwhile is seen there
            reason = session.scalar(sa.select(self._kept_because()).where(col(Study.id) == study_id))
            if reason or (until is not None and study.last_received_at >= until):
                return None  # something has come since it was listed
            going = self._stored(session, study_id)
            if any(instance.sop_instance_uid in waiting for instance in going):
                return None
            for instance in going:
                instance.removal_began_at = self.clock()
                session.add(instance)
        return self._unlink(study_id, going, because)

    def _finish(self) -> Iterator[Removal]:
        """Finish what a run began that was killed."""
        with self.database.read() as session:
            begun = session.exec(
                select(Instance.study_id)
                .where(col(Instance.bytes_removed_at).is_(None), col(Instance.removal_began_at).is_not(None))
                .distinct()
            ).all()
        for study_id in begun:
            with self.database.read() as session:
                going = [one for one in self._stored(session, study_id) if one.removal_began_at is not None]
            if removed := self._tried(study_id, partial(self._unlink, study_id, going, AGE if self.days else SPACE)):
                yield removed

    @staticmethod
    def _stored(session: Session, study_id: int) -> Sequence[Instance]:
        return session.exec(
            select(Instance).where(Instance.study_id == study_id, col(Instance.bytes_removed_at).is_(None))
        ).all()

    def _unlink(self, study_id: int, going: Sequence[Instance], because: str) -> Removal | None:
        """Remove files whose removal is decided, durably, and write it down; None where somebody else has."""
        self.spool.remove([instance.spool_name for instance in going])
        for instance in going:
            (self.previews_dir / f"{instance.id}.png").unlink(missing_ok=True)
        sync_directory(self.previews_dir)
        with self.database.write() as session:
            study = locked(session, study_id)
            begun = (one for one in self._stored(session, study_id) if one.removal_began_at is not None)
            left = {one.id: one for one in begun}  # others were sent again meanwhile, and are here under another name
            gone = [left[one.id] for one in going if one.id in left]
            for instance in gone:
                instance.bytes_removed_at = self.clock()
                session.add(instance)
            if not gone:
                return None
            uid, size = study.study_instance_uid, sum(instance.size_bytes for instance in gone)
            self.record(session, "bytes.removed", uid, removed_detail(gone, because))
        metrics.retention_removed_bytes.labels(because=because).inc(size)
        log.info("bytes_removed", study_instance_uid=uid, because=because, instances=len(gone), bytes=size)
        return Removal(uid, because, len(gone), size)


def removed_detail(instances: Sequence[Instance], because: str) -> dict[str, Any]:
    """Return what the event `bytes.removed` of a study says: the chain's word for which bytes are gone, and why."""
    size = sum(instance.size_bytes for instance in instances)
    return {"because": because, "instances": len(instances), "bytes": size, "ids": _ranges(instances)}


def _ranges(instances: Sequence[Instance]) -> list[list[int]]:
    """Return the numbers of instances as first and last of each run without a gap."""
    ranges: list[list[int]] = []
    for number in sorted(instance.id or 0 for instance in instances):
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ranges
