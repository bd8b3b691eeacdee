"""Stored bytes, read again: whether they are those that were registered."""

import hashlib

from worker.intake.spool import Spool
from worker.logs import get_logger

log = get_logger(__name__)


def is_whole(spool: Spool, name: str, sha256: str) -> bool:
    """Read an object of the spool again and compare it with what was recorded when it came.

    Parameters
    ----------
    name
        Its spool name.
    sha256
        SHA-256 of the file, as its row has it.
    """
    path = spool.path(name)
    try:
        if path is None:
            raise FileNotFoundError("its stored bytes are gone from the spool")
        with path.open("rb") as file:
            whole = hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except OSError as error:
        log.error("stored_bytes_lost", spool_name=name, error=str(error), todo="`firstread reconcile --verify`")
        return False
    if not whole:
        log.error("stored_bytes_changed", spool_name=name, todo="`firstread reconcile --verify`")
    return whole
