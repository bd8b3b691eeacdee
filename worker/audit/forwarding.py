"""The chain on its way to a syslog receiver: in order, each event at least once, in a thread that nobody waits for.

How far the receiver has got stands in the database, so that one that is away loses nothing. Only one process sends: it
holds the cursor for a while, and a silent one loses it. Whoever opens a connection sends the last `AGAIN` events once
more, for what a receiver had taken and not yet kept when it died, nobody knows: it tells them apart by their numbers.
"""

import contextlib
import os
import socket
import threading
import traceback
from collections.abc import Sequence
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session, col, select

from worker import metrics
from worker.audit.chain import Row, read_chain
from worker.audit.dicom_message import dicom_message
from worker.audit.event_types import event_type
from worker.audit.log import moment_text, read_head
from worker.audit.syslog import Connection, Receiver, syslog_message
from worker.database import AuditCursor, AuditEvent, Database, Instance, Report, Study, is_away, utc_now
from worker.errors import PeerUnreachable
from worker.logs import get_logger

log = get_logger(__name__)

BATCH = 64
"""Events sent before the cursor moves."""

AGAIN = 256
"""So many are sent again on a new connection."""

HOLD = timedelta(seconds=60)
"""How long a process that has gone silent keeps the cursor."""

LOOK_SECONDS = 1.0
"""How often an idle forwarder looks for events."""

LONGEST_PAUSE_SECONDS = 30.0


class Forwarder:
    """Sends the chain to one receiver.

    Parameters
    ----------
    source
        AuditSourceID: our AE title.
    """

    def __init__(self, database: Database, receiver: Receiver, *, source: str) -> None:
        self.database = database
        self.receiver = receiver
        self.source = source
        self.host = socket.gethostname()
        self._me = f"{self.host} {os.getpid()}"
        self._connection: Connection | None = None
        self._position = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="audit-syslog", daemon=True)

    def start(self) -> None:
        """Send from now on, in a thread."""
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """End the thread, and give it so long; what is unsent is sent at the next start."""
        self._stop.set()
        self._thread.join(seconds)

    def _run(self) -> None:
        pause = LOOK_SECONDS
        while not self._stop.is_set():
            try:
                sent = self.step()
            except PeerUnreachable as error:
                if pause == LOOK_SECONDS:
                    log.warning("audit_syslog_away", error=str(error), todo="events are kept and sent when it is back")
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
                self._stop.wait(pause)
                continue
            except Exception as error:  # noqa: BLE001 - a thread that died would be noticed by nobody
                self._say_why(error)
                self.close()
                self._stop.wait(LONGEST_PAUSE_SECONDS)
                continue
            if pause > LOOK_SECONDS and sent:
                log.info("audit_syslog_back", receiver=str(self.receiver))
                pause = LOOK_SECONDS
            if not sent:
                self._stop.wait(LOOK_SECONDS)
        self.close()
        with contextlib.suppress(SQLAlchemyError):  # then the cursor is free when the time is up
            self._release()

    def _say_why(self, error: Exception) -> None:
        if isinstance(error, SQLAlchemyError) and is_away(error):
            log.warning("audit_syslog_waits", error=str(error).partition("\n")[0][:200])
        else:  # not its text, which may hold what could not be sent
            where = [f"{frame.name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)[-2:]]
            log.error("audit_syslog_failed", error=type(error).__name__, where=where, todo="it is tried again; tell us")

    def step(self) -> int:
        """Send the next events, if there are any and the cursor is ours; return how many.

        Raises
        ------
        PeerUnreachable
            When the receiver cannot be reached; nothing is lost.
        """
        with self.database.read() as session:
            head, cursor = read_head(session), session.get(AuditCursor, str(self.receiver))
            unsent = (head.last_id if head else 0) - (cursor.last_id if cursor else 0)
        metrics.audit_unsent.set(max(unsent, 0))
        if unsent <= 0 or not self._hold():
            return 0
        try:
            if self._connection is None:
                self._connect()
            messages, last = self._next()
            if self._connection is None or not messages:
                return 0
            self._connection.send(messages)
            self._connection.settle()
        except PeerUnreachable:
            self.close()
            raise
        self._position = last
        if not self._advance(last):
            self.close()
        return len(messages)

    def _hold(self) -> bool:
        """Take the cursor, or keep it; say whether it is ours."""
        now = utc_now()
        with self.database.write() as session:
            cursor = session.get(AuditCursor, str(self.receiver), with_for_update=True)
            if cursor is None:
                cursor = AuditCursor(receiver=str(self.receiver), last_id=0, held_by=self._me, held_until=now)
            elif cursor.held_by != self._me and cursor.held_until > now:
                return False
            cursor.held_by, cursor.held_until = self._me, now + HOLD
            session.add(cursor)
        return True

    def _connect(self) -> None:
        self._connection = Connection(self.receiver)
        with self.database.read() as session:
            cursor = session.get(AuditCursor, str(self.receiver))
            self._position = max(0, (cursor.last_id if cursor else 0) - AGAIN)

    def close(self) -> None:
        """Close the connection; the next step opens another."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _next(self) -> tuple[list[bytes], int]:
        with self.database.read() as session:
            rows = list(read_chain(session, [col(AuditEvent.id) > self._position], limit=BATCH))
            messages = [self._message(session, row) for row in rows]
        return messages, rows[-1].id if rows else self._position

    def _message(self, session: Session, row: Row) -> bytes:
        kind = event_type(row.action)
        study, sop_class = _about(session, row)
        text = dicom_message(row, kind, source=self.source, study=study, sop_class=sop_class)
        return syslog_message(text, outcome=kind.outcome, at=moment_text(row.at), host=self.host)

    def _advance(self, last: int) -> bool:
        cursor = sa.update(AuditCursor).where(
            col(AuditCursor.receiver) == str(self.receiver), col(AuditCursor.held_by) == self._me
        )
        with self.database.write() as session:
            moved = sa.case((col(AuditCursor.last_id) < last, last), else_=col(AuditCursor.last_id))
            done = session.execute(cursor.values(last_id=moved, held_until=utc_now() + HOLD))
        return bool(done.rowcount)  # type: ignore[attr-defined]

    def _release(self) -> None:
        with self.database.write() as session:
            mine = (col(AuditCursor.receiver) == str(self.receiver), col(AuditCursor.held_by) == self._me)
            session.execute(sa.update(AuditCursor).where(*mine).values(held_until=utc_now()))


def _about(session: Session, row: Row) -> Sequence[str | None]:
    """Return the Study Instance UID that an event is about, and the SOP Class UID where its subject is an instance."""
    for table in (Instance, Report):
        query = (
            select(Study.study_instance_uid, table.sop_class_uid)
            .join(table, col(table.study_id) == col(Study.id))
            .where(table.sop_instance_uid == row.subject)
            .limit(1)
        )
        if (found := session.exec(query).first()) is not None:
            return tuple(found)
    return session.exec(select(Study.study_instance_uid).where(Study.study_instance_uid == row.subject)).first(), None
