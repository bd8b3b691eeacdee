"""The commit of a batch is held against what one image after the other would come to, over made-up histories."""

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import generate_uid
from sqlalchemy import event
from sqlmodel import Session, col, select

from models.card import Card
from tests.support.fakes import MODEL, FakeClassifier, make_pipeline
from tests.support.objects import film, spool_object
from worker.audit.log import digest
from worker.database import (
    AuditEvent,
    Instance,
    InstanceStatus,
    ModelVersion,
    Prediction,
    Series,
    Study,
    WorkItem,
    WorkKind,
    WorkState,
    utc_now,
)
from worker.errors import ChildLost, PixelError
from worker.inference.classify import Outcome
from worker.inference.triage import Reading, roll_up, study_status, worklist_rank
from worker.intake.work import Claim
from worker.operations import reprocess
from worker.pipeline import Pipeline


@pytest.fixture
def pipeline(database_url: str, tmp_path: Path) -> Iterator[Pipeline]:
    made = make_pipeline(database_url, tmp_path, max_attempts=2)
    yield made
    made.database.dispose()


def outcome(kind: str, level: float) -> Outcome:
    """What came of an image: probabilities, with a note or without, an error that stays, one that may heal."""
    if kind == "broken":
        return Outcome(error=PixelError(f"broken {level:.0f}"))
    if kind == "unlucky":
        return Outcome(error=ChildLost("the child is gone"))
    probabilities = {"normal": 1 - level, "pneumonia": level, "covid": level / 3}
    return Outcome(probabilities, note="no Hounsfield units" if kind == "noted" else "", recipe="r", batch_size=3)


class Told:
    """What a history is to come to, worked out one image after the other."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.events: list[tuple[str, str]] = []
        self.work: dict[int, tuple[str, int, str | None]] = {}
        self.predicted: dict[int, dict[str, float]] = {}

    def commit(self, claims: list[Claim], outcomes: list[Outcome], lost: set[int]) -> None:
        """One after the other, as they stand in the batch."""
        with self.pipeline.database.read() as session:
            uids = dict(session.execute(sa.select(col(Instance.id), col(Instance.sop_instance_uid))).all())
        for claim, one in zip(claims, outcomes, strict=True):
            if claim.id in lost:
                continue
            if one.probabilities is not None:
                again = "remade" if claim.subject_id in self.predicted else "made"
                self.events.append((f"prediction.{again}", uids[claim.subject_id]))
                self.predicted[claim.subject_id] = one.probabilities
                self.work[claim.id] = (WorkState.DONE, 0, None)
            elif isinstance(one.error, PixelError) or claim.attempts >= 2:
                self.events.append(("inference.failed", uids[claim.subject_id]))
                self.work[claim.id] = (WorkState.QUARANTINED, claim.retries, str(one.error))
            else:
                self.work[claim.id] = (WorkState.OWED, claim.retries + 1, str(one.error))


def state_of(session: Session, study: Study) -> dict[str, Any]:
    """Work a study's state out the long way: every row of it, whole."""
    instances = session.exec(
        select(Instance).where(Instance.study_id == study.id).order_by(col(Instance.received_at), col(Instance.id))
    ).all()
    counts = Counter(one.status for one in instances)
    newest: dict[tuple[int | None, str], Reading] = {}
    unread: Counter[str] = Counter()
    for prediction in session.exec(select(Prediction).order_by(col(Prediction.created_at), col(Prediction.id))).all():
        instance = session.get_one(Instance, prediction.instance_id)
        if instance.study_id == study.id:
            version = session.get_one(ModelVersion, prediction.model_version_id)
            series = session.get_one(Series, instance.series_id).series_instance_uid
            card = Card.model_validate(version.card)
            newest[instance.id, version.name] = Reading(
                card, instance.sop_instance_uid, series, prediction.probabilities
            )
    for one in instances:
        if one.status == InstanceStatus.PENDING:
            unread[session.get_one(Series, one.series_id).series_instance_uid] += 1
    findings, priority = roll_up(list(newest.values()), unread)
    status = study_status(counts)
    reasons = [one.reason for one in instances if status == "failed" and one.status == "failed"]
    reasons += [one.remark for one in instances]
    distinct = list(dict.fromkeys(filter(None, reasons)))
    more = f"; and {len(distinct) - 3} more" if len(distinct) > 3 else ""
    return {
        "findings": findings,
        "priority": priority,
        "ai_status": status,
        "rank": worklist_rank(status, priority),
        "reason": "; ".join(distinct[:3]) + more,
        "is_completed": status != "pending",
    }


def check(pipeline: Pipeline, told: Told) -> None:
    with pipeline.database.read() as session:
        for study in session.exec(select(Study)):
            found = {name: getattr(study, name) for name in ("findings", "priority", "ai_status", "rank", "reason")}
            found["is_completed"] = study.completed_at is not None
            assert found == state_of(session, study)
            owed = session.exec(
                select(WorkItem.state).where(WorkItem.kind == WorkKind.REPORT, WorkItem.subject_id == study.id)
            ).all()
            if study.ai_status != "pending" and study.findings:
                assert owed == [WorkState.OWED]
        for number, expected in told.work.items():
            item = session.get_one(WorkItem, number)
            if item.state != WorkState.LEASED:
                assert (item.state, item.retries, item.last_error) == expected
                assert item.lease_until is None
        predictions = session.exec(select(Prediction)).all()
        assert {one.instance_id: one.probabilities for one in predictions} == told.predicted
        states = {item.subject_id: item.state for item in session.exec(
            select(WorkItem).where(WorkItem.kind == WorkKind.INFER))}  # fmt: skip
        says = {WorkState.DONE: "classified", WorkState.QUARANTINED: "failed"}
        for instance in session.exec(select(Instance)):
            assert instance.status == says.get(WorkState(states[instance.id or 0]), "pending")
            assert bool(instance.reason) == (instance.status == "failed")


def check_chain(pipeline: Pipeline, told: Told) -> None:
    with pipeline.database.read() as session:
        events = session.exec(select(AuditEvent).order_by(col(AuditEvent.id))).all()
    for before, after in pairwise(events):
        assert (after.id, after.previous_sha256) == ((before.id or 0) + 1, before.sha256)
    assert all(one.sha256 == digest(one) for one in events)
    about = [(one.action, one.subject) for one in events if one.action.startswith(("prediction.", "inference."))]
    assert about == told.events


KINDS = st.sampled_from(["read", "read", "noted", "broken", "unlucky"])
LEVELS = st.sampled_from([0.1, 0.45, 0.45, 0.8])
BATCHES = st.lists(st.tuples(KINDS, LEVELS, st.integers(0, 5)), min_size=1, max_size=6)
STEPS = st.one_of(
    st.tuples(st.just("arrive"), st.lists(st.integers(0, 2), min_size=1, max_size=4)),
    st.tuples(st.just("commit"), BATCHES),
    st.tuples(st.just("reprocess"), st.integers(0, 2)),
)


def clear(pipeline: Pipeline) -> None:
    """Leave nothing of an earlier history but the audit chain."""
    with pipeline.database.write() as session:
        for table in (WorkItem, Prediction, Instance, Series, Study):
            session.execute(sa.delete(table))


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(history=st.lists(STEPS, min_size=2, max_size=7))
def test_a_batch_comes_to_what_its_images_would_one_after_the_other(pipeline: Pipeline, history: list[Any]) -> None:
    clear(pipeline)
    told = Told(pipeline)
    with pipeline.database.read() as session:
        behind = session.scalar(sa.select(sa.func.count()).select_from(AuditEvent).where(_about_images()))
    studies = [str(generate_uid(prefix=None)) for _ in range(3)]
    for what, how in [("arrive", [0, 1, 0]), *history, ("commit", [("read", 0.8, 5)] * 6)]:
        if what == "arrive":
            for number in how:
                spool_object(pipeline.spool, film(np.full((4, 4), 900, np.uint16), StudyInstanceUID=studies[number]))
            pipeline.register_arrivals()
        elif what == "reprocess":
            with pipeline.database.read() as session:
                known = session.exec(select(Study).where(Study.study_instance_uid == studies[how])).first()
            if known is not None:
                reprocess(pipeline, studies[how])
                told.work.clear()
        else:
            _commit(pipeline, told, how)
        check(pipeline, told)
    told.events = [*_said(pipeline)[: behind or 0], *told.events]
    check_chain(pipeline, told)


def _about_images() -> sa.ColumnElement[bool]:
    return sa.or_(col(AuditEvent.action).startswith("prediction."), col(AuditEvent.action).startswith("inference."))


def _said(pipeline: Pipeline) -> list[tuple[str, str]]:
    with pipeline.database.read() as session:
        query = sa.select(col(AuditEvent.action), col(AuditEvent.subject)).where(_about_images())
        return [tuple(row) for row in session.execute(query.order_by(col(AuditEvent.id)))]  # type: ignore[misc]


def _commit(pipeline: Pipeline, told: Told, how: list[tuple[str, float, int]]) -> None:
    """Commit a batch of which one in six has lost its lease meanwhile, in an order of its own."""
    with pipeline.database.write() as session:  # what was put off is due
        session.execute(sa.update(WorkItem).where(col(WorkItem.kind) == WorkKind.INFER).values(not_before=utc_now()))
    claims = pipeline.work.claim(WorkKind.INFER, lane=MODEL, limit=len(how))[::-1]
    if not claims:
        return
    outcomes = [outcome(kind, level) for kind, level, _ in how[: len(claims)]]
    lost = {claim.id for claim, (_, _, luck) in zip(claims, how, strict=False) if luck == 0}
    with pipeline.database.write() as session:
        session.execute(sa.update(WorkItem).where(col(WorkItem.id).in_(lost)).values(token=WorkItem.token + 1))
    told.commit(claims, outcomes, lost)
    pipeline.results.commit(claims, outcomes, FakeClassifier())  # type: ignore[arg-type]
    with pipeline.database.write() as session:  # who holds what was lost hands it back
        session.execute(
            sa.update(WorkItem)
            .where(col(WorkItem.id).in_(lost))
            .values(state=WorkState.OWED, lease_until=None, attempts=col(WorkItem.attempts) - 1)
        )
    for number in lost:
        told.work.pop(number, None)


def _statements(pipeline: Pipeline, count: int) -> int:
    """Return how many statements registration, claim and commit of images take, each in a study of its own."""
    seen: list[str] = []
    for number in range(count):
        spool_object(pipeline.spool, film(np.full((4, 4), 900 + number, np.uint16)))

    def note(*said: Any) -> None:
        seen.append(said[2])

    event.listen(pipeline.database.engine, "before_cursor_execute", note)
    pipeline.register_arrivals()
    claims = pipeline.work.claim(WorkKind.INFER, lane=MODEL, limit=count)
    kinds = ("read", "noted", "broken", "unlucky")
    outcomes = [outcome(kinds[number % 4], 0.8) for number in range(count)]
    pipeline.results.commit(claims, outcomes, FakeClassifier())  # type: ignore[arg-type]
    event.remove(pipeline.database.engine, "before_cursor_execute", note)
    return len(seen)


def test_a_batch_takes_as_many_statements_as_a_few_images(pipeline: Pipeline) -> None:
    _statements(pipeline, 1)  # the version of the model is written
    few = _statements(pipeline, 8)
    assert _statements(pipeline, 32) == few
