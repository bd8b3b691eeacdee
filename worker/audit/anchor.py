"""The anchors: how far the chain reached and with which digest, written down outside the database.

`DATA_DIR/audit/anchors.jsonl` gets a line, fsynced, at each sweep that finds the chain longer, and at shutdown. A chain
that was cut off, rolled back or rewritten with digests that fit each other no longer fits its anchors. A crash between
a commit and its anchor is nothing: the chain may be longer than the anchors say, never shorter. The file stays below
`MOST_LINES` lines: of the older ones, every second is dropped when it is full.

After a restore from a backup the chain is shorter with good reason. Whoever restores says so (`restored`): the chain
gets an event and the file a line, and both are shown from then on. A copy of the file belongs into every backup, taken
before the copy of the database, so that it never promises more than that holds.
"""

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlmodel import select

from worker import metrics
from worker.audit.log import append, read_head
from worker.database import AuditEvent, AuditHead, Database
from worker.errors import AuditBroken
from worker.files import make_private, sync_directory
from worker.logs import get_logger

log = get_logger(__name__)

MOST_LINES = 4096
"""At most so many lines; about 150 bytes each."""

NEWEST_KEPT = 1024
"""So many of the newest lines are never dropped."""

BEGUN = "audit.anchors_begun"
RESTORED = "audit.restored"


@dataclass(frozen=True)
class Anchor:
    """How far the chain reached.

    Attributes
    ----------
    at
        When it was written, UTC, ISO 8601.
    id, count, sha256
        The last event, how many there were, and the digest of the last.
    restored
        Whether the database had just been restored to this event.
    """

    at: str
    id: int
    count: int
    sha256: str
    restored: bool = False

    @classmethod
    def parse(cls, line: bytes) -> "Anchor":
        """Read a line.

        Raises
        ------
        ValueError
            When it is none of ours.
        """
        value = json.loads(line)
        try:
            anchor = cls(value["at"], value["id"], value["count"], value["sha256"], value.get("restored", False))
        except (TypeError, KeyError, AttributeError):
            raise ValueError("no anchor") from None
        if [type(getattr(anchor, name)) for name in cls.__dataclass_fields__] != [str, int, int, str, bool]:
            raise ValueError("no anchor")
        return anchor

    def line(self) -> bytes:
        """Return the line that stands for it in the file."""
        value: dict[str, Any] = {"at": self.at, "id": self.id, "count": self.count, "sha256": self.sha256}
        if self.restored:
            value["restored"] = True
        return json.dumps(value).encode() + b"\n"


@dataclass
class Anchors:
    """What an anchor file says.

    Attributes
    ----------
    valid
        What the chain has to fit, in the order in which it was written.
    superseded
        For each restore, the restored anchor and the newest one before it, where that reached further.
    damaged
        Numbers of lines that cannot be read; the last one may be cut short by a crash and does not count.
    """

    valid: list[Anchor] = field(default_factory=list)
    superseded: list[tuple[Anchor, Anchor]] = field(default_factory=list)
    damaged: list[int] = field(default_factory=list)

    def add(self, anchor: Anchor) -> None:
        """Take the next line."""
        if anchor.restored:
            if self.valid and self.valid[-1].id > anchor.id:
                self.superseded.append((anchor, self.valid[-1]))
            self.valid = [one for one in self.valid if one.id <= anchor.id]
        self.valid.append(anchor)


class AnchorFile:
    """The file of the anchors; one process at a time writes it, anybody may read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> Anchors | None:
        """Return what it says; None where there is no such file.

        Raises
        ------
        AuditBroken
            When it is there and cannot be read.
        """
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise AuditBroken(f"{self.path}: the anchors cannot be read: {error.strerror}") from None
        anchors = Anchors()
        for number, line in enumerate(content.split(b"\n")[:-1], start=1):
            try:
                anchors.add(Anchor.parse(line))
            except ValueError:
                anchors.damaged.append(number)
        return anchors

    def append(self, head: AuditHead, *, restored: bool = False) -> Anchor:
        """Write how far the chain reaches, durably.

        Raises
        ------
        OSError
            When it cannot be written.
        """
        anchor = Anchor(_now(), head.last_id, head.count, head.last_sha256, restored=restored)
        fresh = not self.path.exists()
        make_private(self.path.parent)
        with self._locked() as descriptor:
            content = self.path.read_bytes()
            whole = content.rfind(b"\n") + 1  # a crash may have cut the last line short
            if whole != len(content):
                os.ftruncate(descriptor, whole)
            os.write(descriptor, anchor.line())
            os.fsync(descriptor)
            if content.count(b"\n") >= MOST_LINES:
                self._thin_out()
        if fresh:
            sync_directory(self.path.parent)
        return anchor

    @contextmanager
    def _locked(self) -> Iterator[int]:
        while True:
            descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                if self.path.exists() and os.fstat(descriptor).st_ino == self.path.stat().st_ino:
                    yield descriptor
                    return
            finally:
                os.close(descriptor)

    def _thin_out(self) -> None:
        lines = self.path.read_bytes().splitlines(keepends=True)
        older, newest = lines[:-NEWEST_KEPT], lines[-NEWEST_KEPT:]
        kept = [line for number, line in enumerate(older) if number % 2 == 0 or b'"restored"' in line]
        part = self.path.with_suffix(".part")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.writelines(kept + newest)
            file.flush()
            os.fsync(file.fileno())
        part.rename(self.path)
        sync_directory(self.path.parent)


class Anchoring:
    """Follows the chain of a database with anchors, from the process that sweeps."""

    def __init__(self, database: Database, file: AnchorFile, *, actor: str) -> None:
        self.database = database
        self.file = file
        self.actor = actor
        self._last: Anchor | None = None
        self._complained = ""

    def follow(self) -> None:
        """Write an anchor where the chain has grown since the last; what hinders it is logged, and stops nothing."""
        with self.database.read() as session:
            head = read_head(session)
        if head is None:
            self._complain("the row of the table audit_head is gone")
            return
        metrics.audit_events.set(head.count)
        try:
            self._follow(head)
        except (OSError, AuditBroken) as error:
            self._complain(str(error))
        else:
            self._complained = ""

    def _follow(self, head: AuditHead) -> None:
        if self._last is None or not self.file.path.exists():
            anchors = self.file.read()
            if anchors is None:
                head = self._begun()
            self._last = anchors.valid[-1] if anchors and anchors.valid else None
        last = self._last
        other = last is not None and head.count == last.count and head.last_sha256 != last.sha256
        if last is not None and (other or head.count < last.count):
            self._last = None  # the file is read again: a restore may be told of in it meanwhile
            raise AuditBroken(
                f"the chain reaches event {head.last_id}; at {last.at} it reached event {last.id}, another"
                " (a restored database? `firstread audit restored` says so)"
            )
        if last is None or head.count > last.count:
            self._last = self.file.append(head)

    def _begun(self) -> AuditHead:
        """Tell the chain that a file of anchors is begun: so one that is begun again does not go unseen."""
        with self.database.write() as session:
            append(session, BEGUN, str(self.file.path), {"host": socket.gethostname()}, actor=self.actor)
            head = read_head(session)
        if head is None:
            raise AuditBroken("the row of the table audit_head is gone")
        return head

    def _complain(self, why: str) -> None:
        if why != self._complained:
            log.error("audit_not_anchored", file=str(self.file.path), error=why, todo="`firstread audit verify`")
        self._complained = why


def restored(database: Database, file: AnchorFile, reason: str, *, actor: str) -> Anchor:
    """Say that the database was restored from a backup: in the chain, and in the file of its anchors.

    Parameters
    ----------
    reason
        Why, and from which backup; no patient data.

    Returns
    -------
    Anchor
        Where the chain stood when it was restored.

    Raises
    ------
    AuditBroken
        When the restored database does not say how far its chain reaches.
    OSError
        When the anchor cannot be written; then the chain says nothing either.
    """
    before = file.read()
    reached = before.valid[-1] if before and before.valid else None
    with database.write() as session:
        head = read_head(session)
        if head is None:
            raise AuditBroken("the row of the table audit_head is gone from the restored database")
        anchor = file.append(head, restored=True)
        detail = {
            "reason": reason,
            "restored_to": head.last_id,
            "anchored_before": None if reached is None else {"id": reached.id, "sha256": reached.sha256},
        }
        append(session, RESTORED, str(file.path), detail, actor=actor)
    return anchor


def newest_anchor_fits(database: Database, file: AnchorFile) -> str:
    """Look whether the event that the newest anchor names is there and the same; return what was found, in words.

    Raises
    ------
    AuditBroken
        When it is not, or no anchor can be read.
    """
    anchors = file.read()
    newest = anchors.valid[-1] if anchors and anchors.valid else None
    with database.read() as session:
        head = read_head(session)
        begun = session.exec(select(AuditEvent.id).where(AuditEvent.subject == str(file.path)).limit(1)).first()
        event = session.get(AuditEvent, newest.id) if newest else None
    if head is None:
        raise AuditBroken("the row of the table audit_head is gone")
    if newest is None:
        if begun is not None:
            raise AuditBroken(f"{file.path} is gone, or holds no anchor, and the chain tells of it")
        return f"{head.count} events, no anchor yet: intake makes the first"
    if newest.id and (event is None or event.sha256 != newest.sha256):
        raise AuditBroken(f"event {newest.id}, anchored at {newest.at}, is not in the chain as it was")
    return f"{head.count} events, anchored up to event {newest.id} at {newest.at}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
