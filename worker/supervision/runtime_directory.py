"""A private directory for a unix socket: its path is short, it is held while we run, and swept if we were killed."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import Self

from worker.errors import StartError
from worker.logs import get_logger

log = get_logger(__name__)

PREFIX = "firstread-redis-"
SOCKET_NAME = "redis.sock"
SOCKET_PATH_BYTES = 103
"""Longest path of a unix socket that works everywhere: `sun_path` has 104 bytes on macOS, 108 on Linux (unix(7))."""


class RuntimeDirectory:
    """A new directory (0700) for one socket, removed with it.

    It is made in `$XDG_RUNTIME_DIR`, else in the system's directory for temporary files, else in `/tmp`: the first
    that exists, can be written and is short enough. What killed processes left there is swept first. A directory is in
    use as long as its maker holds the lock on it (flock(2)), which the kernel gives back however the maker ends; a
    process id would mean nothing where containers share the directory.

    Raises
    ------
    StartError
        None of them will do.
    """

    def __init__(self) -> None:
        parent = _parent()
        _sweep(parent)
        self.path, self._lock = _make(parent)
        self.socket = self.path / SOCKET_NAME

    def remove(self) -> None:
        """Remove it, and give the lock back; a second time does nothing."""
        if self._lock is not None:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


def _parent() -> Path:
    for parent in (os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir(), "/tmp"):  # noqa: S108 - mkdtemp is private
        longest = len(os.fsencode(f"{parent}/{PREFIX}xxxxxxxx/{SOCKET_NAME}"))
        if parent and os.access(parent, os.W_OK | os.X_OK) and longest <= SOCKET_PATH_BYTES:
            return Path(parent)
    raise StartError(
        f"no directory for the socket of the embedded Redis: $XDG_RUNTIME_DIR, {tempfile.gettempdir()} and /tmp are "
        f"not writable or too long (a socket's path has at most {SOCKET_PATH_BYTES} bytes); set TMPDIR to a short one"
    )


def _make(parent: Path) -> tuple[Path, int | None]:
    """Make one and hold it; one that another process swept before it was held is made again."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        with contextlib.suppress(FileNotFoundError):
            descriptor = _open(path)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if path.is_dir():
                return path, descriptor
            os.close(descriptor)


def _sweep(parent: Path) -> None:
    """Remove what is ours and nobody holds; a directory that holds anything but a socket was never one of these."""
    for path in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # another user's, or swept by another process at the same time
            descriptor = _open(path)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(descriptor).st_uid == os.geteuid() and set(path.iterdir()) <= {path / SOCKET_NAME}:
                    (path / SOCKET_NAME).unlink(missing_ok=True)
                    path.rmdir()
                    log.info("stale_runtime_directory_removed", path=str(path))
            finally:
                os.close(descriptor)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
