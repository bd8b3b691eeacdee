"""The spool: accepted bytes, durable before we answer.

An object arrives as `incoming/<name>.part`, is fsynced, renamed to `incoming/<name>.dcm`, and the directory fsynced:
only then may `0x0000` be answered. Intake registers it in the database and moves it to `stored/<day>/<name>.dcm`. What
peers say of storage commitment arrives the same way as `commitments/<name>.json`, and goes when it is registered. Names
are made here, from the time of arrival and randomness, never from what a sender says; they sort by arrival. Each file
is a DICOM file (PS3.10) with the data set byte for byte as it was sent. Files are made 0600, directories 0700.
"""

import contextlib
import os
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Self

from worker.files import begin_write_out, make_private, sync_directory
from worker.intake.bell import Rope

WRITE_OUT_BYTES = 2 << 20
"""So much of an object at a time is on its way to the disk while the rest still comes in."""

PART = ".part"
DCM = ".dcm"
JSON = ".json"
_TIME = "%Y%m%dT%H%M%S"
_NAME = re.compile(r"\d{8}T\d{6}\.\d{9}-[0-9a-f]{16}")


def new_name() -> str:
    """Return a name that sorts by arrival and cannot collide: `20261121T073000.123456789-1a2b3c4d5e6f7a8b`."""
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    return f"{_moment(seconds)}.{nanoseconds:09d}-{os.urandom(8).hex()}"


@lru_cache(maxsize=4)
def _moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime(_TIME)


def received_at(name: str) -> datetime:
    """Return the time of arrival that a spool name carries (UTC)."""
    moment, _, fraction = name.partition("-")[0].partition(".")
    return datetime.strptime(moment, _TIME).replace(tzinfo=UTC, microsecond=int(fraction[:6] or 0))


class Incoming:
    """One object on its way in: write, then `commit` (durable) or leave (the partial file is removed).

    Parameters
    ----------
    directory
        Where it lies, from the beginning.
    suffix
        That of its name once it is committed.
    part
        That of its name until then.
    """

    def __init__(self, directory: Path, suffix: str = DCM, part: str = PART) -> None:
        self.name = new_name()
        self._directory = directory
        self._part = part
        self._path = f"{directory}/{self.name}"  # text, here and below: a Path costs as much as the system call
        self._suffix = suffix
        self._descriptor = os.open(self._path + part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._written = self._sent_out = 0
        self._committed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the file go; what was not committed is removed."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            with contextlib.suppress(OSError):  # committed bytes are on the disk already, others are not wanted
                os.close(descriptor)
        if not self._committed:
            Path(self._path + self._part).unlink(missing_ok=True)

    def write(self, *pieces: bytes | memoryview) -> None:
        """Write all of the pieces; OSError (no space, not writable) goes to the caller, who answers A700."""
        left = sum(map(len, pieces))
        self._written += left
        while left := left - (written := os.writev(self._descriptor, pieces)):
            pieces = _rest(pieces, written)
        if self._written - self._sent_out >= WRITE_OUT_BYTES:
            begin_write_out(self._descriptor, self._sent_out, self._written - self._sent_out)
            self._sent_out = self._written

    def commit(self) -> Path:
        """Make the bytes, then the name durable; return the path. Only after this may success be answered."""
        os.fsync(self._descriptor)
        final = self._path + self._suffix
        os.rename(self._path + self._part, final)  # noqa: PTH104 - once an object
        self._committed = True
        sync_directory(self._directory)
        return Path(final)


def _rest(pieces: tuple[bytes | memoryview, ...], written: int) -> tuple[bytes | memoryview, ...]:
    """Return what a short write has left."""
    for number, piece in enumerate(pieces):
        if written < len(piece):
            return (memoryview(piece)[written:], *pieces[number + 1 :])
        written -= len(piece)
    return ()


class Spool:
    """The spool directory, seen from the listener (it writes) and from intake (it reads and files away).

    Parameters
    ----------
    directory
        Where it is; made where it is missing.
    min_free_bytes
        The free-space floor.
    writer
        What tells the partial files of this process from those of others that write here; empty: nothing does.
    bell
        The named pipe by which intake hears that something has come (`worker.intake.bell`); None: it has to look.
    """

    def __init__(self, directory: Path, *, min_free_bytes: int = 0, writer: str = "", bell: Path | None = None) -> None:
        self.directory = directory
        self._rope = Rope(bell) if bell is not None else None
        self._part = f".{writer}{PART}" if writer else PART
        self.min_free_bytes = min_free_bytes
        self.incoming_dir = make_private(directory / "incoming")
        self.stored_dir = make_private(directory / "stored")
        self.commitments_dir = make_private(directory / "commitments")

    def receive(self) -> Incoming:
        """Open a new object."""
        return Incoming(self.incoming_dir, DCM, self._part)

    def receive_commitment(self) -> Incoming:
        """Open a new message of storage commitment, JSON."""
        return Incoming(self.commitments_dir, JSON, self._part)

    def ring(self) -> None:
        """Tell intake that something has come."""
        if self._rope is not None:
            self._rope.ring()

    def free_bytes(self) -> int:
        """Return the free space of the file system, bytes."""
        system = os.statvfs(self.directory)
        return system.f_bavail * system.f_frsize

    def has_room(self, size: int = 0) -> bool:
        """Say whether `size` bytes would leave the free-space floor untouched."""
        return self.free_bytes() - size >= self.min_free_bytes

    def arrivals(self) -> list[Path]:
        """Return the objects that wait for registration, oldest first."""
        return _waiting(self.incoming_dir, DCM)

    def commitments(self) -> list[Path]:
        """Return the messages of storage commitment that wait for registration, oldest first."""
        return _waiting(self.commitments_dir, JSON)

    def strangers(self) -> list[Path]:
        """Return files among the arrivals that were not named here: nobody knows when they came, nor from whom."""
        found = [path for path in self.incoming_dir.iterdir() if path.suffix != PART]
        return sorted(path for path in found if path.suffix != DCM or not _NAME.fullmatch(path.stem))

    def sweep_partials(self, writer: str = "") -> int:
        """Remove partial files that a crash left; to be called before the listener accepts. Returns how many.

        Parameters
        ----------
        writer
            Whose; it has ended. Empty: everybody's.
        """
        found = (*self.incoming_dir.iterdir(), *self.commitments_dir.iterdir())
        partials = [path for path in found if path.name.endswith(f".{writer}{PART}" if writer else PART)]
        for path in partials:
            path.unlink(missing_ok=True)
        return len(partials)

    def filed_path(self, name: str) -> Path:
        """Return where a registered object is kept: one directory a day."""
        return self.stored_dir / name[:8] / f"{name}{DCM}"

    def path(self, name: str) -> Path | None:
        """Return where an object lies now: filed, or still among the arrivals after a crash; None if nowhere."""
        return next((p for p in (self.filed_path(name), self.incoming_dir / f"{name}{DCM}") if p.is_file()), None)

    def file_away(self, names: list[str]) -> None:
        """Move registered objects out of the arrivals, durably; those already moved are left alone."""
        touched: set[Path] = set()
        for name in names:
            target = self.filed_path(name)
            make_private(target.parent)
            with contextlib.suppress(FileNotFoundError):
                (self.incoming_dir / f"{name}{DCM}").rename(target)
                touched.add(target.parent)
        for directory in (*touched, self.incoming_dir, self.stored_dir):
            sync_directory(directory)

    def discard(self, name: str) -> None:
        """Remove an arrival whose bytes are registered and filed already (an identical resend)."""
        (self.incoming_dir / f"{name}{DCM}").unlink(missing_ok=True)

    def remove(self, names: list[str]) -> None:
        """Remove objects that are not to be kept any longer, durably; those that are gone already are left alone."""
        touched: set[Path] = set()
        for name in names:
            for path in (self.filed_path(name), self.incoming_dir / f"{name}{DCM}"):
                with contextlib.suppress(FileNotFoundError):
                    path.unlink()
                    touched.add(path.parent)
        for directory in touched:
            sync_directory(directory)

    def filed(self) -> Iterator[str]:
        """Yield the names of all filed objects."""
        for path in self.stored_dir.glob(f"*/*{DCM}"):
            yield path.stem


def _waiting(directory: Path, suffix: str) -> list[Path]:
    with os.scandir(directory) as entries:
        names = [entry.name for entry in entries if entry.name.endswith(suffix) and entry.is_file()]
    return [directory / name for name in sorted(names) if _NAME.fullmatch(name.removesuffix(suffix))]
