"""Files on their way into a backup and out of it: digested while they are copied, and durable."""

import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

from worker.errors import BackupError, UnreadableSource
from worker.files import make_private, sync_directory

CHUNK = 1 << 20
PART = ".part"

Progress = Callable[[int], None]
"""Told of bytes that were read."""


def sha256_of(path: Path, progress: Progress) -> str:
    """Return the SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            progress(len(chunk))
    return digest.hexdigest()


class Writer:
    """Writes files below one directory, each durable before it has its name; `close` makes the names durable."""

    def __init__(self, root: Path, progress: Progress) -> None:
        self.root = make_private(root)
        self.progress = progress
        self._touched: set[Path] = {root}

    def copy(self, source: Path, target: Path) -> str:
        """Copy a file; return the SHA-256 of what was copied.

        Raises
        ------
        FileNotFoundError
            When the source is gone.
        UnreadableSource
            When the disk will not give it.
        BackupError
            When it cannot be written.
        """
        digest = hashlib.sha256()
        try:
            reading = source.open("rb")
        except FileNotFoundError:
            raise
        except OSError as error:
            raise UnreadableSource(f"{source}: it cannot be read ({error.strerror})") from error
        with reading:

            def chunks() -> bytes:
                try:
                    chunk = reading.read(CHUNK)
                except OSError as error:
                    raise UnreadableSource(f"{source}: it cannot be read ({error.strerror})") from error
                digest.update(chunk)
                self.progress(len(chunk))
                return chunk

            self._write(target, chunks)
        return digest.hexdigest()

    def write(self, target: Path, content: bytes) -> str:
        """Write a file; return its SHA-256."""
        parts = iter((content, b""))
        self._write(target, lambda: next(parts))
        return hashlib.sha256(content).hexdigest()

    def adopt(self, target: Path) -> None:
        """Take a file that lies there already for one of ours: its name is made durable."""
        self._touched.add(target.parent)

    def _write(self, target: Path, chunks: Callable[[], bytes]) -> None:
        part = target.with_name(f".{target.name}{PART}")
        try:
            make_private(target.parent)
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as writing:
                while chunk := chunks():
                    writing.write(chunk)
                writing.flush()
                os.fsync(writing.fileno())
            part.rename(target)
        except OSError as error:
            raise trouble(error, target) from error
        finally:
            part.unlink(missing_ok=True)  # it has its name, or is not wanted
        self._touched.add(target.parent)

    def close(self) -> None:
        """Make every name that was written durable."""
        for directory in sorted(self._touched):
            sync_directory(directory)
        self._touched = {self.root}


def size_of(path: Path) -> int | None:
    """Return the length of a file, bytes; None where there is none."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def trouble(error: OSError, target: Path) -> BackupError:
    """Say that a disk is full in the words of a backup; other troubles of the disk speak for themselves."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        return BackupError(f"{target}: the disk is full; free space there and start again, what is done is kept")
    return BackupError(f"{target}: it cannot be written ({error.strerror})")


def require_room(directory: Path, needed: int) -> None:
    """Refuse to begin what would fill a disk.

    Raises
    ------
    BackupError
        Saying how much is needed and how much is free, bytes.
    """
    free = shutil.disk_usage(directory).free
    if needed > free:
        raise BackupError(f"{directory}: {needed:,} bytes are needed and {free:,} are free: give it more room")


def is_within(path: Path, directory: Path) -> bool:
    """Say whether a path lies in a directory or is it, links followed."""
    return path.resolve().is_relative_to(directory.resolve())
