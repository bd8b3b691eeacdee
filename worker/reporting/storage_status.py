"""What a Storage SCP's answer means for us (PS3.4 B.2.3, PS3.7 Annex C), and what to do about a refusal."""

from enum import StrEnum

from pynetdicom.status import STORAGE_SERVICE_CLASS_STATUS

SUCCESS = 0x0000
DUPLICATE_SOP_INSTANCE = 0x0111
OUT_OF_RESOURCES = range(0xA700, 0xA800)
WARNINGS = range(0xB000, 0xC000)
GENERAL_WARNINGS = frozenset({0x0001, 0x0107, 0x0116})


class Answer(StrEnum):
    """What a status comes to."""

    STORED = "stored"
    STORED_WITH_WARNING = "stored with a warning"
    LATER = "later"
    REFUSED = "refused"


def answer(status: int) -> Answer:
    """Return what a C-STORE status comes to.

    A duplicate SOP instance (0111H) counts as stored: our UIDs are derived, so the peer has this very object from a
    transfer whose answer was lost.
    """
    if status == SUCCESS:
        return Answer.STORED
    if status in WARNINGS or status in GENERAL_WARNINGS or status == DUPLICATE_SOP_INSTANCE:
        return Answer.STORED_WITH_WARNING
    return Answer.LATER if status in OUT_OF_RESOURCES else Answer.REFUSED


def meaning(status: int) -> str:
    """Return a status as hexadecimal and in words."""
    if status == DUPLICATE_SOP_INSTANCE:
        return "0x0111 (Duplicate SOP Instance)"
    known = STORAGE_SERVICE_CLASS_STATUS.get(status)
    words = (known[1] or known[0]) if known else "not a status of the Storage service"
    return f"0x{status:04X} ({words})"


def advice(status: int) -> str:
    """Return what to do about a refusal."""
    if status == 0x0122:
        return "let the peer store this SOP Class, or set FIRSTREAD_REPORT_IOD to one that it stores"
    if status == 0x0124:
        return "let our AE title store at the peer"
    if 0xA900 <= status < 0xAA00:
        return "the peer finds the object at odds with its SOP Class: its log says what; send us the object and the log"
    if 0xC000 <= status < 0xD000:
        return "the peer cannot understand the object: its log says what; send us the object and the log"
    return "the log of the peer says why; when it is mended there, resend the study"
