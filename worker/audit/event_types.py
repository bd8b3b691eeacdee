"""Which DICOM audit event an action of ours is (PS3.15 A.5.3): a table, by the names that are written into the chain.

A new action needs a row here, or a name among those that DICOM has no word for: these go out under their own name in
our own coding scheme, which CID 400 allows. So does what an older release wrote under a name that is gone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Outcome = Literal["0", "4", "8", "12"]
"""EventOutcomeIndicator: success, minor, serious, major failure."""

OWN_SCHEME = "99FIRSTREAD"


@dataclass(frozen=True)
class Code:
    """A coded concept."""

    value: str
    meaning: str
    scheme: str = "DCM"


@dataclass(frozen=True)
class EventType:
    """How an action is told.

    Attributes
    ----------
    event
        EventID (CID 400).
    action
        EventActionCode: C create, R read, U update, D delete, E execute.
    kind
        EventTypeCode (CID 401), where there is one.
    sends, receives
        Whether we are the source or the destination of what is transferred; both participants are then named.
    """

    event: Code
    action: Literal["C", "R", "U", "D", "E"]
    kind: Code | None = None
    outcome: Outcome = "0"
    sends: bool = False
    receives: bool = False


ACTIVITY = Code("110100", "Application Activity")
LOG_USED = Code("110101", "Audit Log Used")
ACCESSED = Code("110103", "DICOM Instances Accessed")
TRANSFERRED = Code("110104", "DICOM Instances Transferred")
DELETED = Code("110105", "DICOM Study Deleted")
QUERY = Code("110112", "Query")
ALERT = Code("110113", "Security Alert")
AUTHENTICATION = Code("110114", "User Authentication")

START = Code("110120", "Application Start")
STOP = Code("110121", "Application Stop")
LOGIN = Code("110122", "Login")
LOGOUT = Code("110123", "Logout")
CONFIGURATION = Code("110129", "Security Configuration")
RESTRICTED = Code("110132", "Use of Restricted Function")
ATTRIBUTES = Code("110137", "User Security Attributes Changed")

RECEIVED = EventType(TRANSFERRED, "C", receives=True)
READ = EventType(ACCESSED, "R")
WRITTEN = EventType(ACCESSED, "C")
TRUST_CHANGED = EventType(ALERT, "E", ATTRIBUTES)
RESTORED_FROM_BACKUP = EventType(ALERT, "E", CONFIGURATION, outcome="4")
"""A database that was restored: legitimate, and an auditor wants to see it."""

EVENT_TYPES: Mapping[str, EventType] = {
    "instance.registered": RECEIVED,
    "instance.restored": EventType(TRANSFERRED, "U", receives=True),
    "bytes.removed": EventType(DELETED, "D"),
    "prediction.made": READ,
    "prediction.remade": READ,
    "inference.failed": EventType(ACCESSED, "R", outcome="4"),
    "report.stored": WRITTEN,
    "report.resent": WRITTEN,
    "report.failed": EventType(ACCESSED, "C", outcome="8"),
    "report.delivered": EventType(TRANSFERRED, "R", sends=True),
    "delivery.failed": EventType(TRANSFERRED, "R", outcome="8", sends=True),
    "report.committed": READ,
    "report.not_committed": EventType(ACCESSED, "R", outcome="8"),
    "commitment.requested": READ,
    "commitment.reported": READ,
    "commitment.failed": EventType(ACCESSED, "R", outcome="8"),
    "study.reprocessed": EventType(ACCESSED, "U"),
    "study.viewed": READ,
    "studies.listed": EventType(QUERY, "E"),
    "access.refused": EventType(ALERT, "E", RESTRICTED, outcome="4"),
    "login.succeeded": EventType(AUTHENTICATION, "E", LOGIN),
    "login.failed": EventType(AUTHENTICATION, "E", LOGIN, outcome="4"),
    "login.link_made": TRUST_CHANGED,
    "logout": EventType(AUTHENTICATION, "E", LOGOUT),
    "user.added": TRUST_CHANGED,
    "user.disabled": TRUST_CHANGED,
    "user.enabled": TRUST_CHANGED,
    "user.password_changed": TRUST_CHANGED,
    "token.added": TRUST_CHANGED,
    "token.revoked": TRUST_CHANGED,
    "audit.viewed": EventType(LOG_USED, "R"),
    "audit.anchors_begun": EventType(ALERT, "E", CONFIGURATION),
    "audit.restored": RESTORED_FROM_BACKUP,
    "backup.restored": RESTORED_FROM_BACKUP,
    "intake.started": EventType(ACTIVITY, "E", START),
    "intake.stopped": EventType(ACTIVITY, "E", STOP),
}
"""Action to event."""

UNDER_THEIR_OWN_NAME = frozenset({"work.retried", "failure.acknowledged"})
"""Actions for which CID 400 has no word."""

NOT_DONE = ("failed", "refused")


def event_type(action: str) -> EventType:
    """Return how an action is told; one that is not in the table goes by its own name."""
    if (known := EVENT_TYPES.get(action)) is not None:
        return known
    return EventType(Code(action, action, OWN_SCHEME), "E", outcome="4" if action.endswith(NOT_DONE) else "0")
