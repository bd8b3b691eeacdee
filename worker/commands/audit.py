"""`firstread audit …`: the chain is whole; the record of what was done."""

import sys
from contextlib import ExitStack
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from models.bulk import as_text
from worker import bootstrap
from worker.audit.anchor import AnchorFile
from worker.audit.anchor import restored as say_restored
from worker.audit.claims import Locate
from worker.audit.export import Selection, csv_lines, events, json_lines
from worker.audit.log import operator
from worker.audit.verify import Verification, verify
from worker.commands.audit_replay import replay
from worker.commands.model_common import bar
from worker.commands.model_results import need_target, private_file
from worker.commands.output import complain, print_json, say, tell
from worker.config import Settings, load_settings
from worker.errors import NotFound, SettingsError
from worker.intake.spool import Spool
from worker.uids import is_uid

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

app = typer.Typer(no_args_is_help=True, help="What was done: proven, written out, run again.")
app.command("replay")(replay)


@app.command("verify")
def audit_verify(
    as_json: AsJson = False,
    files: Annotated[bool, typer.Option("--files", help="Also read every stored object and report.")] = False,
    anchors: Annotated[
        Path | None, typer.Option("--anchors", metavar="FILE", help="The anchors; else those of the data directory.")
    ] = None,
) -> None:
    """Verify the audit chain, event by event: its digests, its head, its anchors, and the rows that it tells of."""
    settings = load_settings()
    if anchors is not None and not anchors.is_file():
        raise typer.BadParameter(f"there is no file {anchors}", param_hint="--anchors")
    with ExitStack() as stack:
        result = verify(
            bootstrap.open_database(settings),
            AnchorFile(anchors or settings.anchors_file),
            locate=_locator(settings) if files else None,
            watch=bar(stack, "events"),
        )
    if as_json:
        print_json(result.as_json())
    else:
        _say(result)
    raise typer.Exit(1 if result.findings else 0)


def _locator(settings: Settings) -> Locate:
    spool = Spool(settings.spool_dir)

    def locate(table: str, place: str) -> Path | None:
        if table == "instance":
            return spool.path(place)
        path = settings.reports_dir / place
        return path if path.is_file() else None

    return locate


def _say(result: Verification) -> None:
    last, anchored = result.last, result.anchored
    end = f", the last {last['id']} of {last['at']}, SHA-256 {last['sha256']}" if last else ""
    say(f"chain: {result.events} events{end} ({result.seconds:.1f} s)")
    if anchored is not None:
        say(f"anchors: they fit up to event {anchored.id}, anchored at {anchored.at}")
    say(f"rows: {', '.join(f'{count} of {table}' for table, count in result.rows.items())}")
    for note in result.notes:
        tell(f"note: {note}")
    for finding in result.findings:
        complain(str(finding))
    if result.more:
        complain(f"and {result.more} more")
    say("FAIL" if result.findings else "ok: nothing was changed, removed or slipped in")


class Format(StrEnum):
    """Forms of an export."""

    JSON = "json"
    CSV = "csv"


MOMENTS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ"]


@app.command("export")
def audit_export(
    since: Annotated[
        datetime | None, typer.Option("--from", formats=MOMENTS, help="Events from this moment on (UTC).")
    ] = None,
    until: Annotated[datetime | None, typer.Option("--to", formats=MOMENTS, help="And before this one (UTC).")] = None,
    study: Annotated[str | None, typer.Option("--study", metavar="UID", help="Those about one study.")] = None,
    form: Annotated[Format, typer.Option("--format", help="json (a list, an event a line) or csv.")] = Format.JSON,
    out_file: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Into this file (0600); else to standard output.")
    ] = None,
) -> None:
    """Write out what was done: every event as it stands in the chain, predictions with their probabilities."""
    if study is not None and not is_uid(study):
        raise NotFound(f"{study!r} is no Study Instance UID")
    if out_file is not None:
        need_target(out_file, "--out")
    wanted = Selection(since and since.replace(tzinfo=UTC), until and until.replace(tzinfo=UTC), study)
    with bootstrap.open_database(load_settings()).snapshot() as session:
        rows = events(session, wanted)
        lines = json_lines(rows) if form is Format.JSON else csv_lines(rows, as_text)
        if out_file is None:
            sys.stdout.writelines(lines)
            return
        with private_file(out_file) as file:
            file.writelines(line.encode() for line in lines)
    tell(f"written: {out_file}")


@app.command("restored")
def audit_restored(
    reason: Annotated[str, typer.Option(help="From which backup, and why; no patient data.")],
    as_json: AsJson = False,
) -> None:
    """Say that the database was restored from a backup: its chain and its anchors tell of it from then on."""
    settings = load_settings()
    database, file = bootstrap.open_database(settings), AnchorFile(settings.anchors_file)
    try:
        anchor = say_restored(database, file, reason, actor=operator())
    except OSError as error:
        raise SettingsError(f"{file.path}: it cannot be written: {error.strerror}") from None
    if as_json:
        print_json({"restored_to": anchor.id, "at": anchor.at})
    else:
        say(f"the chain stands at event {anchor.id}; that it was restored to there is in it, and in {file.path}")
