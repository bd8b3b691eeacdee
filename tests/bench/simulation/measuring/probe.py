"""What transactions do, seen from the engine: statements sent, and how long the head of the audit chain is held."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import event
from sqlmodel import Session

from worker.database import Database

TRIPS_A_TRANSACTION = 2
"""Besides its statements: BEGIN, COMMIT; a connection that was just used is not pinged."""


@dataclass
class Seen:
    """What was seen since the last look; the seconds are processor seconds of this process."""

    trips: int = 0
    transaction_seconds: float = 0.0
    """Of transactions that wrote audit events, from their first statement to the end of their commit."""
    chained_seconds: float = 0.0
    """Of these, with the head of the chain held."""


class Probe:
    """Listens to an engine and to the commits of sessions."""

    def __init__(self, database: Database) -> None:
        self._engine = database.engine
        self._seen = Seen()
        self._began = 0.0
        self._taken: float | None = None

    @contextmanager
    def listening(self) -> Iterator["Probe"]:
        """Listen while the block runs."""
        hooks: list[tuple[Any, str, Any]] = [
            (self._engine, "begin", self._begin),
            (self._engine, "before_cursor_execute", self._statement),
            (Session, "after_commit", self._committed),
        ]
        for target, name, hook in hooks:
            event.listen(target, name, hook)
        try:
            yield self
        finally:
            for target, name, hook in hooks:
                event.remove(target, name, hook)

    def take(self) -> Seen:
        """Return what was seen, and begin anew."""
        seen, self._seen = self._seen, Seen()
        return seen

    def _begin(self, _connection: Any) -> None:
        self._began, self._taken = time.process_time(), None
        self._seen.trips += TRIPS_A_TRANSACTION

    def _statement(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        self._seen.trips += 1
        if self._taken is None and "audit_head" in statement:
            self._taken = time.process_time()

    def _committed(self, _session: Any) -> None:
        if self._taken is None:
            return
        now = time.process_time()
        self._seen.transaction_seconds += now - self._began
        self._seen.chained_seconds += now - self._taken
        self._taken = None
