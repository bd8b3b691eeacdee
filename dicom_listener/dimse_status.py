"""The DIMSE statuses that the listener answers with, and what to tell the peer and the person at the log.

Meanings: PS3.4 B.2.3 (C-STORE) and PS3.7 Annex C (common to all services).
"""

import errno
from dataclasses import dataclass

SUCCESS = 0x0000
PROCESSING_FAILURE = 0x0110
INVALID_SOP_INSTANCE = 0x0117
SOP_CLASS_NOT_SUPPORTED = 0x0122
UNRECOGNIZED_OPERATION = 0x0211
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
    "only C-STORE and C-ECHO are served",
    "correct the sender's configuration: this is no query, print or worklist server",
)


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
