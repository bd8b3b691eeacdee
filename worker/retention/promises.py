"""Instances that a peer waits for an answer about (storage commitment): their bytes stay until it has the answer."""

from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlmodel import col

from worker.commitment.message import Message
from worker.database import CommitmentRequest, WorkItem, WorkKind, of_open_work
from worker.intake.spool import Spool
from worker.logs import get_logger

log = get_logger(__name__)

HELD = timedelta(days=30)
"""So long a request that cannot be answered holds bytes: one whose sender has no address would hold them for ever."""


def promised(since: datetime, *, sqlite: bool) -> sa.Select[Any]:
    """Return the SOP Instance UIDs in registered requests that an answer is owed to, as SQL.

    Parameters
    ----------
    since
        Requests from before are left aside.
    sqlite
        Whether it is for SQLite: the two databases unfold JSON in words of their own.
    """
    owed = of_open_work(sa.select(col(WorkItem.subject_id)).where(col(WorkItem.kind) == WorkKind.COMMIT))
    unfold = sa.func.json_each if sqlite else sa.func.json_array_elements
    reference = unfold(col(CommitmentRequest.instances)).table_valued("value", joins_implicitly=True)
    uid = sa.func.json_extract(reference.c.value, "$[1]") if sqlite else reference.c.value.op("->>")(sa.text("1"))
    return (
        sa.select(uid)
        .select_from(CommitmentRequest, reference)
        .where(col(CommitmentRequest.id).in_(owed), col(CommitmentRequest.received_at) > since)
    )


class Waiting:
    """What messages are about that wait in the spool still; each is read once."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._read: dict[str, frozenset[str]] = {}

    def uids(self) -> frozenset[str]:
        """Return the SOP Instance UIDs in requests that are not registered yet."""
        paths = self._spool.commitments()
        read = {path.stem: self._read.get(path.stem) for path in paths}
        for path in paths:
            if read[path.stem] is None:
                try:
                    message = Message.from_json(path.read_bytes())
                except FileNotFoundError:  # registered since it was listed: its row counts
                    read[path.stem] = frozenset()
                except (OSError, ValueError):  # intake says so; nobody can answer it
                    log.debug("commitment_message_unreadable", path=str(path))
                    read[path.stem] = frozenset()
                else:
                    read[path.stem] = frozenset(one.sop_instance_uid for one in message.references)
        self._read = {name: uids for name, uids in read.items() if uids is not None}
        return frozenset().union(*self._read.values())
