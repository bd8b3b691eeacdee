"""Arrivals: what waits in the spool is registered in batches, and no object can hold up another."""

import time
from collections import Counter, deque
from dataclasses import replace
from pathlib import Path

from worker import metrics
from worker.database import Database, InstanceStatus, is_away
from worker.errors import ChildLost
from worker.inference_commit import InferenceCommit
from worker.intake.headers import HeaderReader, StoredObject
from worker.intake.registration import Registered, Registration
from worker.intake.spool import Spool
from worker.logs import get_logger, where
from worker.study_state import refresh_all

log = get_logger(__name__)

BATCH_BYTES = 64 << 20
BATCH_OBJECTS = 64
"""So much is registered in one transaction at most."""

UNREADABLE_SECONDS = 30.0
"""An arrival that the disk will not give is tried again after so long."""

TRIES_BEFORE_LEFT = 20
"""After so many tries, ten minutes of them, storage commitment waits for an arrival no longer: a disk that is ill."""

Arrival = tuple[str, StoredObject]
"""Spool name and what was read of the object."""


class Arrivals:
    """The way from the spool into the database.

    Parameters
    ----------
    results
        Owes the report of a study with an object that cannot be classified.
    headers
        Reads what the spool holds.
    calling_aes
        AE titles that have a name in the metrics; any other is `other`.
    """

    def __init__(
        self,
        database: Database,
        spool: Spool,
        registration: Registration,
        results: InferenceCommit,
        headers: HeaderReader,
        calling_aes: frozenset[str],
    ) -> None:
        self.database = database
        self.spool = spool
        self.registration = registration
        self.results = results
        self.headers = headers
        self.calling_aes = calling_aes
        self._listed: deque[Path] = deque()
        self._later: dict[str, float] = {}
        self._tries: Counter[str] = Counter()
        self._strangers: set[Path] = set()
        self._no_child_until = 0.0

    def register(self) -> tuple[int, Counter[str]]:
        """Register a batch, oldest first; return how many objects, and how much each model was given to do."""
        batch = self._read()
        if not batch:
            return 0, Counter()
        try:
            return len(batch), self._commit(batch)
        except Exception as error:
            if is_away(error):
                self._listed.clear()
                raise
            log.warning("batch_not_registered", objects=len(batch), error=where(error), todo="each is tried alone")
        models: Counter[str] = Counter()
        for arrival in batch:
            models += self._alone(arrival)
        return len(batch), models

    def _alone(self, arrival: Arrival) -> Counter[str]:
        """Register one object; what cannot be registered as it is becomes a visible failure."""
        name, stored = arrival
        try:
            return self._commit([arrival])
        except Exception as error:
            if is_away(error):
                raise
            words = f"it cannot be registered ({type(error).__name__}); the bytes are kept as {name}"
            log.warning("not_registered", spool_name=name, error=where(error))
        try:
            return self._commit([(name, replace(stored, header={}, has_pixels=False, defect=words))])
        except Exception as error:
            if is_away(error):
                raise
            log.exception("arrival_left", spool_name=name, todo="it stays in the spool, pending; look at this error")
            self._leave(name)
            return Counter()

    def _commit(self, batch: list[Arrival]) -> Counter[str]:
        with self.database.read() as session:
            done = Registered(whole=self.registration.whole_twins(session, batch))
        with metrics.stage_seconds.labels(stage="register").time(), self.database.write() as session:
            self.registration.register(session, batch, done)
            to_report = {
                instance.study_id
                for instance in done.fresh
                if instance.reportable and instance.status == InstanceStatus.FAILED
            }
            studies = [study for _, study in sorted(done.studies.items())]
            refresh_all(session, studies)
            self.results.hold_reports(session, [study for study in studies if study.id not in done.begun])
            self.results.owe_reports(session, [study for study in studies if study.id in to_report])
            # Before the commit: should it fail, their twins are among the arrivals still, and are registered then;
            # after it, a kill would leave bytes of which no row tells.
            self.spool.remove(done.replaced)
        self.spool.file_away(done.file_away)
        for name in (*done.file_away, *done.discard):
            self._tries.pop(name, None)
        for name in done.discard:
            self.spool.discard(name)
            log.info("identical_resend", spool_name=name)
        self._announce(done)
        return done.models

    def _read(self) -> list[Arrival]:
        """Read the headers of a batch; a file that the disk will not give is left for later, its neighbours go on."""
        batch: list[Arrival] = []
        size, now = 0, time.monotonic()
        if now < self._no_child_until:
            return batch
        if not self._listed:
            self._listed.extend(self.spool.arrivals())
            self._warn_of_strangers()
        alone = len(self._listed) == 1  # then somebody waits for it, and nobody for us
        while self._listed and size <= BATCH_BYTES and len(batch) < BATCH_OBJECTS:
            path = self._listed.popleft()
            if self._later.get(path.stem, 0.0) > now:
                continue
            try:
                stored = self.headers.read(path, self.registration.keywords, side_by_side=alone)
            except FileNotFoundError:  # registered and moved since it was listed
                continue
            except ChildLost as error:  # not this object's fault: all wait
                self._listed.appendleft(path)
                self._no_child_until = now + UNREADABLE_SECONDS
                todo = f"scans are accepted and kept; tried again in {UNREADABLE_SECONDS:g} s. Is memory short?"
                log.error("headers_not_readable", error=str(error), todo=todo)
                break
            except OSError as error:
                self._leave(path.stem)
                log.warning("arrival_not_readable", spool_name=path.stem, error=str(error), todo="look at the disk")
                continue
            self._later.pop(path.stem, None)
            batch.append((path.stem, stored))
            size += stored.size_bytes
        return batch

    def left(self) -> frozenset[str]:
        """Return the arrivals that could not be registered so often that nothing waits for them any more."""
        return frozenset(name for name, tries in self._tries.items() if tries >= TRIES_BEFORE_LEFT)

    def _leave(self, name: str) -> None:
        """Leave an arrival for later; its neighbours go on."""
        self._later[name] = time.monotonic() + UNREADABLE_SECONDS
        self._tries[name] += 1

    def _warn_of_strangers(self) -> None:
        for path in set(self.spool.strangers()) - self._strangers:
            self._strangers.add(path)
            log.warning("stranger_in_the_spool", path=str(path), todo="send it with `firstread send`, then remove it")

    def _announce(self, done: Registered) -> None:
        for instance in done.fresh:
            calling = instance.calling_ae if instance.calling_ae in self.calling_aes else "other"
            metrics.instances_received.labels(
                calling_ae=calling, modality=instance.modality, status=instance.status
            ).inc()
            log.info(
                "registered",
                sop_instance_uid=instance.sop_instance_uid,
                calling_ae=instance.calling_ae,
                status=instance.status,
                reason=instance.reason,
            )
