"""The cost of a claim as the rows of finished work pile up, and how the database says it finds what is due."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from statistics import median
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlmodel import col

from tests.support.fakes import MODEL
from worker import schema
from worker.database import Database, WorkItem, WorkKind, of_open_work
from worker.intake.work import Claim, Work

BATCH = 32
SMALLEST = 10
_INTO = """
    INSERT INTO work_item (kind, lane, subject, subject_id, state, attempts, lost_leases, retries, token,
                           not_before, created_at, finished_at)
"""
_VALUES = "'infer', :lane, 'finished ' || i, i, 'done', 1, 0, 0, 1, :now, :now, :now"
_SERIES = {
    "sqlite": "WITH RECURSIVE n(i) AS (SELECT :low UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :high)",
    "postgresql": "WITH n(i) AS (SELECT generate_series(CAST(:low AS bigint), CAST(:high AS bigint) - 1))",
}
FAR = 1 << 30
"""Subjects from here on are nobody's."""


@dataclass
class Curve:
    """What was found.

    Attributes
    ----------
    points
        (rows of finished work, milliseconds a claim), the median of the rounds.
    sweeps
        The same of a sweep: what vanished workers held, what the clock stranded, what is due and what is pending.
    plans
        By number of rows: each statement of a claim and a sweep with its plan, at the fewest rows and at the most.
    """

    points: list[tuple[int, float]] = field(default_factory=list)
    sweeps: list[tuple[int, float]] = field(default_factory=list)
    plans: dict[str, list[dict[str, Any]]] = field(default_factory=dict)


@contextmanager
def table_of_its_own(beside: str) -> Iterator[Work]:
    """Give an empty table of work on the same server as the database of a URL, or beside its file."""
    url = sa.make_url(beside)
    if url.get_backend_name() == "sqlite":
        url = url.set(database=f"{url.database}.claims")
    else:
        server = Database(beside)
        with server.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sa.text("CREATE DATABASE claims"))
        server.dispose()
        url = url.set(database="claims")
    database = Database(url.render_as_string(hide_password=False))
    schema.migrate(database)
    try:
        yield Work(database, lease_seconds=30, max_attempts=3)
    finally:
        database.dispose()


def claim_curve(work: Work, most: int, rounds: int) -> Curve:
    """Measure claims of 32 pieces with 10, 1,000, 10,000 … up to `most` rows of finished work in the table."""
    curve, rows = Curve(), 0
    sizes = sorted({SMALLEST, most, *(10**power for power in range(3, 10) if 10**power < most)})
    for size in sizes:
        fill(work, rows, size)
        rows = size
        _timed(work)  # warms up
        seen = [_timed(work) for _ in range(rounds)]
        for points, seconds in ((curve.points, [one for one, _ in seen]), (curve.sweeps, [one for _, one in seen])):
            points.append((size, round(1000 * median(seconds), 3)))
        if size in {sizes[0], sizes[-1]}:
            curve.plans[f"{size} rows"] = _plans(work)
    return curve


def fill(work: Work, low: int, high: int) -> None:
    """Put finished rows into the table, those of a range of numbers."""
    database = work.database
    series = _SERIES["sqlite" if database.is_sqlite else "postgresql"]
    statement = sa.text(f"{_INTO} {series} SELECT {_VALUES} FROM n")  # noqa: S608 - all of it stands above
    with database.write() as session:
        values = {"lane": MODEL, "now": work.clock(), "low": low + FAR, "high": high + FAR}
        session.execute(statement.bindparams(sa.bindparam("now", type_=WorkItem.created_at.type)), values)
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("ANALYZE work_item"))


def _timed(work: Work) -> tuple[float, float]:
    """Owe a batch, sweep, claim it, finish it; return how long the claim and the sweep took, seconds."""
    _owe(work)
    began = time.perf_counter()
    _sweep(work)
    swept = time.perf_counter()
    claims = work.claim(WorkKind.INFER, lane=MODEL, limit=BATCH)
    claimed = time.perf_counter()
    assert len(claims) == BATCH, f"{len(claims)} of {BATCH} were claimed"
    _remove(work, claims)
    return claimed - swept, swept - began


def _sweep(work: Work) -> None:
    """Look at the table as the sweeper does."""
    with work.database.write() as session:
        work.mind_the_clock(session, timedelta(hours=1))
        work.take_back(session)
        work.lost_for_good(session)
        work.due(session)
        work.pending(session)


def _owe(work: Work) -> None:
    with work.database.write() as session:
        for number in range(BATCH):
            work.owe(session, WorkKind.INFER, f"owed {number}", FAR - 1 - number, lane=MODEL, not_before=work.clock())


def _remove(work: Work, claims: list[Claim]) -> None:
    with work.database.write() as session:
        session.execute(sa.delete(WorkItem).where(col(WorkItem.id).in_([claim.id for claim in claims])))
        owed = of_open_work(sa.select(col(WorkItem.id)))
        assert session.execute(owed.limit(1)).first() is None, "more was owed: the claim was not of the batch alone"


def _plans(work: Work) -> list[dict[str, Any]]:
    """Return each statement of a sweep and a claim, and how the database goes about it."""
    _owe(work)
    with _recorded(work.database) as statements:
        _sweep(work)
        claims = work.claim(WorkKind.INFER, lane=MODEL, limit=BATCH)
    _remove(work, claims)
    explain = "EXPLAIN QUERY PLAN" if work.database.is_sqlite else "EXPLAIN"
    plans = []
    with work.database.engine.connect() as connection:
        for statement, parameters in statements:
            rows = connection.exec_driver_sql(f"{explain} {statement}", parameters).all()
            plans.append({"statement": " ".join(statement.split()), "plan": [str(row[-1]) for row in rows]})
    return plans


@contextmanager
def _recorded(database: Database) -> Iterator[list[tuple[str, Any]]]:
    """Write down the statements that read or change rows."""
    found: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith(("SELECT", "UPDATE", "WITH")):
            found.append((statement, parameters))

    event.listen(database.engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        event.remove(database.engine, "before_cursor_execute", note)
