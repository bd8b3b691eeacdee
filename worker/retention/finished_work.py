"""Finished work is removed after a while, so that the table of what is owed stays small; what came of it stays.

A row that is done guards nothing by itself: what was registered, predicted, reported, delivered and answered for has a
row of its own, unique, and to owe the same again writes a new row or opens the old one, which comes to the same. One
thing is said by a row of inference alone: which model an instance was given to. So it goes only where the prediction
says that too.
"""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import aliased
from sqlmodel import col

from worker.database import Database, ModelVersion, Prediction, WorkItem, WorkKind, is_done, utc_now

BATCH = 1000
"""So many rows are looked at in one transaction."""

Place = tuple[datetime, int]
"""When work was finished, and its number."""


class FinishedWork:
    """Removes rows of work that was done long ago, oldest first.

    Parameters
    ----------
    days
        Rows of work that was finished so many days ago are old enough; 0: never.
    clock
        Returns the time, UTC.
    """

    def __init__(self, database: Database, *, days: int, clock: Callable[[], datetime] = utc_now) -> None:
        self.database = database
        self.days = days
        self.clock = clock

    def run(self) -> Iterator[int]:
        """Remove what is old enough, a batch at a time: yields how many rows; whoever iterates decides how fast."""
        if not self.days:
            return
        until = self.clock() - timedelta(days=self.days)
        place: Place | None = None
        while batch := self._batch(until, place):
            yield self._remove([number for _, number in batch], until)
            place = batch[-1]

    def _batch(self, until: datetime, behind: Place | None) -> list[Place]:
        finished, number = col(WorkItem.finished_at), col(WorkItem.id)
        query = sa.select(finished, number).where(is_done(), finished < until).order_by(finished, number).limit(BATCH)
        if behind is not None:
            query = query.where(finished >= behind[0], sa.tuple_(finished, number) > behind)
        with self.database.read() as session:
            return [(moment, one) for moment, one in session.execute(query)]

    def _remove(self, numbers: list[int], until: datetime) -> int:
        newest = sa.select(sa.func.max(col(aliased(WorkItem).id))).scalar_subquery()
        statement = sa.delete(WorkItem).where(
            col(WorkItem.id).in_(numbers),
            is_done(),  # somebody may have owed it again since
            col(WorkItem.finished_at) < until,
            col(WorkItem.id) != newest,  # SQLite would give its number to other work, which an old claim must not name
            sa.or_(col(WorkItem.kind) != WorkKind.INFER, _has_prediction()),
        )
        with self.database.write() as session:
            removed = session.execute(statement.execution_options(synchronize_session=False))
        return int(removed.rowcount)  # type: ignore[attr-defined]


def _has_prediction() -> sa.ColumnElement[bool]:
    identifier = col(ModelVersion.name) + sa.literal("@") + col(ModelVersion.version)
    return (
        sa.select(sa.literal(1))
        .select_from(Prediction)
        .join(ModelVersion, col(ModelVersion.id) == col(Prediction.model_version_id))
        .where(col(Prediction.instance_id) == col(WorkItem.subject_id), identifier == col(WorkItem.lane))
        .correlate(WorkItem)
        .exists()
    )
