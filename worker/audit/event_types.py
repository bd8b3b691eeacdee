"""Which DICOM audit event an action of ours is (PS3.15 A.5.3): a table, the first pattern that fits wins.

A new action needs a row here only where DICOM has a better word for it; without one it goes out under its own name in
our own coding scheme, which CID 400 allows.
"""

from dataclasses import dataclass
from fnmatch import fnmatchcase
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
EXPORT = Code("110106", "Export")
IMPORT = Code("110107", "Import")
QUERY = Code("110112", "Query")
ALERT = Code("110113", "Security Alert")
AUTHENTICATION = Code("110114", "User Authentication")

START = Code("110120", "Application Start")
STOP = Code("110121", "Application Stop")
LOGIN = Code("110122", "Login")
LOGOUT = Code("110123", "Logout")
NODE = Code("110126", "Node Authentication")
CONFIGURATION = Code("110129", "Security Configuration")
RESTRICTED = Code("110132", "Use of Restricted Function")
ATTRIBUTES = Code("110137", "User Security Attributes Changed")

EVENT_TYPES: tuple[tuple[str, EventType], ...] = (
    ("instance.registered", EventType(TRANSFERRED, "C", receives=True)),
    ("instance.restored", EventType(TRANSFERRED, "U", receives=True)),
    ("report.delivered", EventType(TRANSFERRED, "R", sends=True)),
    ("delivery.failed", EventType(TRANSFERRED, "R", outcome="8", sends=True)),
    ("prediction.*", EventType(ACCESSED, "R")),
    ("inference.failed", EventType(ACCESSED, "R", outcome="4")),
    ("report.failed", EventType(ACCESSED, "C", outcome="8")),
    ("report.*", EventType(ACCESSED, "C")),
    ("study.reprocessed", EventType(ACCESSED, "U")),
    ("commitment.*", EventType(ACCESSED, "R")),
    ("login.failed*", EventType(AUTHENTICATION, "E", LOGIN, outcome="4")),
    ("login.refused*", EventType(AUTHENTICATION, "E", LOGIN, outcome="4")),
    ("login.locked*", EventType(ALERT, "E", RESTRICTED, outcome="4")),
    ("login.*", EventType(AUTHENTICATION, "E", LOGIN)),
    ("logout*", EventType(AUTHENTICATION, "E", LOGOUT)),
    ("view.refused*", EventType(ALERT, "E", RESTRICTED, outcome="4")),
    ("view.list*", EventType(QUERY, "E")),
    ("view.search*", EventType(QUERY, "E")),
    ("view.worklist*", EventType(QUERY, "E")),
    ("view.studies*", EventType(QUERY, "E")),
    ("view.*", EventType(ACCESSED, "R")),
    ("user.*", EventType(ALERT, "E", ATTRIBUTES)),
    ("token.*", EventType(ALERT, "E", ATTRIBUTES)),
    ("association.refused", EventType(ALERT, "E", NODE, outcome="4")),
    ("audit.restored", EventType(ALERT, "E", CONFIGURATION, outcome="4")),
    ("audit.anchors_begun", EventType(ALERT, "E", CONFIGURATION)),
    ("audit.*", EventType(LOG_USED, "R")),
    ("backup.*", EventType(EXPORT, "R")),
    ("restore.*", EventType(IMPORT, "C")),
    ("retention.*", EventType(DELETED, "D")),
    ("*.started", EventType(ACTIVITY, "E", START)),
    ("*.stopped", EventType(ACTIVITY, "E", STOP)),
)


def event_type(action: str) -> EventType:
    """Return how an action is told; one that is not in the table goes by its own name."""
    for pattern, known in EVENT_TYPES:
        if fnmatchcase(action, pattern):
            return known
    return EventType(Code(action, action, OWN_SCHEME), "E", outcome="4" if action.endswith("failed") else "0")
