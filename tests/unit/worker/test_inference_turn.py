"""Stages of a turn overlap, hold a bounded number of batches, and leave nothing behind, however the turn ends."""

import errno
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from sqlmodel import select

from tests.support.fakes import MODEL, FakeClassifier, FakeReader, make_pipeline
from tests.support.objects import film, spool_object
from worker import metrics, patience
from worker.database import Instance, WorkItem, WorkKind, WorkState
from worker.inference_turn import IN_HAND
from worker.pipeline import Pipeline

AWAY = sa.exc.OperationalError("SELECT", None, Exception("server closed the connection unexpectedly"))
SOON = 30.0
"""Whoever waits longer for another thread waits in vain."""


@pytest.fixture
def pipeline(database_url: str, tmp_path: Path) -> Iterator[Pipeline]:
    made = make_pipeline(database_url, tmp_path)
    yield made
    made.database.dispose()


def owe(pipeline: Pipeline, count: int) -> None:
    for _ in range(count):
        spool_object(pipeline.spool, film())
    while pipeline.register_arrivals():
        pass


def infer_items(pipeline: Pipeline) -> list[WorkItem]:
    with pipeline.database.read() as session:
        query = select(WorkItem).where(WorkItem.kind == WorkKind.INFER).order_by(sa.text("id"))
        return list(session.exec(query).all())


def states(pipeline: Pipeline) -> set[str]:
    return {item.state for item in infer_items(pipeline)}


def leased(pipeline: Pipeline) -> list[WorkItem]:
    return [item for item in infer_items(pipeline) if item.state == WorkState.LEASED]


class OneByOne(FakeClassifier):
    """Takes batches of one; `during` is called with the number of each, from 1 on, while it is classified."""

    max_batch = 1

    def __init__(self, during: Callable[[int], object] = lambda number: None) -> None:
        super().__init__()
        self.during = during

    def probabilities(self, batch: np.ndarray) -> np.ndarray:
        self.during(len(self.batches) + 1)
        return super().probabilities(batch)


class CountingReader(FakeReader):
    """Says which object is read, from 1 on."""

    def __init__(self, reading: Callable[[int], object]) -> None:
        self.reading = reading
        self._lock = threading.Lock()
        self.seen = 0

    def read(self, path: Path, *how: Any) -> Any:
        with self._lock:
            self.seen += 1
            number = self.seen
        self.reading(number)
        return super().read(path, *how)


def at(number: int, act: Callable[[], object]) -> Callable[[int], object]:
    """Return what acts at that number and does nothing at others."""
    return lambda this: act() if this == number else None


def infer(pipeline: Pipeline, classifier: Any, reader: Any) -> int:
    return pipeline.infer(MODEL, classifier, reader)


def test_the_next_batch_is_decoded_while_this_one_is_classified_and_the_last_one_committed(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each stage waits for the other two to be at their batch: one after the other they would wait for ever."""
    owe(pipeline, 3)
    together = threading.Barrier(3, timeout=SOON)
    commit = pipeline.results.commit
    committed: list[int] = []

    def commit_first_with_the_others(*arguments: Any) -> None:
        committed.append(1)
        if len(committed) == 1:
            together.wait()
        commit(*arguments)

    monkeypatch.setattr(pipeline.results, "commit", commit_first_with_the_others)
    classifier = OneByOne(at(2, together.wait))
    reader = CountingReader(at(3, together.wait))
    assert infer(pipeline, classifier, reader) == 3
    assert states(pipeline) == {WorkState.DONE}
    assert not together.broken


def test_a_stage_that_stands_still_holds_up_those_before_it(pipeline: Pipeline) -> None:
    owe(pipeline, 8)
    in_hand: list[int] = []
    ready = threading.Event()
    read = threading.Semaphore(0)

    def stand_still(number: int) -> None:
        if number == 1:
            for _ in range(IN_HAND):
                assert read.acquire(timeout=SOON)
            in_hand.append(len(leased(pipeline)))
            ready.set()

    reader = CountingReader(lambda number: read.release())
    assert infer(pipeline, OneByOne(stand_still), reader) == 8
    assert in_hand == [IN_HAND]
    assert states(pipeline) == {WorkState.DONE}


def test_waiting_for_room_shows_in_the_metrics(pipeline: Pipeline) -> None:
    def waited(stage: str, what: str) -> float:
        return metrics.stage_wait_seconds.labels(stage=stage, **{"for": what})._value.get()

    before = {pair: waited(*pair) for pair in [("decode", "room"), ("classify", "input"), ("commit", "input")]}
    owe(pipeline, 4)
    infer(pipeline, OneByOne(), FakeReader())
    assert all(waited(*pair) > seconds for pair, seconds in before.items())
    assert metrics.batches_in_hand._value.get() == 0


def test_objects_of_a_batch_are_decoded_side_by_side(pipeline: Pipeline) -> None:
    owe(pipeline, 2)
    together = threading.Barrier(2, timeout=SOON)
    reader = CountingReader(lambda number: together.wait())
    reader.count = 2
    classifier = FakeClassifier()
    assert infer(pipeline, classifier, reader) == 2
    assert classifier.batches == [2]
    assert not together.broken


def test_what_a_worker_vanished_with_is_read_while_nothing_else_is_held(pipeline: Pipeline) -> None:
    owe(pipeline, 6)
    with pipeline.database.write() as session:
        suspects = session.exec(select(WorkItem).where(WorkItem.kind == WorkKind.INFER)).all()[2:4]
        for suspect in suspects:
            suspect.lost_leases = 1
    lost = {suspect.id for suspect in suspects}
    held: list[set[int | None]] = []
    another = threading.Event()

    def reading(number: int) -> None:
        held.append({item.id for item in leased(pipeline)})
        another.set()

    def classifying(number: int) -> None:
        if number in {3, 4}:
            another.clear()
            assert not another.wait(0.3), "another was read beside it"

    assert infer(pipeline, OneByOne(classifying), CountingReader(reading)) == 6
    assert [len(ids) for ids in held if ids & lost] == [1, 1]
    assert states(pipeline) == {WorkState.DONE}


def test_when_the_database_goes_away_the_turn_ends_and_hands_back_what_it_held(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "PATIENCE_SECONDS", -1.0)
    owe(pipeline, 5)
    read = threading.Semaphore(0)
    commits: list[int] = []
    commit = pipeline.results.commit

    def away_at_the_second(*arguments: Any) -> None:
        commits.append(1)
        if len(commits) == 2:
            raise AWAY
        commit(*arguments)

    monkeypatch.setattr(pipeline.results, "commit", away_at_the_second)
    reader = CountingReader(lambda number: read.release())
    with pytest.raises(sa.exc.OperationalError):
        infer(pipeline, OneByOne(), reader)
    assert WorkState.LEASED not in states(pipeline)
    monkeypatch.setattr(pipeline.results, "commit", commit)
    infer(pipeline, OneByOne(), FakeReader())
    assert {(item.state, item.attempts) for item in infer_items(pipeline)} == {(WorkState.DONE, 1)}


def test_a_batch_that_cannot_be_committed_costs_only_itself(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    owe(pipeline, 4)
    commits: list[int] = []
    commit = pipeline.results.commit

    def wrong_at_the_second(*arguments: Any) -> None:
        commits.append(1)
        if len(commits) == 2:
            raise ValueError("no such thing")
        commit(*arguments)

    monkeypatch.setattr(pipeline.results, "commit", wrong_at_the_second)
    monkeypatch.setattr(pipeline.work, "backoff", lambda retries: 3600.0)  # not tried again in this turn
    assert infer(pipeline, OneByOne(), FakeReader()) == 4
    assert [item.state for item in infer_items(pipeline)].count(WorkState.DONE) == 3
    (owed,) = [item for item in infer_items(pipeline) if item.state == WorkState.OWED]
    assert owed.last_error is not None
    assert owed.last_error.startswith("the batch failed (ValueError")


def test_asked_to_stop_it_finishes_what_it_holds_and_takes_no_more(pipeline: Pipeline) -> None:
    owe(pipeline, 12)
    told: list[bool] = []
    pipeline.stopping = lambda: bool(told)
    infer(pipeline, OneByOne(lambda number: told.append(True)), FakeReader())
    done = [item.state for item in infer_items(pipeline)].count(WorkState.DONE)
    assert 1 <= done <= IN_HAND
    assert states(pipeline) == {WorkState.DONE, WorkState.OWED}


def test_an_interrupt_in_the_callers_thread_ends_the_others(pipeline: Pipeline) -> None:
    owe(pipeline, 12)

    def interrupt(number: int) -> None:
        if number == 2:
            raise KeyboardInterrupt

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        infer(pipeline, OneByOne(interrupt), FakeReader())
    assert threading.active_count() == before
    with pipeline.database.read() as session:
        classified = session.exec(select(Instance).where(Instance.status == "classified")).all()
    assert len(classified) == 1


def test_what_is_put_off_may_come_again_before_the_rest_of_its_batch_has_been(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Putting off a batch takes a while: the first of it may be due, and claimed, before the last is dealt with."""
    monkeypatch.setattr(pipeline.work, "backoff", lambda retries: 0.0)
    owe(pipeline, 4)
    put_off, again = threading.Event(), threading.Event()
    commit, failed = pipeline.results.commit, pipeline.giving_up.failed
    commits: list[int] = []

    def wrong_at_first(*arguments: Any) -> None:
        commits.append(1)
        if len(commits) == 1:
            raise ValueError("no such thing")
        commit(*arguments)

    def slowly(*arguments: Any, **more: Any) -> None:
        failed(*arguments, **more)
        put_off.set()
        assert again.wait(SOON)

    def reading(number: int) -> None:
        if number == 3:
            assert put_off.wait(SOON)
        if number == 5:
            again.set()

    class Pairs(FakeClassifier):
        max_batch = 2

    monkeypatch.setattr(pipeline.results, "commit", wrong_at_first)
    monkeypatch.setattr(pipeline.giving_up, "failed", slowly)
    infer(pipeline, Pairs(), CountingReader(reading))
    assert [(item.state, item.attempts) for item in infer_items(pipeline)] == [
        (WorkState.DONE, 2), (WorkState.DONE, 2), (WorkState.DONE, 1), (WorkState.DONE, 1)
    ]  # fmt: skip


def test_a_stage_that_cannot_be_started_ends_the_others(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    owe(pipeline, 5)
    start, before = threading.Thread.start, threading.active_count()

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "commit_behind":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError, match="new thread"):
        infer(pipeline, OneByOne(), FakeReader())
    assert threading.active_count() == before


def test_an_object_that_cannot_be_read_just_now_costs_its_neighbours_nothing(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline.work, "backoff", lambda retries: 3600.0)

    def short_of_memory() -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    owe(pipeline, 3)
    infer(pipeline, FakeClassifier(), CountingReader(at(2, short_of_memory)))
    found = [(item.state, item.last_error) for item in infer_items(pipeline)]
    assert found == [
        (WorkState.DONE, None),
        (WorkState.OWED, "it could not be read just now ([Errno 12] Cannot allocate memory)"),
        (WorkState.DONE, None),
    ]
