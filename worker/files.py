"""Files and directories that are nobody else's, and names that outlast a power cut."""

import ctypes
import os
import sys
from pathlib import Path

_SYNC_FILE_RANGE_WRITE = 2  # of <fcntl.h>; Python has no name for it
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def make_private(directory: Path) -> Path:
    """Make a directory that is missing, and its missing parents, readable by nobody else (0700), their names durable.

    One that is there is left exactly as it is, mode and owner included, and so are the parents that are there: whoever
    made it decided who may read it.
    """
    if not directory.is_dir():
        make_private(directory.parent)
        directory.mkdir(mode=0o700, exist_ok=True)
        sync_directory(directory.parent)
    return directory


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def begin_write_out(descriptor: int, start: int, size: int) -> None:
    """Have the system begin to write a part of a file to its disk, so that less is left to do for a later fsync.

    A hint (sync_file_range(2), of Linux): what goes wrong with the disk is said by the fsync.
    """
    if _libc is not None:
        part = ctypes.c_int64(start), ctypes.c_int64(size)
        _libc.sync_file_range(ctypes.c_int(descriptor), *part, ctypes.c_uint(_SYNC_FILE_RANGE_WRITE))
