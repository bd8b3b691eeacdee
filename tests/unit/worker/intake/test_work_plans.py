"""How the databases go about the table of work: what is done long ago is never looked at."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event
from sqlmodel import Session

from tests.bench.claims import fill
from worker import studies
from worker.database import Database, WorkKind, utc_now
from worker.intake.work import Work
from worker.operations import quarantine_list
from worker.retention.finished_work import FinishedWork
from worker.retention.promises import promised

FINISHED = 20_000


@pytest.fixture
def work(database_url: str) -> Iterator[Work]:
    database = Database(database_url)
    made = Work(database, lease_seconds=30, max_attempts=3)
    fill(made, 0, FINISHED)
    with database.write() as session:
        for number in range(20):
            made.owe(session, WorkKind.INFER, f"instance {number}", number, lane="m@1", not_before=utc_now())
    yield made
    database.dispose()


def _sweep(work: Work, session: Session) -> None:
    work.mind_the_clock(session, timedelta(hours=1))
    work.take_back(session)
    work.lost_for_good(session)
    work.due(session)
    work.pending(session)


LOOKS: dict[str, Callable[[Work, Session], object]] = {
    "sweep": _sweep,
    "worker silence": lambda _, session: studies.worker_silence(session),
    "promises": lambda work, session: session.execute(promised(utc_now(), sqlite=work.database.is_sqlite)).all(),
}
ALONE: dict[str, Callable[[Work], object]] = {
    "claim": lambda work: work.claim(WorkKind.INFER, lane="m@1", limit=9),
    "quarantine": lambda work: quarantine_list(work.database),
    "removal": lambda work: list(FinishedWork(work.database, days=30).run()),
}


def plans(work: Work, look: Callable[[], object]) -> list[tuple[str, str]]:
    """Return each statement with the plan of it, as one text."""
    seen: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if "work_item" in statement:
            seen.append((statement, parameters))

    event.listen(work.database.engine, "before_cursor_execute", note)
    look()
    event.remove(work.database.engine, "before_cursor_execute", note)
    explain = "EXPLAIN QUERY PLAN" if work.database.is_sqlite else "EXPLAIN"
    with work.database.engine.connect() as connection:
        return [
            (statement, "\n".join(str(row[-1]) for row in connection.exec_driver_sql(f"{explain} {statement}", said)))
            for statement, said in seen
        ]


def whole_table(plan: str) -> bool:
    lines = [line.strip() for line in plan.splitlines()]
    scans = [line for line in lines if "Seq Scan on work_item" in line or line.startswith("SCAN work_item")]
    return any("USING INDEX ix_work_item_" not in line and "COVERING INDEX ix_work_item_" not in line for line in scans)


@pytest.mark.parametrize("name", [*LOOKS, *ALONE])
def test_nobody_reads_what_is_done(work: Work, name: str) -> None:
    def look() -> None:
        if name in ALONE:
            ALONE[name](work)
            return
        with work.database.write() as session:
            LOOKS[name](work, session)

    found = plans(work, look)
    assert found
    for statement, plan in found:
        assert not whole_table(plan), f"{statement}\n{plan}"
