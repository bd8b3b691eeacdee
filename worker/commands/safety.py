"""Backup, restore, retention."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from worker import bootstrap, schema
from worker.accounts.tokens import Tokens
from worker.accounts.users import Users
from worker.audit.log import operator, record
from worker.backup import create
from worker.backup import restore as restoring
from worker.backup.verify import Verification
from worker.commands.output import complain, counted, err, print_json, say
from worker.config import Settings, load_settings
from worker.database import Database
from worker.intake.spool import Spool
from worker.logs import configure_logs
from worker.reconcile import reconcile
from worker.retention.removal import Review

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class _Bar:
    """Shows on standard error how far a backup has come."""

    def __init__(self, progress: Progress, what: str) -> None:
        self._progress = progress
        self._what = what
        self._task = progress.add_task(what, total=None)

    def expect(self, total: int) -> None:
        """Begin a bar of so many bytes."""
        self._progress.remove_task(self._task)
        self._task = self._progress.add_task(self._what, total=total)

    def advance(self, count: int) -> None:
        """Let the bar grow."""
        self._progress.advance(self._task, count)


@contextmanager
def _bar(what: str) -> Iterator[_Bar]:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True) as progress:
        yield _Bar(progress, what)


def backup(
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="An empty directory, or an earlier backup.")],
    verify: Annotated[
        bool, typer.Option("--verify", help="Make none: read every file of the one there and compare its digest.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Back up database, stored bytes and reports while everything runs; only what is new is copied."""
    os.umask(0o077)
    settings = _settings()
    target = target.expanduser().absolute()
    if verify:
        with _bar("verifying") as bar:
            found = restoring.verified(target, bar)
        _say_verified(found, as_json=as_json)
        raise typer.Exit(0 if found.whole else 1)
    bootstrap.require_restored(settings)
    packages = (package for package in bootstrap.model_registry(settings).packages() if not package.shipped)
    models = {package.card.identifier: package.card.weights_sha256 for package in packages}
    with _bar("copying") as bar:
        database = Database(settings.effective_database_url)
        release = version("firstread")
        manifest = create.create(database, settings.data_dir, target, release=release, models=models, told=bar)
    if as_json:
        print_json({"target": str(target)} | manifest.as_json())
    else:
        counted = f"{manifest.registered} objects, {manifest.arrivals} arrivals, {manifest.reports} reports"
        rows = sum(manifest.tables.values())
        say(f"{target}: {counted}, {rows} rows of schema {manifest.schema}, {manifest.bytes:,} bytes, all on disk")
        for problem in manifest.problems:
            complain(f"{problem['path']}: {problem['why']}")
    raise typer.Exit(1 if manifest.problems else 0)


def restore(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="What `firstread backup` made.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Verify the backup and that it could be restored here; touch nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Restore a backup into an empty data directory and database, then account for everything."""
    os.umask(0o077)
    settings = _settings()
    source = source.expanduser().absolute()
    url = settings.effective_database_url
    if dry_run:
        restoring.require_empty(url, settings.data_dir, source)
        with _bar("verifying") as bar:
            found = restoring.verified(source, bar)
        schema.require_known(found.manifest.schema, "the backup")
        _say_verified(found, as_json=as_json)
        raise typer.Exit(0 if found.whole else 1)
    with _bar("restoring") as bar:
        found, restored = restoring.restore(url, settings.data_dir, source, told=bar)
    if restored is None:
        _say_verified(found, as_json=as_json)
        raise typer.Exit(1)
    with err.status("comparing spool and database"):
        sums = reconcile(Database(url), Spool(settings.spool_dir), settings.reports_dir, verify=True).as_json()
    _say_restored(settings, restored, sums, _who_may_come_in(Database(url)), as_json=as_json)
    raise typer.Exit(1 if sums["unaccounted"] else 0)


def retention(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed, and remove nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove stored bytes of finished studies that are old enough; what is owed or undelivered always stays."""
    settings = _settings("retention")
    pipeline = bootstrap.build_pipeline(settings, bootstrap.open_database(settings), actor=operator())
    rule = bootstrap.retention(settings, pipeline)
    review = rule.review()
    removed = [] if dry_run else list(rule.run())
    is_short = rule.is_short()
    sums = {
        "studies": len(removed),
        "instances": sum(one.instances for one in removed),
        "bytes": sum(one.bytes for one in removed),
    }
    if as_json:
        print_json(review.as_json() | {"dry_run": dry_run, "removed": sums, "floor_reached": not is_short})
    else:
        _say_retention(review, sums, dry_run=dry_run)
        if is_short:
            complain(f"{settings.spool_dir}: less is free than FIRSTREAD_RETENTION_FLOOR_BYTES: give it more room")
    raise typer.Exit(1 if is_short else 0)


def _say_retention(review: Review, removed: dict[str, int], *, dry_run: bool) -> None:
    if review.older_than is None:
        say("FIRSTREAD_RETENTION_DAYS is not set: nothing is removed for its age")
    else:
        say(f"old enough: what received nothing since {review.older_than}")
        for why, count in review.kept.items():
            if count:
                say(f"  kept, {why.replace('_', ' ')}: {counted(count, 'study', 'studies')}")
    counts = review.removable if dry_run else removed
    words = "would be removed" if dry_run else "removed"
    instances, studies = counted(counts["instances"], "instance"), counted(counts["studies"], "study", "studies")
    say(f"{words}: {counts['bytes']:,} bytes of {instances} in {studies}")


def _settings(service: str = "backup") -> Settings:
    settings = load_settings()
    configure_logs(service, settings.log_format)
    return settings


def _say_verified(found: Verification, *, as_json: bool) -> None:
    if as_json:
        print_json(found.as_json())
        return
    for line in found.complaints():
        complain(line)
    if found.left:
        left = counted(len(found.left), "file was", "files were")
        say(f"{left} left by a run that was cut short; the next backup takes over what there is")
    manifest = found.manifest
    words = "whole" if found.whole else "NOT WHOLE: it is not restored; use another backup"
    say(f"backup {manifest.run} of {manifest.finished_at}, {manifest.files} files, schema {manifest.schema}: {words}")


def _who_may_come_in(database: Database) -> dict[str, list[str]]:
    """Name the accounts and tokens that work: some may have been disabled or revoked since the backup."""
    users = Users(database, record, actor=operator()).listed()
    tokens = Tokens(database, record, actor=operator()).listed()
    return {
        "accounts": [user.name for user in users if user.enabled],
        "tokens": [token.name for token in tokens if token.state == "valid"],
    }


def _say_restored(
    settings: Settings,
    restored: restoring.Restored,
    sums: dict[str, Any],
    may_come_in: dict[str, list[str]],
    *,
    as_json: bool,
) -> None:
    installed = {package.card.identifier for package in bootstrap.model_registry(settings).packages()}
    missing = sorted(restored.manifest.models.keys() - installed)
    if as_json:
        print_json(restored.as_json() | {"models_to_install": missing, "reconcile": sums, "may_come_in": may_come_in})
        return
    say(
        f"{restored.rows} rows (schema {restored.schema_before}, now {restored.schema}), {restored.objects} objects, "
        f"{restored.arrivals} arrivals still to be registered, {restored.reports} reports"
    )
    say(f"accepted {sums['accepted']}, of these pending {sums['pending']}; unaccounted for: {len(sums['unaccounted'])}")
    for entry in sums["unaccounted"]:
        complain(f"unaccounted: {entry.get('path') or entry.get('sop_instance_uid')}: {entry['why']}")
    for name in missing:
        complain(f"model {name} classified there and is not installed here: `firstread models add PATH`")
    for what, names in may_come_in.items():
        if names:
            say(f"{what} that work again, also where they were disabled or revoked since: {', '.join(names)}")
    say(f"start the services; {restored.leases_freed} pieces of work that somebody held are owed again")
