"""Verification: the chain, its head, its anchors, and the rows that it tells of, at one moment of the database."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from worker.audit.anchor import BEGUN, Anchor, AnchorFile, Anchors
from worker.audit.chain import ChainCheck, read_chain
from worker.audit.claims import Claims, Locate
from worker.audit.finding import Finding
from worker.audit.log import moment_text, read_head
from worker.database import Database

ANCHORS = "anchors"
"""What a finding about the file of the anchors is filed under; its row is the line."""

MOST_FINDINGS = 1000
"""So many are listed; beyond that they are counted."""

STEP = 5000
"""Events between two signs of progress."""


@dataclass
class Verification:
    """What came of it.

    Attributes
    ----------
    events
        How many there are.
    last
        Number, time and digest of the last.
    anchored
        The newest anchor that the chain fits.
    rows
        How many rows of which table were compared.
    notes
        What an auditor should know and is no fault: restores, anchors begun again.
    more
        Findings beyond those that are listed.
    """

    events: int = 0
    last: dict[str, Any] | None = None
    anchored: Anchor | None = None
    rows: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    more: int = 0
    seconds: float = 0.0

    def report(self, finding: Finding) -> None:
        """Take a finding."""
        if len(self.findings) < MOST_FINDINGS:
            self.findings.append(finding)
        else:
            self.more += 1

    def as_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        anchored = self.anchored
        return {
            "events": self.events,
            "last": self.last,
            "anchored": None if anchored is None else {"id": anchored.id, "at": anchored.at},
            "rows": self.rows,
            "findings": [finding.as_json() for finding in self.findings],
            "more_findings": self.more,
            "notes": self.notes,
            "seconds": round(self.seconds, 3),
        }


def verify(
    database: Database,
    anchor_file: AnchorFile,
    *,
    locate: Locate | None = None,
    watch: Callable[[int, int], None] = lambda _done, _total: None,
) -> Verification:
    """Verify everything.

    Parameters
    ----------
    anchor_file
        The anchors of this database.
    locate
        When given, stored bytes are read and compared too.
    watch
        Is told now and then how many events of how many were read.

    Raises
    ------
    AuditBroken
        When the anchors cannot be read.
    """
    began = time.monotonic()
    result = Verification()
    anchors = anchor_file.read()  # before the database: what is anchored meanwhile is not yet in what we see of it
    with database.snapshot() as session, Claims() as claims:
        head = read_head(session)
        check = ChainCheck(head, anchors, result.report)
        total = head.count if head else 0
        for row in read_chain(session):
            check.take(row)
            claims.take(row)
            if check.count % STEP == 0:
                watch(check.count, max(total, check.count))
        check.end()
        _anchor_file(result, check, anchor_file, anchors)
        watch(check.count, check.count)
        result.rows = claims.compare(session, result.report, locate)
    result.events, result.anchored = check.count, check.anchored
    if check.last is not None:
        at = moment_text(check.last.at)
        result.last = {"id": check.last.id, "at": at, "sha256": check.last.sha256}
    result.seconds = time.monotonic() - began
    return result


def _anchor_file(result: Verification, check: ChainCheck, file: AnchorFile, anchors: Anchors | None) -> None:
    if anchors is None:
        if check.begun:
            what = "there is no such file, and the chain tells of one: without it, the end of the chain is not proven"
            result.report(Finding(ANCHORS, str(file.path), what))
        else:
            result.notes.append(f"no anchors yet: the first sweep of intake begins {file.path}")
        return
    for number in anchors.damaged:
        result.report(Finding(ANCHORS, number, f"line {number} of {file.path} cannot be read: it was changed"))
    if check.begun > 1:
        result.notes.append(
            f"anchors were begun {check.begun} times (events {BEGUN}): what the earlier files held is not known here"
        )
    for restored, reached in anchors.superseded:
        result.notes.append(
            f"restored from a backup at {restored.at}, to event {restored.id}; it had reached event {reached.id} "
            f"(anchored at {reached.at}): what was done in between is not in this database"
        )
    for anchor in anchors.valid:
        if anchor.restored and anchor.id not in check.restored_to:
            what = f"the anchors tell of a restore at {anchor.at}, and the chain does not"
            result.report(Finding(ANCHORS, str(file.path), what))
