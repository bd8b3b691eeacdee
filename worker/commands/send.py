"""`firstread send`: push files or folders to an application entity, as a modality would."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from worker.commands.output import complain, err, print_json, print_table, say
from worker.config import Credentials, Peer, load_settings
from worker.logs import configure_logs

if TYPE_CHECKING:
    from worker.reporting.pacs import SendOutcome


def send(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", exists=True, help="Files, or folders with all below.")
    ],
    to: Annotated[str, typer.Option("--to", metavar="AE@HOST:PORT[/tls]", help="Who receives them.")],
    calling: Annotated[str, typer.Option(help="Our AE title in the association.")] = "FIRSTREAD",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Push DICOM files or folders to an application entity (Storage SCU); data sets go byte for byte."""
    configure_logs("send")
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)  # what goes wrong is the outcome of a file, in words
    peer = _peer(to)
    if not 1 <= len(calling) <= 16:
        raise typer.BadParameter("an AE title has 1 to 16 characters", param_hint="--calling")
    files = list(files_under(paths))
    if not files:
        raise typer.BadParameter("there is no file", param_hint="PATH")
    credentials = load_settings().credentials if peer.tls else None
    outcomes = list(_sent_with_progress(files, peer, calling, credentials))
    refused = sum(outcome.error is not None for outcome in outcomes)
    if as_json:
        print_json([as_document(outcome) for outcome in outcomes])
    else:
        _print_outcomes(outcomes, f"{len(outcomes) - refused} of {len(files)} stored by {peer}")
    if refused or len(outcomes) < len(files):
        raise typer.Exit(1)


def _print_outcomes(outcomes: "list[SendOutcome]", title: str) -> None:
    """Print what became of each file; what kept several from being sent is said once, and not of each."""
    reasons = Counter(o.error for o in outcomes if o.status is None and o.error is not None)
    shared = {error: count for error, count in reasons.items() if count > 1}
    rows = [(o.path, status_text(o.status), o.error or "stored") for o in outcomes if o.error not in shared]
    if rows:
        print_table(title, ("file", "status", "outcome"), rows)
    else:
        say(title)
    for error, count in shared.items():
        complain(f"{count} files not sent: {error}")


def files_under(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield the files among `paths` and in the folders among them, however deep, in the order of their names."""
    for path in paths:
        if path.is_dir():
            yield from sorted(found for found in path.rglob("*") if found.is_file())
        else:
            yield path


def status_text(status: int | None) -> str:
    """Write a DIMSE status as `0x0000`; "not sent" where there is none."""
    return "not sent" if status is None else f"0x{status:04X}"


def as_document(outcome: "SendOutcome") -> dict[str, str | None]:
    """Return the JSON form of what became of one file."""
    return {
        "file": str(outcome.path),
        "sop_instance_uid": outcome.sop_instance_uid or None,
        "status": None if outcome.status is None else status_text(outcome.status),
        "error": outcome.error or None,
    }


def _peer(text: str) -> Peer:
    try:
        return Peer.parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--to") from None


def _sent_with_progress(
    files: list[Path], peer: Peer, calling: str, credentials: Credentials | None
) -> "Iterator[SendOutcome]":
    from worker.reporting.pacs import send_files

    columns = (TextColumn("sending"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True) as progress:
        yield from progress.track(send_files(files, peer, calling, credentials=credentials), total=len(files))
