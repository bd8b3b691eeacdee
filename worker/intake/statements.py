"""The statements over the table of owed work: each does for many pieces what would take a statement for each.

States that a partial index is of are written into the statement, not bound to it: only so is the index found whatever
plan the database keeps.
"""

from collections.abc import Iterable
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from worker.database import WorkItem, WorkState, is_leased, is_owed

_TABLE: sa.Table = WorkItem.__table__  # type: ignore[attr-defined]
Condition = sa.ColumnElement[bool]

RETURNED = ("id", "kind", "lane", "subject_id", "token", "attempts", "retries", "created_at", "lost_leases")
"""What a claim says of its work."""


@cache
def claim(*, suspects: bool) -> sa.UpdateBase:
    """Lease due work of a `wanted_kind` in a `wanted_lane`, oldest first, at most `most`; the attempt is counted.

    Those, `now` and the `end` of the lease are given at execution: to put the statement together takes longer than the
    database takes over it. The head of the queue says how many: a suspect, whose worker vanished, is claimed singly,
    and others without it; where no suspects are wanted and one is the head, nothing is. On PostgreSQL the rows are
    locked where they are chosen, in MATERIALIZED parts: a bare IN (SELECT … LIMIT) may over-claim. SQLite ignores FOR
    UPDATE; there BEGIN IMMEDIATE does the same.
    """
    work = _TABLE.c
    due = (
        sa.select(work.id, work.lost_leases)
        .where(
            is_owed(),
            work.kind == sa.bindparam("wanted_kind"),
            work.lane == sa.bindparam("wanted_lane"),
            work.not_before <= sa.bindparam("now"),
        )
        .order_by(work.id)
    )
    head = due.limit(1).with_for_update(skip_locked=True).cte("head").prefix_with("MATERIALIZED")
    most = sa.bindparam("most", type_=sa.Integer)
    how_many = sa.select(sa.case((head.c.lost_leases > 0, int(suspects)), else_=most)).scalar_subquery()
    chosen = due.where(sa.or_(work.lost_leases == 0, work.id == sa.select(head.c.id).scalar_subquery()))
    chosen = chosen.limit(sa.func.coalesce(how_many, 0))  # without a head: none, where no LIMIT would be all
    locked = chosen.with_for_update(skip_locked=True).cte("due").prefix_with("MATERIALIZED")
    return (
        sa.update(_TABLE)
        .where(work.id == locked.c.id)
        .values(
            state=WorkState.LEASED,
            attempts=work.attempts + 1,
            token=work.token + 1,
            lease_until=sa.bindparam("end"),
        )
        .returning(*(work[name] for name in RETURNED))
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


def counted(condition: Condition) -> sa.Select[Any]:
    """Count work by kind and lane, and say since when the oldest of each has been there."""
    work = _TABLE.c
    return (
        sa.select(work.kind, work.lane, sa.func.count(), sa.func.min(work.created_at))
        .where(condition)
        .group_by(work.kind, work.lane)
    )


def pairs(claims: Iterable[tuple[int, int]]) -> dict[str, Any]:
    """Return what the statements over held work are executed with: pairs of number and fencing token."""
    given = list(claims)
    return {"held_numbers": [number for number, _ in given], "held_pairs": given}


def _is_held() -> Condition:
    """Say that work is leased with one of the `pairs` of number and fencing token."""
    work = _TABLE.c
    # The numbers by themselves too: of pairs SQLite does not see that they are few rows.
    return sa.and_(
        work.id.in_(sa.bindparam("held_numbers", expanding=True)),
        sa.tuple_(work.id, work.token).in_(sa.bindparam("held_pairs", expanding=True)),
        is_leased(),
    )


@cache
def held() -> sa.Select[Any]:
    """Lock held work, and return its numbers."""
    return sa.select(_TABLE.c.id).where(_is_held()).order_by(_TABLE.c.id).with_for_update()


@cache
def end() -> sa.UpdateBase:
    """End held work, and return its numbers; the values of the columns are given with the `pairs`."""
    return sa.update(_TABLE).where(_is_held()).values(lease_until=None).returning(_TABLE.c.id)


@cache
def end_one() -> sa.Update:
    """End the work of the given `number`, which is locked; the values of the columns are given with it."""
    return sa.update(_TABLE).where(_TABLE.c.id == sa.bindparam("number")).values(lease_until=None)


@cache
def renew() -> sa.Update:
    """Let the lease of held work last until the given `end`.

    What is locked is being ended just now; who waited for it could be waited for by it.
    """
    ours = sa.select(_TABLE.c.id).where(_is_held()).order_by(_TABLE.c.id).with_for_update(skip_locked=True)
    chosen = ours.cte("ours").prefix_with("MATERIALIZED")
    return sa.update(_TABLE).where(_TABLE.c.id == chosen.c.id).values(lease_until=sa.bindparam("end"))
