"""The DIMSE statuses that the listener answers with, and what to tell the peer and the person at the log.

Meanings: PS3.4 B.2.3 (C-STORE), PS3.4 J.3.2 and J.3.3 (storage commitment) and PS3.7 Annex C (common to all services).
"""

import errno
from dataclasses import dataclass, replace

SUCCESS = 0x0000
PROCESSING_FAILURE = 0x0110
NO_SUCH_SOP_INSTANCE = 0x0112
NO_SUCH_EVENT_TYPE = 0x0113
INVALID_ARGUMENT_VALUE = 0x0115
INVALID_SOP_INSTANCE = 0x0117
NO_SUCH_SOP_CLASS = 0x0118
SOP_CLASS_NOT_SUPPORTED = 0x0122
NO_SUCH_ACTION = 0x0123
UNRECOGNIZED_OPERATION = 0x0211
RESOURCE_LIMITATION = 0x0213
OUT_OF_RESOURCES = 0xA700
CANNOT_UNDERSTAND = 0xC000

_MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered to a request.

    Attributes
    ----------
    status
        (0000,0900) Status.
    comment
        (0000,0902) Error Comment, at most 64 characters, for the people at the peer; empty on success.
    fix
        What the people on our side can do about it, for the log.
    """

    status: int
    comment: str = ""
    fix: str = ""


ACCEPTED = Answer(SUCCESS)
UNEXPECTED = Answer(PROCESSING_FAILURE, "processing failure", "report this: the log has the traceback just before")
NO_DATA_SET = Answer(CANNOT_UNDERSTAND, "C-STORE request without a data set", "the sender is at fault: tell its vendor")
BAD_INSTANCE_UID = Answer(
    INVALID_SOP_INSTANCE,
    "Affected SOP Instance UID is not 1-64 digits and dots",
    "the sender is at fault: tell its vendor",
)
NO_STORAGE_CLASS = Answer(
    SOP_CLASS_NOT_SUPPORTED,
    "not a Storage SOP Class",
    "only Storage and Verification are served: correct the sender's configuration",
)
NOT_SERVED = Answer(
    UNRECOGNIZED_OPERATION,
    "only C-STORE, C-ECHO and storage commitment are served",
    "correct the sender's configuration: this is no query, print or worklist server",
)
_VENDOR = "the peer is at fault: tell its vendor"
NOT_COMMITMENT = Answer(NO_SUCH_SOP_CLASS, "only Storage Commitment Push Model has actions and events", _VENDOR)
NOT_THE_INSTANCE = Answer(NO_SUCH_SOP_INSTANCE, "not the well-known SOP Instance of storage commitment", _VENDOR)
NO_ACTION = Answer(NO_SUCH_ACTION, "the only action is 1, Request Storage Commitment", _VENDOR)
NO_EVENT = Answer(NO_SUCH_EVENT_TYPE, "the only events are 1 and 2, a storage commitment result", _VENDOR)
NO_INFORMATION = Answer(INVALID_ARGUMENT_VALUE, "the request has no data set", _VENDOR)
MESSAGE_TOO_LARGE = Answer(
    RESOURCE_LIMITATION,
    "too large: ask for fewer instances at a time",
    "let the peer ask for fewer instances at a time",
)


def not_understood(why: str) -> Answer:
    """Return the refusal of a storage commitment message that is none."""
    return Answer(INVALID_ARGUMENT_VALUE, why, _VENDOR)


def not_kept(answer: Answer) -> Answer:
    """Return the refusal of a storage commitment message that cannot be kept: A7xx is C-STORE's alone."""
    return replace(answer, status=RESOURCE_LIMITATION)


def no_room(free_bytes: int, min_free_bytes: int) -> Answer:
    """Return the refusal of an object that would take the spool below its free-space floor."""
    return Answer(
        OUT_OF_RESOURCES,
        "storage is full",
        f"{free_bytes // _MEBIBYTE} MiB are free and FIRSTREAD_MIN_FREE_BYTES keeps {min_free_bytes // _MEBIBYTE} MiB: "
        "make room on the file system of FIRSTREAD_DATA_DIR, or lower the floor",
    )


def too_large(max_object_bytes: int) -> Answer:
    """Return the refusal of an object above the size cap."""
    return Answer(
        OUT_OF_RESOURCES,
        "object is larger than this system accepts",
        f"raise FIRSTREAD_MAX_OBJECT_BYTES (now {max_object_bytes}) if such objects are wanted",
    )


def not_writable(error: OSError) -> Answer:
    """Return the refusal of an object that the spool could not keep."""
    reason = {
        errno.ENOSPC: "make room on the file system of FIRSTREAD_DATA_DIR",
        errno.EROFS: "the file system of FIRSTREAD_DATA_DIR is read-only: see the kernel log, repair and remount it",
    }.get(error.errno or 0, "check the disk, the mount and the permissions of FIRSTREAD_DATA_DIR")
    return Answer(OUT_OF_RESOURCES, "storage is not writable", f"{error.strerror or error}: {reason}")
