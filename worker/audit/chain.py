"""Is the chain whole? Event by event, in order, against the digests, the head and the anchors; nothing is kept."""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa
from sqlmodel import Session, col

from worker.audit.anchor import BEGUN, RESTORED, Anchor, Anchors
from worker.audit.finding import Finding
from worker.audit.log import GENESIS, digest_of
from worker.database import AuditEvent, AuditHead

PAGE = 5000
"""Rows read at a time."""

EVENTS, HEAD = "audit_event", "audit_head"

Report = Callable[[Finding], None]


class Row(NamedTuple):
    """An event as the database gives it; SQLite gives moments as text."""

    id: int
    at: datetime | str
    actor: str
    action: str
    subject: str
    detail: str
    previous_sha256: str
    sha256: str


def read_chain(
    session: Session, where: Iterable[sa.ColumnElement[bool]] = (), limit: int | None = None
) -> Iterator[Row]:
    """Yield the events in order, a page in memory at a time."""
    columns = [col(getattr(AuditEvent, name)) for name in Row._fields]
    if session.get_bind().dialect.name == "sqlite":
        columns[1] = sa.type_coerce(columns[1], sa.Text)  # type: ignore[call-overload]
    query = (
        sa.select(*columns).where(*where).order_by(col(AuditEvent.id)).limit(limit).execution_options(yield_per=PAGE)
    )
    for page in session.execute(query).partitions():
        yield from map(Row._make, page)


class ChainCheck:
    """Takes the events one by one and reports what does not fit.

    Parameters
    ----------
    head
        How far the chain reaches, as the database says at the moment it is read.
    anchors
        What was written down outside; None where there is no such file.
    """

    def __init__(self, head: AuditHead | None, anchors: Anchors | None, report: Report) -> None:
        self.head = head
        self.report = report
        self.count = 0
        self.last: Row | None = None
        self.begun = 0
        self.restored_to: set[int] = set()
        self._anchored: dict[int, list[Anchor]] = {}
        for anchor in anchors.valid if anchors else ():
            if anchor.id:  # an empty chain has nothing to be compared with
                self._anchored.setdefault(anchor.id, []).append(anchor)
        self._fits: Anchor | None = None
        self._misfits: list[Anchor] = []
        self._behind: list[int] = []

    @property
    def anchored(self) -> Anchor | None:
        """The newest anchor that the chain fits."""
        return self._fits

    def take(self, row: Row) -> None:
        """Check the next event."""
        self._content(row)
        self._place(row)
        self.count += 1
        self._outside(row)
        if row.action == BEGUN:
            self.begun += 1
        elif row.action == RESTORED:
            self.restored_to.add(row.id - 1)
        self.last = row

    def _content(self, row: Row) -> None:
        try:
            found = digest_of(*row[1:7])
        except TypeError:  # SQLite keeps anything in any column
            self.report(Finding(EVENTS, row.id, "a field holds what is no text: it was changed"))
            return
        if found != row.sha256:
            what = "its content is not that of its SHA-256: it was changed after it was written"
            self.report(Finding(EVENTS, row.id, what))

    def _place(self, row: Row) -> None:
        last = self.last
        first = (last.id if last else 0) + 1
        missing = _range(first, row.id - 1)
        if row.previous_sha256 == (last.sha256 if last else GENESIS):
            if missing and self.head is not None and first > self.head.gapless_after:
                what = f"missing before event {row.id}, which was given the digest of the one before them"
                self.report(Finding(EVENTS, missing, what))
        elif missing:
            self.report(Finding(EVENTS, missing, f"missing before event {row.id}: deleted"))
        elif last is None:
            self.report(Finding(EVENTS, row.id, "it is not the first of its chain: what stood before it was removed"))
        else:
            what = (
                f"it is not the event that event {row.id} was chained to: it was rewritten and given a new SHA-256, or"
                " slipped in, or has the number of one that was deleted"
            )
            self.report(Finding(EVENTS, last.id, what))

    def _outside(self, row: Row) -> None:
        head = self.head
        if head is not None and row.id == head.last_id and row.sha256 != head.last_sha256:
            self.report(Finding(EVENTS, row.id, "the head carries another SHA-256 for it: it was rewritten"))
        elif head is not None and row.id > head.last_id:
            self._behind = [*self._behind[:1], row.id]
        for anchor in self._anchored.pop(row.id, ()):
            if (row.sha256, self.count) == (anchor.sha256, anchor.count):
                self._fits = anchor
            else:
                self._misfits.append(anchor)

    def end(self) -> None:
        """Report what only shows at the end."""
        last_id = self.last.id if self.last else 0
        if self.head is None:
            self.report(Finding(HEAD, 1, "missing: nothing in the database says how far the chain reaches"))
        else:
            self._end_of_head(self.head, last_id)
        self._end_of_anchors(last_id)

    def _end_of_head(self, head: AuditHead, last_id: int) -> None:
        if self._behind:
            what = (
                f"it stands behind the end of the chain (event {head.last_id}): slipped in past the audit log, by hand"
                " or by a service of an older release that still ran during an upgrade"
            )
            self.report(Finding(EVENTS, _range(self._behind[0], self._behind[-1]), what))
        elif last_id < head.last_id:
            self.report(Finding(EVENTS, _range(last_id + 1, head.last_id), "missing at the end: deleted"))
        elif self.count != head.count:
            self.report(Finding(HEAD, 1, f"it counts {head.count} events, there are {self.count}"))

    def _end_of_anchors(self, last_id: int) -> None:
        fits = f"event {self._fits.id}" if self._fits else "the beginning"
        if self._misfits:
            first = self._misfits[0]
            what = (
                f"it is not the event that was anchored at {first.at}: the chain was rewritten after {fits}"
                f" ({len(self._misfits)} anchors do not fit)"
            )
            self.report(Finding(EVENTS, first.id, what))
        gone = [anchor for anchors in self._anchored.values() for anchor in anchors]
        for anchor in [one for one in gone if one.id <= last_id][:1]:
            self.report(Finding(EVENTS, anchor.id, f"anchored at {anchor.at} and not there"))
        beyond = [anchor for anchor in gone if anchor.id > last_id]
        if beyond:
            far = max(beyond, key=lambda anchor: anchor.id)
            what = (
                f"missing at the end: at {far.at} the chain reached event {far.id} with {far.count} events. They were"
                " cut off, or the database is an older one; if it was restored, `firstread audit restored` says so"
            )
            self.report(Finding(EVENTS, _range(last_id + 1, far.id), what))


def _range(first: int, last: int) -> int | str:
    """Name rows: one, several, or 0 for none."""
    if last < first:
        return 0
    return first if first == last else f"{first} to {last}"
