"""While the database is away: hold on to what was done, and hand back what was not, without a word against the worker.

A lease that a living worker lets end looks like a worker that died: it costs an attempt, and the work is tried alone
from then on. So whoever cannot go on waits until it can say so.
"""

import time
from collections.abc import Callable, Sequence

from sqlalchemy.exc import SQLAlchemyError

from worker.database import Database, is_away
from worker.errors import LeaseLost
from worker.intake.work import Claim, Work
from worker.logs import get_logger

log = get_logger(__name__)

PATIENCE_SECONDS = 300.0
"""How long a result is held while the database is away."""
_BETWEEN_TRIES_SECONDS = 1.0


class Patience:
    """Writes once the database is back.

    Parameters
    ----------
    stopping
        Says whether the process has been asked to end: then nothing is waited for.
    """

    def __init__(self, database: Database, work: Work, stopping: Callable[[], bool]) -> None:
        self._database = database
        self._work = work
        self._stopping = stopping

    def write(self, write: Callable[[], None]) -> None:
        """Write a result; while the database is away, hold on to it: only a lost lease makes it worthless."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                write()
            except SQLAlchemyError as error:
                if not is_away(error) or self._stopping() or time.monotonic() > deadline:
                    raise
                log.warning("result_waits", error=str(error).partition("\n")[0][:200])
                time.sleep(_BETWEEN_TRIES_SECONDS)
            else:
                return

    def hand_back(self, claims: Sequence[Claim]) -> None:
        """Owe again what could not be done because the database went away; it costs no attempt.

        What cannot be handed back is owed again when its lease ends, as if the worker had died.
        """
        try:
            self.write(lambda: self._put_off(claims))
        except SQLAlchemyError as error:
            first = str(error).partition("\n")[0][:200]
            log.warning("not_handed_back", work=[claim.id for claim in claims], error=first, todo="its lease will end")

    def _put_off(self, claims: Sequence[Claim]) -> None:
        with self._database.write() as session:
            for claim in claims:
                try:
                    self._work.put_off(session, claim, "the database went away", seconds=0.0, costs_attempt=False)
                except LeaseLost as error:  # or it had been finished, and only the word of it was lost
                    log.info("nothing_to_hand_back", work=claim.id, kind=claim.kind, why=str(error))
