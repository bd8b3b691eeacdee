"""File systems of a test's own."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def mount(*options: str) -> None:
    """Mount a tmpfs; the test is skipped where that is not allowed."""
    done = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", *options], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"cannot mount a file system of the test's own here: {done.stderr.strip()}")


@contextmanager
def small_disk_at(disk: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    disk.mkdir()
    mount("-o", "size=8m", str(disk))
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
