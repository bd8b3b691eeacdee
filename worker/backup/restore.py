"""Restoring a backup into an empty place, and nowhere else.

Every digest is verified before anything is touched. Then the files are copied, each digested once more, and last the
rows, in one transaction that also brings the schema to the newest. A restore that is cut short is begun again with the
same backup and goes on; until the rows are there the data directory says that it is being restored.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlmodel import Session, col, select

from worker import schema
from worker.audit.log import operator, record
from worker.backup import tables
from worker.backup.create import Told
from worker.backup.files import Writer, is_within, require_room, sha256_of, size_of
from worker.backup.layout import CARRIED, OBJECTS, REPORTS, RESTORING, TABLES, Manifest
from worker.backup.snapshot import file_name
from worker.backup.verify import Verification, verify
from worker.database import Database, Instance, LoginLink, LoginSession, Study, WorkItem, WorkState
from worker.errors import BackupError
from worker.files import make_private, sync_directory
from worker.intake.spool import Spool
from worker.retention.removal import RESTORED, removed_detail

_MAY_BE_THERE = {"models", "firstread.toml", RESTORING}
"""What a site may have put into an empty data directory before: its model packages, its settings."""


@dataclass(frozen=True)
class Restored:
    """What a restore brought back."""

    manifest: Manifest
    schema_before: str
    schema: str
    objects: int
    arrivals: int
    reports: int
    rows: int
    leases_freed: int

    def as_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "run": self.manifest.run,
            "taken_at": self.manifest.finished_at,
            "schema": self.schema,
            "schema_of_the_backup": self.schema_before,
            "objects": self.objects,
            "arrivals": self.arrivals,
            "reports": self.reports,
            "rows": self.rows,
            "leases_freed": self.leases_freed,
            "models": self.manifest.models,
        }


def require_empty(database_url: str, data_dir: Path, source: Path) -> None:
    """Refuse to restore where something is.

    Raises
    ------
    BackupError
        Naming what is there, and what to do.
    """
    manifest = Manifest.read(source)
    if is_within(source, data_dir):
        raise BackupError(f"{source}: it lies in {data_dir}, which must be empty: move the backup elsewhere")
    marker = data_dir / RESTORING
    if marker.exists():
        if marker.read_text() != manifest.sha256:
            raise BackupError(f"{data_dir}: another backup was being restored here: finish that one, or empty it")
    elif data_dir.exists() and (others := sorted({path.name for path in data_dir.iterdir()} - _MAY_BE_THERE)):
        raise BackupError(
            f"{data_dir}: it is not empty ({', '.join(others[:5])}): stop every service, move it away or set "
            "FIRSTREAD_DATA_DIR to an empty directory, and start again"
        )
    url = sa.make_url(database_url)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
        return
    with _opened(database_url) as database, database.engine.connect() as connection:
        _require_no_tables(connection)


@contextmanager
def _opened(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    try:
        yield database
    finally:
        database.dispose()


def _require_no_tables(connection: Connection) -> None:
    if found := sa.inspect(connection).get_table_names():
        raise BackupError(
            f"the database is not empty ({', '.join(sorted(found)[:3])}, …): stop every service, set "
            "FIRSTREAD_DATABASE_URL to a new database, and start again"
        )


def restore(database_url: str, data_dir: Path, source: Path, *, told: Told) -> tuple[Verification, Restored | None]:
    """Verify a backup, and where it is whole restore it into an empty data directory and database.

    Returns
    -------
    Verification
        What was found; where it is not whole, nothing has been touched.
    Restored or None
        What was restored.

    Raises
    ------
    BackupError
        When the place is not empty, has no room, or the backup cannot be read.
    SchemaTooNew
        When a newer release has written the backup.
    """
    require_empty(database_url, data_dir, source)
    found = verified(source, told)
    manifest = found.manifest
    schema.require_known(manifest.schema, "the backup")
    if not found.whole:
        return found, None
    make_private(data_dir)
    require_room(data_dir, manifest.bytes)
    told.expect(manifest.bytes)
    writer = Writer(data_dir, told.advance)
    writer.write(data_dir / RESTORING, manifest.sha256.encode())
    writer.close()
    registered = set(tables.values(source / manifest.run_dir / TABLES / file_name("instance"), "spool_name"))
    spool = Spool(data_dir / "spool")
    for name, target in _places(found.listing, manifest, data_dir, spool, registered):
        if size_of(target) is not None and sha256_of(target, told.advance) == found.listing[name]:
            writer.adopt(target)  # a restore that was cut short had come as far as this
        elif writer.copy(source / name, target) != found.listing[name]:
            raise BackupError(f"{source / name}: it has changed since it was verified: is the disk well?")
    writer.close()
    restored = _restore_rows(database_url, source, manifest)
    (data_dir / RESTORING).unlink()
    sync_directory(data_dir)
    return found, restored


def verified(source: Path, told: Told) -> Verification:
    """Verify a backup, saying how far it has come."""
    told.expect(Manifest.read(source).bytes)
    return verify(source, told.advance)


def _places(
    listing: dict[str, str], manifest: Manifest, data_dir: Path, spool: Spool, registered: set[str]
) -> Iterator[tuple[str, Path]]:
    """Yield each file of the backup, tables aside, and where it belongs."""
    carried = f"{manifest.run_dir}/{CARRIED}/"
    for name in listing:
        if name.startswith(f"{OBJECTS}/"):
            spool_name = Path(name).stem
            is_filed = spool_name in registered
            yield name, spool.filed_path(spool_name) if is_filed else spool.incoming_dir / f"{spool_name}.dcm"
        elif name.startswith(f"{REPORTS}/"):
            yield name, data_dir / name
        elif name.startswith(carried):
            yield name, data_dir / name.removeprefix(carried)


def _restore_rows(database_url: str, source: Path, manifest: Manifest) -> Restored:
    rows = 0
    with _opened(database_url) as database, schema.changing(database) as connection:
        _require_no_tables(connection)
        schema.upgrade(connection, manifest.schema)
        made = tables.reflected(connection)
        if {table.name for table in made} != manifest.tables.keys():
            raise BackupError(f"schema {manifest.schema} of this release has other tables than the backup: use its own")
        for table in made:
            count = tables.read(connection, table, source / manifest.run_dir / TABLES / file_name(table.name))
            if count != manifest.tables[table.name]:
                raise BackupError(f"table {table.name}: {count} rows came back of {manifest.tables[table.name]}")
            rows += count
        tables.go_on_counting(connection, made)
        schema.upgrade(connection, "head")
        freed = _settle(connection, manifest)
    return Restored(
        manifest=manifest,
        schema_before=manifest.schema,
        schema=schema.newest(),
        objects=manifest.registered,
        arrivals=manifest.arrivals,
        reports=manifest.reports,
        rows=rows,
        leases_freed=freed,
    )


def _settle(connection: Connection, manifest: Manifest) -> int:
    """Free the leases of workers that are no more, note what retention had removed, and write the restore down."""
    with Session(connection) as session:
        # The attempt ended with the installation, which is not the fault of the work; the next holder has a new token.
        freed = session.execute(
            sa.update(WorkItem)
            .where(col(WorkItem.state) == WorkState.LEASED)
            .values(
                state=WorkState.OWED,
                lease_until=None,
                token=col(WorkItem.token) + 1,
                attempts=col(WorkItem.attempts) - 1,
            )
        ).rowcount  # type: ignore[attr-defined]
        for pass_in in (LoginSession, LoginLink):  # who was logged in then is not logged in here
            session.execute(sa.delete(pass_in))
        _note_removed(session, manifest)
        detail = {"manifest_sha256": manifest.sha256, "schema": manifest.schema, "audit": manifest.audit}
        record(session, "backup.restored", manifest.run, detail, actor=operator())
        session.commit()
    return int(freed)


def _note_removed(session: Session, manifest: Manifest) -> None:
    """Write down, in the rows and in the chain, what retention had removed by the time its bytes were to be copied."""
    removed: dict[str, list[Instance]] = {}
    for name, moment in manifest.removed.items():
        instance, study_instance_uid = session.exec(
            select(Instance, Study.study_instance_uid)
            .join(Study, col(Study.id) == col(Instance.study_id))
            .where(Instance.spool_name == name)
        ).one()
        instance.removal_began_at = instance.bytes_removed_at = datetime.fromisoformat(moment)
        session.add(instance)
        removed.setdefault(study_instance_uid, []).append(instance)
    for study_instance_uid, gone in removed.items():
        record(session, "bytes.removed", study_instance_uid, removed_detail(gone, RESTORED), actor="operator")
