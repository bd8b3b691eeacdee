"""Wake-ups: hints through Celery that work is due. One that is lost or doubled changes nothing."""

import time
from collections.abc import Iterable
from typing import Any

from kombu.exceptions import OperationalError

from worker.database import WorkKind
from worker.logs import get_logger

log = get_logger(__name__)

DELIVERY = "delivery"
INFERENCE = "inference"
SECONDS_BETWEEN_TRIES = 2.0

ENOUGH = 2
"""So many hints waiting in a queue are enough: each makes a worker take all that is due."""


def queue_of(kind: str, lane: str) -> str:
    """Return the queue that serves a kind of work: one for each model, one for reports and their delivery."""
    return f"{INFERENCE}.{lane}" if kind == WorkKind.INFER else DELIVERY


class Wakeups:
    """Publishes hints; a broker that is away is said once and waited for quietly.

    Parameters
    ----------
    app
        The Celery application; None where no broker is configured.
    """

    def __init__(self, app: Any | None) -> None:
        self.app = app
        self._away_since: float | None = None
        self._try_again = 0.0

    def send(self, queues: Iterable[str]) -> bool:
        """Publish one hint to each queue that has not enough; say whether the broker took them.

        Never takes long: while the broker is away it is tried only now and then, and given up after a second.
        """
        wanted = sorted(set(queues))
        if not wanted:
            return True
        if self.app is None or time.monotonic() < self._try_again:
            return False
        # A connection of our own, short-tempered: the pooled ones wait for a broker as long as it takes.
        connection = self.app.connection(connect_timeout=1)
        try:
            with connection:
                connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0, timeout=2)
                for queue in wanted:
                    self._hint(connection, queue)
        except (OperationalError, OSError, *connection.connection_errors, *connection.channel_errors) as error:
            self._try_again = time.monotonic() + SECONDS_BETWEEN_TRIES
            if self._away_since is None:
                self._away_since = time.monotonic()
                log.warning("broker_away", error=str(error)[:200], todo="work is kept; hints go out when it is back")
            return False
        if self._away_since is not None:
            log.info("broker_back", seconds=round(time.monotonic() - self._away_since, 1))
            self._away_since = None
        return True

    def _hint(self, connection: Any, queue: str) -> None:
        declared = self.app.amqp.queues[queue].bind(connection.default_channel)  # type: ignore[union-attr]
        declared.declare()
        if declared.queue_declare().message_count >= ENOUGH:
            return
        task, _, model = queue.partition(".")
        self.app.send_task(  # type: ignore[union-attr]
            f"firstread.{task}", args=[model] if model else [], queue=queue, connection=connection, retry=False
        )
