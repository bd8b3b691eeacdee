"""Files and directories that are nobody else's, and names that outlast a power cut."""

import os
from pathlib import Path


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
