"""The statements over the table of owed work: each does for many pieces what would take a statement for each.

States that a partial index is of are written into the statement, not bound to it: only so is the index found whatever
plan the database keeps.
"""

from collections.abc import Iterable
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import col

from worker.database import WorkItem, WorkState, is_leased, is_owed

Condition = sa.ColumnElement[bool]

RETURNED = ("id", "kind", "lane", "subject_id", "token", "attempts", "retries", "created_at")
"""What a claim says of its work."""


@cache
def claim() -> sa.UpdateBase:
    """Lease up to `:at_most` pieces of work that is due `:now`, oldest first, until `:until`; the attempt is counted.

    Of the kind `:of_kind`, in the lane `:in_lane`.

    The head of the queue says how many: a suspect, whose worker vanished, is claimed singly, and others without it. On
    PostgreSQL the rows are locked where they are chosen, in MATERIALIZED parts: a bare IN (SELECT … LIMIT) may
    over-claim. SQLite ignores FOR UPDATE; there BEGIN IMMEDIATE does the same.
    """
    item_id, lost_leases = col(WorkItem.id), col(WorkItem.lost_leases)
    due = (
        sa.select(item_id, lost_leases)
        .where(
            is_owed(),
            col(WorkItem.kind) == sa.bindparam("of_kind"),
            col(WorkItem.lane) == sa.bindparam("in_lane"),
            col(WorkItem.not_before) <= sa.bindparam("now"),
        )
        .order_by(item_id)
    )
    at_most = sa.bindparam("at_most", type_=sa.Integer)
    head = due.limit(1).with_for_update(skip_locked=True).cte("head").prefix_with("MATERIALIZED")
    how_many = sa.select(sa.case((head.c.lost_leases > 0, 1), else_=at_most)).scalar_subquery()
    chosen = due.where(sa.or_(lost_leases == 0, item_id == sa.select(head.c.id).scalar_subquery()))
    chosen = chosen.limit(sa.func.coalesce(how_many, 0))  # without a head: none, where no LIMIT would be all
    locked = chosen.with_for_update(skip_locked=True).cte("due").prefix_with("MATERIALIZED")
    return (
        sa.update(WorkItem)
        .where(item_id == locked.c.id)
        .values(
            state=WorkState.LEASED,
            attempts=col(WorkItem.attempts) + 1,
            token=col(WorkItem.token) + 1,
            lease_until=sa.bindparam("until"),
        )
        .returning(*(col(getattr(WorkItem, name)) for name in RETURNED))
        .execution_options(synchronize_session=False)
    )


@cache
def owe(*, on_sqlite: bool) -> sa.Insert:
    """Insert owed work, or owe again what is there; what somebody holds right now is left as it is."""
    insert = (sqlite.insert if on_sqlite else postgresql.insert)(_TABLE)
    is_over = sa.or_(_TABLE.c.state == WorkState.DONE, _TABLE.c.state == WorkState.QUARANTINED)

    def afresh(name: str, value: Any) -> sa.ColumnElement[Any]:
        return sa.case((is_over, value), else_=_TABLE.c[name])

    return insert.on_conflict_do_update(
        index_elements=[_TABLE.c.kind, _TABLE.c.subject],
        set_={
            "state": WorkState.OWED,
            "not_before": insert.excluded.not_before,
            "created_at": afresh("created_at", insert.excluded.created_at),
            **{name: afresh(name, 0) for name in ("attempts", "lost_leases", "retries")},
            **{name: afresh(name, sa.null()) for name in ("finished_at", "last_error", "lease_until")},
        },
        where=_TABLE.c.state != WorkState.LEASED,
    )


def held(claims: Iterable[tuple[int, int]]) -> Condition:
    """Say that work is leased with one of these pairs of number and fencing token."""
    pairs = list(claims)
    item_id = col(WorkItem.id)
    # The numbers by themselves too: of pairs SQLite does not see that they are few rows.
    return sa.and_(
        item_id.in_([number for number, _ in pairs]),
        sa.tuple_(item_id, col(WorkItem.token)).in_(pairs),
        is_leased(),
    )


_TABLE: sa.Table = WorkItem.__table__  # type: ignore[attr-defined]
