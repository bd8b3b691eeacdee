"""What is written down of who looked at what.

An open page asks for itself every two seconds, and somebody who types a search asks with each pause. An event for each
would bury what an auditor looks for under millions of rows that say the same, and each would stand in the chain's one
queue. So one event says that a look began: the same login at the same study, or at the list with the same filter.
While it lasts it is said again every quarter of an hour, so that the trail shows for how long. The event is on disk
before the answer leaves; whether to write one is decided by what was asked for, never by what the browser says of it.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from worker.accounts.users import Record
from worker.database import Database

LOOK_SECONDS = 15 * 60.0
MOST_LOOKS = 20_000
"""Looks remembered; beyond them the oldest is forgotten and would be written down again."""


class Looks:
    """Writes down each look once while it lasts.

    Parameters
    ----------
    clock
        Seconds that only grow.
    """

    def __init__(self, database: Database, record: Record, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._record = record
        self._clock = clock
        self._known: OrderedDict[tuple[str, str, str], float] = OrderedDict()
        self._lock = threading.Lock()

    def write(self, key: str, action: str, subject: str, detail: Mapping[str, Any], *, actor: str) -> None:
        """Write an event down, unless it was a moment ago; it is durable when this returns.

        Parameters
        ----------
        key
            Whose look it is; `action` and `subject` say the rest of what is compared.
        """
        look, now = (key, action, subject), self._clock()
        with self._lock:
            began = self._known.get(look)
        if began is not None and now - began < LOOK_SECONDS:
            return
        with self._database.write() as session:
            self._record(session, action, subject, detail, actor=actor)
        with self._lock:  # only now: what could not be written is tried again
            self._known[look] = now
            self._known.move_to_end(look)
            while len(self._known) > MOST_LOOKS:
                self._known.popitem(last=False)
