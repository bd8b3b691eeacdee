"""Files and directories that are nobody else's, and names that outlast a power cut."""

import os
from pathlib import Path


def make_private(directory: Path) -> Path:
    """Make a directory, and those of its parents that are missing, readable by nobody else; their names are durable."""
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
