"""A worker that lives hands back what it held when the database went away: no lease ends, no attempt is lost."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlmodel import select

from tests.support.fakes import MODEL, FakeClassifier, FakeReader, make_pipeline
from tests.support.objects import film, spool_object
from worker import patience
from worker.config import Peer
from worker.database import WorkItem, WorkKind, WorkState
from worker.errors import LeaseLost
from worker.pipeline import Pipeline

AWAY = sa.exc.OperationalError("SELECT", None, Exception("server closed the connection unexpectedly"))


@pytest.fixture
def pipeline(database_url: str, tmp_path: Path) -> Iterator[Pipeline]:
    made = make_pipeline(database_url, tmp_path, destinations=[Peer.parse("PACS@192.0.2.1:104")])
    spool_object(made.spool, film())
    made.register_arrivals()
    yield made
    made.database.dispose()


def infer(pipeline: Pipeline) -> None:
    pipeline.infer(MODEL, FakeClassifier(), FakeReader())  # type: ignore[arg-type]


def report(pipeline: Pipeline) -> None:
    pipeline.report()


def deliver(pipeline: Pipeline) -> None:
    pipeline.deliver()


def work(pipeline: Pipeline, kind: WorkKind) -> WorkItem:
    with pipeline.database.read() as session:
        return session.exec(select(WorkItem).where(WorkItem.kind == kind)).one()


def away_once(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
    """Let the database be away the next time that this is called."""
    real = getattr(owner, name)

    def gone(*_: Any, **__: Any) -> None:
        monkeypatch.setattr(owner, name, real)
        raise AWAY

    monkeypatch.setattr(owner, name, gone)


@pytest.mark.parametrize(
    ("kind", "before", "step", "where"),
    [
        (WorkKind.INFER, [], infer, lambda pipeline: (pipeline, "_tasks")),
        (WorkKind.REPORT, [infer], report, lambda pipeline: (pipeline.reports, "part")),
        (WorkKind.DELIVER, [infer, report], deliver, lambda pipeline: (pipeline.reports, "find")),
    ],
)
def test_what_was_held_is_owed_again_at_once(
    pipeline: Pipeline,
    monkeypatch: pytest.MonkeyPatch,
    kind: WorkKind,
    before: list[Callable[[Pipeline], None]],
    step: Callable[[Pipeline], None],
    where: Callable[[Pipeline], tuple[Any, str]],
) -> None:
    monkeypatch.setattr(patience, "_BETWEEN_TRIES_SECONDS", 0.0)
    for earlier in before:
        earlier(pipeline)
    away_once(monkeypatch, *where(pipeline))
    away_once(monkeypatch, pipeline.work, "put_off")  # and for a while longer
    with pytest.raises(sa.exc.OperationalError):
        step(pipeline)
    held = work(pipeline, kind)
    assert (held.state, held.attempts, held.lost_leases) == (WorkState.OWED, 0, 0)
    assert held.last_error == "the database went away"


def test_what_somebody_else_has_by_now_is_left_alone(pipeline: Pipeline) -> None:
    (claim,) = pipeline.work.claim(WorkKind.INFER, lane=MODEL)
    with pipeline.database.write() as session:
        pipeline.work.finish(session, claim)
    pipeline.patience.hand_back([claim])
    assert work(pipeline, WorkKind.INFER).state == WorkState.DONE


def test_whoever_is_to_end_waits_for_nothing(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    (claim,) = pipeline.work.claim(WorkKind.INFER, lane=MODEL)
    hurried = patience.Patience(pipeline.database, pipeline.work, stopping=lambda: True)
    away_once(monkeypatch, pipeline.work, "put_off")
    hurried.hand_back([claim])
    assert work(pipeline, WorkKind.INFER).state == WorkState.LEASED


def test_a_lost_lease_makes_a_result_worthless_at_once(pipeline: Pipeline) -> None:
    def lost() -> None:
        raise LeaseLost("claimed by another worker")

    with pytest.raises(LeaseLost):
        pipeline.patience.write(lost)
