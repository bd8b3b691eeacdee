"""One turn of a model: a batch is decoded while the one before is classified and the one before that is committed.

    claim ─▶ decode ──▶ classify ──▶ commit
    (one thread)     (the caller's)  (one thread)

No more batches are in hand than there are stages: a slow stage holds up those before it, and memory stays bounded.
`firstread_stage_wait_seconds` shows which stage that is: the one that waits for nothing.

What a worker vanished with before is done with nothing else in hand: should it take this one with it, nobody else pays.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import TYPE_CHECKING

from worker import metrics
from worker.database import WorkKind, is_away
from worker.giving_up import GivingUp
from worker.inference.batch_size import BatchSize
from worker.inference.classify import Input, Outcome, Reader, Task, prepare, score
from worker.inference_commit import InferenceCommit
from worker.intake.work import Claim, Work
from worker.logs import get_logger, where
from worker.patience import Patience

if TYPE_CHECKING:
    from models.classifier import Classifier

log = get_logger(__name__)

IN_HAND = 3
"""Batches at once: one a stage."""


@dataclass
class _Batch:
    claims: Sequence[Claim]
    inputs: list[Input] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    decoding_seconds: float = 0.0


class InferenceTurn:
    """Everything that is due to a model, batch after batch; made for one run.

    Parameters
    ----------
    lane
        The model, `name@version`.
    results
        Commits what came of a batch.
    patience, giving_up
        Where a batch goes that could not be done.
    size
        How many are taken at once.
    tasks
        Says what is to be read for claims, in order.
    goes_on
        Says whether more may be claimed, given how many pieces of work have been.
    """

    def __init__(
        self,
        lane: str,
        classifier: "Classifier",
        reader: Reader,
        *,
        work: Work,
        results: InferenceCommit,
        patience: Patience,
        giving_up: GivingUp,
        size: BatchSize,
        tasks: Callable[[Sequence[Claim]], Sequence[Task]],
        goes_on: Callable[[int], bool],
    ) -> None:
        self._lane = lane
        self._classifier = classifier
        self._reader = reader
        self._work = work
        self._results = results
        self._patience = patience
        self._giving_up = giving_up
        self._size = size
        self._tasks = tasks
        self._goes_on = goes_on
        self._claimed = 0
        self._held: dict[tuple[int, int], Claim] = {}
        """By number and token: what was put off may be claimed again before the rest of its batch is let go."""
        self._batches: list[_Batch] = []
        self._moved = threading.Condition()
        self._decoded: SimpleQueue[_Batch | None] = SimpleQueue()
        self._classified: SimpleQueue[_Batch | None] = SimpleQueue()
        self._stopped = False
        self._error: Exception | None = None

    def run(self) -> int:
        """Go on until nothing is due or the turn ends; return how many pieces of work were claimed.

        The network is asked in the caller's thread: one thread at a time uses a classifier.

        Raises
        ------
        SQLAlchemyError
            The database is away; what was in hand is handed back as far as it can be.
        """
        stages = [
            threading.Thread(target=stage, name=stage.__name__.strip("_"))
            for stage in (self._decode_ahead, self._commit_behind)
        ]
        with self._work.kept(self._held.values()):
            try:
                for stage in stages:
                    stage.start()
                while (batch := _next(self._decoded, "classify")) is not None:
                    if self._done(self._classify, batch):
                        self._classified.put(batch)
            finally:
                self._stop()
                self._classified.put(None)
                for stage in stages:
                    if stage.ident is not None:  # else it could not be started
                        stage.join()
        if self._error is not None:
            raise self._error
        return self._claimed

    # ---- the stages

    def _decode_ahead(self) -> None:
        try:
            with ThreadPoolExecutor(self._reader.count, "decoder") as decoders:
                while (batch := self._claim()) is not None:
                    if self._done(lambda batch: self._decode(batch, decoders), batch):
                        self._decoded.put(batch)
        except Exception as error:  # noqa: BLE001 - raised again in the caller's thread
            self._stop(error)
        finally:
            self._decoded.put(None)

    def _claim(self) -> _Batch | None:
        """Claim the next batch when there is room for it; None where there is none, or none is to be taken."""
        in_hand = self._left(IN_HAND - 1)
        while not self._stopped and self._goes_on(self._claimed):
            asked = self._size.wanted
            claims = self._work.claim(WorkKind.INFER, lane=self._lane, limit=asked, alone=not in_hand)
            if claims:
                self._size.found(asked, len(claims))
                return self._take(claims)
            if not in_hand:
                break
            in_hand = self._left(0)  # what is due may be such that it is given only to whoever holds nothing
        return None

    def _decode(self, batch: _Batch, decoders: ThreadPoolExecutor) -> None:
        began = time.perf_counter()
        tasks = self._tasks(batch.claims)
        batch.inputs = list(decoders.map(lambda task: prepare(task, self._classifier, self._reader), tasks))
        batch.decoding_seconds = time.perf_counter() - began

    def _classify(self, batch: _Batch) -> None:
        began = time.perf_counter()
        batch.outcomes = score(batch.inputs, self._classifier)
        self._size.lasted(len(batch.claims), batch.decoding_seconds, time.perf_counter() - began)

    def _commit_behind(self) -> None:
        try:
            while (batch := _next(self._classified, "commit")) is not None:
                if self._done(self._commit, batch):
                    self._let_go(batch)
        except Exception as error:  # noqa: BLE001 - raised again in the caller's thread; the others must not wait for us
            self._stop(error)

    def _commit(self, batch: _Batch) -> None:
        with metrics.stage_seconds.labels(stage="commit").time():
            self._patience.write(lambda: self._results.commit(batch.claims, batch.outcomes, self._classifier))

    # ---- what is in hand

    def _left(self, most: int) -> int:
        """Wait until no more than `most` batches are in hand, none that must be alone, or the turn ends; say how many.

        A batch that must be alone is work that a worker vanished with.
        """
        with _waiting("decode", "room"), self._moved:
            self._moved.wait_for(lambda: self._stopped or (len(self._batches) <= most and not self._alone()))
            return len(self._batches)

    def _alone(self) -> bool:
        return any(claim.lost_leases for claim in self._held.values())

    def _take(self, claims: Sequence[Claim]) -> _Batch:
        batch = _Batch(claims)
        with self._moved:
            self._claimed += len(claims)
            self._held.update(((claim.id, claim.token), claim) for claim in claims)
            self._batches.append(batch)
        metrics.batches_in_hand.inc()
        return batch

    def _let_go(self, batch: _Batch) -> None:
        with self._moved:
            for claim in batch.claims:
                del self._held[claim.id, claim.token]
            self._batches.remove(batch)
            self._moved.notify_all()
        metrics.batches_in_hand.dec()

    # ---- what goes wrong

    def _done(self, stage: Callable[[_Batch], None], batch: _Batch) -> bool:
        """Put a batch through a stage; what fails costs the batch, and where the database is away, the turn."""
        try:
            stage(batch)
        except Exception as error:  # noqa: BLE001 - whatever it is, the work is put off or given up, and seen
            self._failed(batch, error)
            return False
        return True

    def _failed(self, batch: _Batch, error: Exception) -> None:
        try:
            if is_away(error):
                self._stop(error)
                self._patience.hand_back(batch.claims)
                return
            log.error("batch_failed", work=[claim.id for claim in batch.claims], error=where(error))
            for claim in batch.claims:
                self._giving_up.failed(claim, f"the batch failed ({where(error)})", final=False)
        except Exception as worse:  # noqa: BLE001 - raised again in the caller's thread
            self._stop(worse)
        finally:
            self._let_go(batch)

    def _stop(self, error: Exception | None = None) -> None:
        with self._moved:
            self._error = self._error or error
            self._stopped = True
            self._moved.notify_all()


def _next(batches: "SimpleQueue[_Batch | None]", stage: str) -> _Batch | None:
    with _waiting(stage, "input"):
        return batches.get()


@contextmanager
def _waiting(stage: str, what: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    metrics.stage_wait_seconds.labels(stage=stage, **{"for": what}).inc(time.perf_counter() - began)
