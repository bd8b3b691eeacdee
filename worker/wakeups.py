"""Wake-ups: hints through Celery that work is due, one a batch. One that is lost or doubled changes nothing."""

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from kombu.exceptions import OperationalError

from worker.database import WorkKind
from worker.logs import get_logger

log = get_logger(__name__)

DELIVERY = "delivery"
INFERENCE = "inference"
SECONDS_BETWEEN_TRIES = 2.0
ANSWER_SECONDS = 2.0
"""How long a broker over AMQP may take to answer."""

BATCH = 32
"""So many pieces of work are worth a hint: about what a worker claims at once."""

MOST = 64
"""No more hints than this wait in a queue: as many workers are woken at once, each takes what is due until none is."""


def queue_of(kind: str, lane: str) -> str:
    """Return the queue that serves a kind of work: one for each model, one for reports and their delivery."""
    return f"{INFERENCE}.{lane}" if kind == WorkKind.INFER else DELIVERY


def hints(due: Iterable[tuple[str, str, int]]) -> Counter[str]:
    """Return how many hints each queue wants for work that is due.

    One a batch that can be claimed; of what goes out one a destination, which has one worker's whole attention: were
    there more, one that does not answer would be tried by all of them.

    Parameters
    ----------
    due
        Kind, lane and how many pieces.
    """
    wanted: Counter[str] = Counter()
    for kind, lane, count in due:
        wanted[queue_of(kind, lane)] += -(-count // BATCH) if kind == WorkKind.INFER else min(count, 1)
    return wanted


class Wakeups:
    """Publishes hints; a broker that is away is said once and waited for quietly.

    Parameters
    ----------
    app
        The Celery application; None where no broker is configured.
    """

    def __init__(self, app: Any | None) -> None:
        self.app = app
        self._lock = threading.Lock()
        self._connection: Any = None
        self._away_since: float | None = None
        self._try_again = 0.0

    def send(self, queues: Mapping[str, int] | Iterable[str]) -> bool:
        """Publish hints to each queue until as many wait in it as are wanted; say whether the broker took them.

        Never takes long: while the broker is away it is tried only now and then, and given up after a second.

        Parameters
        ----------
        queues
            By name how many are wanted, at most `MOST` of which are published; or names alone, of which each wants one.
        """
        wanted = queues if isinstance(queues, Mapping) else dict.fromkeys(queues, 1)
        if not wanted:
            return True
        if self.app is None or time.monotonic() < self._try_again:
            return False
        with self._lock:
            return self._sent(wanted)

    def _sent(self, wanted: Mapping[str, int]) -> bool:
        if self._connection is not None:
            try:
                self._publish(wanted)
            except _troubles(self._connection):  # it may have gone since the last time, and another one can be had
                self._let_go()
            else:
                return True
        # A connection of our own, short-tempered: the pooled ones wait for a broker as long as it takes.
        # Redis has its limits from our settings; those of AMQP would end a consumer that waits.
        self._connection = self.app.connection(  # type: ignore[union-attr]
            connect_timeout=1, transport_options={"read_timeout": ANSWER_SECONDS, "write_timeout": ANSWER_SECONDS}
        )
        try:
            self._connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0, timeout=2)
            self._publish(wanted)
        except _troubles(self._connection) as error:
            self._let_go()
            self._try_again = time.monotonic() + SECONDS_BETWEEN_TRIES
            if self._away_since is None:
                self._away_since = time.monotonic()
                log.warning("broker_away", error=str(error)[:200], todo="work is kept; hints go out when it is back")
            return False
        if self._away_since is not None:
            log.info("broker_back", seconds=round(time.monotonic() - self._away_since, 1))
            self._away_since = None
        return True

    def close(self) -> None:
        """Close the connection; another hint opens one again."""
        with self._lock:
            if self._connection is not None:
                self._let_go()

    def _let_go(self) -> None:
        """Close the connection, which may be broken."""
        connection, self._connection = self._connection, None
        with contextlib.suppress(*_troubles(connection)):
            connection.release()

    def _publish(self, wanted: Mapping[str, int]) -> None:
        for queue, count in sorted(wanted.items()):
            self._hint(self._connection, queue, count)

    def _hint(self, connection: Any, queue: str, count: int) -> None:
        declared = self.app.amqp.queues[queue].bind(connection.default_channel)  # type: ignore[union-attr]
        declared.declare()
        waiting = declared.queue_declare().message_count
        task, _, model = queue.partition(".")
        for _ in range(waiting, min(count, MOST)):
            self.app.send_task(  # type: ignore[union-attr]
                f"firstread.{task}", args=[model] if model else [], queue=queue, connection=connection, retry=False
            )


def _troubles(connection: Any) -> tuple[type[BaseException], ...]:
    """Return what a broker that is away, or half there, makes its transport raise."""
    return (OperationalError, OSError, *connection.connection_errors, *connection.channel_errors)
