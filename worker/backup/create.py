"""Making a backup while everything runs.

First the rows of one moment, then the objects and reports. So every row has its bytes in the backup, and what was
accepted meanwhile is in it whole, as an arrival without a row, or not at all: objects that the rows do not know are put
back among the arrivals, and intake registers them after a restore. Files never change once they have their name; what
an earlier run has copied and its listing still names is not copied again.
"""

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, Protocol

import sqlalchemy as sa
from sqlmodel import col

from worker import schema
from worker.backup import snapshot
from worker.backup.files import Writer, is_within, require_room, sha256_of, size_of, trouble
from worker.backup.layout import (
    CARRIED,
    LISTING,
    LOCK,
    MANIFEST,
    OBJECTS,
    REPORTS,
    RUNS,
    TABLES,
    UNFINISHED,
    Manifest,
    listing_text,
    object_name,
    read_listing,
)
from worker.backup.verify import files_below
from worker.database import Database, Instance, utc_now
from worker.errors import BackupError, UnreadableSource
from worker.files import make_private, sync_directory
from worker.intake.spool import Spool

CARRIED_FROM = ("spool", "audit")
"""Folders of the data directory whose other files are carried over as they are: the anchors of the audit chain, and
what waits in the spool and is no object. Copied before the rows are read, so that an anchor never promises more than
the chain holds, and what is registered and removed meanwhile is in the rows."""
_OBJECT_DIRS = ("spool/incoming/", "spool/stored/")
_OURS = (f"{OBJECTS}/", f"{REPORTS}/", f"{RUNS}/", UNFINISHED, f".{UNFINISHED}", f".{MANIFEST}")
"""What a run may remove of a target; what somebody else has put beside it is named by `verify` and left alone."""
_IDS_AT_ONCE = 500


class Told(Protocol):
    """Hears how far a backup has come, bytes."""

    def expect(self, total: int) -> None:
        """So many bytes are to be read."""

    def advance(self, count: int) -> None:
        """So many more were read."""


class Wanted(NamedTuple):
    """A file that belongs into the backup: its name there, where it lies, and its digest if the rows say it."""

    name: str
    source: Path
    size: int
    sha256: str | None


@dataclass
class _Run:
    """One run, as it fills."""

    target: Path
    name: str
    writer: Writer
    earlier: Mapping[str, str]
    digests: dict[str, str] = field(default_factory=dict)
    problems: list[dict[str, str]] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)

    @property
    def directory(self) -> Path:
        return self.target / RUNS / self.name

    def has(self, wanted: Wanted) -> bool:
        """Say whether an earlier run has copied a file, and it still lies there in its full length."""
        known = self.earlier.get(wanted.name)
        return (
            known is not None and wanted.sha256 in {None, known} and size_of(self.target / wanted.name) == wanted.size
        )


def create(
    database: Database,
    data_dir: Path,
    target: Path,
    *,
    release: str,
    models: Mapping[str, str],
    told: Told,
) -> Manifest:
    """Back up a data directory and its database into `target`; what is there already is not copied again.

    Parameters
    ----------
    target
        A new or empty directory outside the data directory, or an earlier backup.
    models
        `name@version` to weights digest of the site's own packages: named in the manifest, not copied.

    Raises
    ------
    BackupError
        When the target cannot take the backup, or there is nothing to back up.
    """
    _require_target(target, data_dir)
    began = utc_now()
    with _alone(target):
        earlier = _earlier(target)
        name = f"{began:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"
        run = _Run(target, name, Writer(target, told.advance), earlier)
        run.writer.write(target / UNFINISHED, name.encode())
        try:
            for wanted in list(_carried(run, data_dir)):
                _take(run, wanted)
            rows = _rows(run, database)
            _fill(run, rows, data_dir, told)
            manifest = _finish(run, rows, database, began=began, release=release, models=models)
        except BaseException:
            shutil.rmtree(run.directory, ignore_errors=True)  # what is shared stays: the next run takes it over
            raise
        _tidy(target, run.digests, manifest)
    return manifest


def _rows(run: _Run, database: Database) -> snapshot.Snapshot:
    directory = run.directory / TABLES
    try:
        rows = snapshot.take(database, make_private(directory))
    except OSError as error:
        raise trouble(error, directory) from error
    for path in directory.iterdir():
        run.digests[f"{RUNS}/{run.name}/{TABLES}/{path.name}"] = sha256_of(path, lambda _: None)
        run.writer.adopt(path)
    return rows


def _fill(run: _Run, rows: snapshot.Snapshot, data_dir: Path, told: Told) -> None:
    missing: list[Wanted] = []
    for wanted in (
        *_objects(run, rows, Spool(data_dir / "spool")),
        *_reports(run, rows, data_dir / "reports"),
    ):
        if run.has(wanted):
            run.digests[wanted.name] = run.earlier[wanted.name]
        else:
            missing.append(wanted)
    require_room(run.target, sum(wanted.size for wanted in missing if size_of(run.target / wanted.name) != wanted.size))
    told.expect(sum(wanted.size for wanted in missing))
    for wanted in missing:
        _take(run, wanted)


def _take(run: _Run, wanted: Wanted) -> None:
    """Copy one file, or take over what a run that was cut short has copied of it."""
    target = run.target / wanted.name
    try:
        expected = wanted.sha256
        if size_of(target) == wanted.size:
            expected = expected or sha256_of(wanted.source, lambda _: None)
            if sha256_of(target, run.writer.progress) == expected:
                run.writer.adopt(target)
                run.digests[wanted.name] = expected
                return
        actual = run.writer.copy(wanted.source, target)
    except FileNotFoundError:
        run.gone.append(wanted.name)
        return
    except UnreadableSource as error:
        run.problems.append({"path": str(wanted.source), "why": str(error)})
        return
    run.digests[wanted.name] = actual
    if wanted.sha256 is not None and actual != wanted.sha256:
        run.problems.append({"path": str(wanted.source), "why": "it is not what its row says (SHA-256 differs)"})


def _objects(run: _Run, rows: snapshot.Snapshot, spool: Spool) -> Iterator[Wanted]:
    # Arrivals are listed first: what is filed away meanwhile is then found among the filed objects.
    unregistered = {path.stem for path in spool.arrivals()} | set(spool.filed())
    for name, (sha256, size) in rows.objects.items():
        unregistered.discard(name)
        if name not in rows.removed:
            path = spool.path(name)
            if path is None:
                run.gone.append(object_name(name))
            else:
                yield Wanted(object_name(name), path, size, sha256)
    for name in sorted(unregistered):
        path = spool.path(name)
        if path is not None and (length := size_of(path)) is not None:  # else: an identical resend, discarded meanwhile
            yield Wanted(object_name(name), path, length, None)


def _reports(run: _Run, rows: snapshot.Snapshot, directory: Path) -> Iterator[Wanted]:
    for relative, sha256 in rows.reports.items():
        size = size_of(directory / relative)
        if size is None:
            run.gone.append(f"{REPORTS}/{relative}")
        else:
            yield Wanted(f"{REPORTS}/{relative}", directory / relative, size, sha256)


def _carried(run: _Run, data_dir: Path) -> Iterator[Wanted]:
    for start in CARRIED_FROM:
        for name in (f"{start}/{name}" for name in files_below(data_dir / start)):
            size = size_of(data_dir / name)
            if size is not None and not name.startswith(_OBJECT_DIRS) and not name.endswith(".part"):
                yield Wanted(f"{RUNS}/{run.name}/{CARRIED}/{name}", data_dir / name, size, None)


def _finish(
    run: _Run,
    rows: snapshot.Snapshot,
    database: Database,
    *,
    began: datetime,
    release: str,
    models: Mapping[str, str],
) -> Manifest:
    spool_names = {object_name(name): name for name in rows.objects}
    removed = _removed_meanwhile(database, [spool_names[name] for name in run.gone if name in spool_names])
    for name in run.gone:
        known = spool_names.get(name)
        if known not in removed and (known is not None or name.startswith(f"{REPORTS}/")):
            run.problems.append({"path": name, "why": "its row is there, its stored bytes are gone"})
    listing = listing_text(run.digests).encode()
    listing_sha256 = run.writer.write(run.directory / LISTING, listing)
    objects = [name for name in run.digests if name.startswith(f"{OBJECTS}/")]
    manifest = Manifest(
        run=run.name,
        release=release,
        database="sqlite" if database.is_sqlite else "postgresql",
        schema=rows.schema,
        began_at=began.isoformat(timespec="seconds"),
        finished_at=utc_now().isoformat(timespec="seconds"),
        listing_sha256=listing_sha256,
        files=len(run.digests),
        bytes=sum(size_of(run.target / name) or 0 for name in run.digests),
        registered=sum(name in spool_names for name in objects),
        arrivals=sum(name not in spool_names for name in objects),
        reports=sum(name.startswith(f"{REPORTS}/") for name in run.digests),
        tables=rows.rows,
        audit=rows.audit,
        models=dict(models),
        removed=removed,
        problems=run.problems,
    )
    run.writer.close()
    run.writer.write(run.target / MANIFEST, manifest.text().encode())
    run.writer.close()
    return manifest


def _removed_meanwhile(database: Database, names: list[str]) -> dict[str, str]:
    """Return those of the vanished objects that retention has removed since the rows were read, and when."""
    removed: dict[str, str] = {}
    if not names or schema.current(database) != schema.newest():
        return removed
    with database.read() as session:
        for start in range(0, len(names), _IDS_AT_ONCE):
            rows = session.execute(
                sa.select(col(Instance.spool_name), col(Instance.removal_began_at)).where(
                    col(Instance.spool_name).in_(names[start : start + _IDS_AT_ONCE]),
                    col(Instance.removal_began_at).is_not(None),
                )
            )
            removed |= {name: moment.isoformat() for name, moment in rows if moment is not None}
    return removed


def _tidy(target: Path, digests: Mapping[str, str], manifest: Manifest) -> None:
    """Remove what no longer belongs to the backup: earlier runs, removed bytes, what a run that was cut short left."""
    keep = {MANIFEST, LOCK, f"{manifest.run_dir}/{LISTING}", *digests}
    for name in list(files_below(target)):
        if name not in keep and name.startswith(_OURS):
            (target / name).unlink()
    for run in (target / RUNS).iterdir():
        if run.name != manifest.run:
            shutil.rmtree(run)
    sync_directory(target)


def _require_target(target: Path, data_dir: Path) -> None:
    if is_within(target, data_dir) or is_within(data_dir, target):
        raise BackupError(
            f"{target}: it lies in {data_dir} or around it: name another disk, a backup must outlive this one"
        )
    if target.exists() and not target.is_dir():
        raise BackupError(f"{target}: it is no directory")
    if target.is_dir() and not any((target / name).exists() for name in (MANIFEST, UNFINISHED)):
        others = sorted(path.name for path in target.iterdir() if path.name not in {LOCK, "lost+found"})
        if others:
            raise BackupError(f"{target}: it holds {others[0]} and is no backup: name an empty directory or a backup")


def _earlier(target: Path) -> dict[str, str]:
    if not (target / MANIFEST).exists():
        return {}
    return read_listing(target, Manifest.read(target))


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Let one run at a time write to a target."""
    try:
        made = make_private(target)
        descriptor = os.open(made / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise BackupError(f"{target}: it cannot be written ({error.strerror})") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise BackupError(f"{target}: another backup is being written there: wait until it has ended") from None
    finally:
        os.close(descriptor)
