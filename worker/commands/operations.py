"""What ops do: routes, quarantine, reprocessing, resending, checks."""

from pathlib import Path
from typing import Annotated

import typer

from models.bulk import UnusableFileError
from worker import bootstrap, operations
from worker.audit.log import operator
from worker.check import check_all
from worker.commands.model_files import header_of
from worker.commands.output import counted, print_json, print_table, say
from worker.config import Settings, load_settings, made_data_dir
from worker.database import WorkKind
from worker.errors import NotFound, UnreadableObject
from worker.pipeline import Pipeline
from worker.uids import is_uid

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

quarantine = typer.Typer(no_args_is_help=True, help="Work that was given up, for a person to look at.")


def _pipeline(settings: Settings) -> Pipeline:
    from worker.celery_app import app

    return bootstrap.build_pipeline(settings, bootstrap.open_database(settings), actor=operator(), app=app)


def route(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A DICOM file.")],
    as_json: AsJson = False,
) -> None:
    """Say which rule sends a file where, and why."""
    router = bootstrap.model_router(load_settings())
    try:
        header = header_of(file, router.keywords)
    except UnusableFileError:
        raise UnreadableObject(f"{file}: it is no DICOM object") from None
    decision = router.decide(header)
    if as_json:
        print_json(
            {
                "file": str(file),
                "models": list(decision.models),
                "route": decision.route or None,
                "reason": decision.reason or None,
                "remark": decision.remark or None,
            }
        )
        return
    goes = " and ".join(decision.models) if decision.models else "to no model"
    say(f"{file}: {goes}")
    for word, value in (("rule", decision.route), ("why not", decision.reason), ("remark", decision.remark)):
        if value:
            say(f"  {word}: {value}")


@quarantine.command("list")
def quarantine_list(as_json: AsJson = False) -> None:
    """List the work that was given up, and why."""
    items = [item.as_json() for item in operations.quarantine_list(bootstrap.open_database(load_settings()))]
    if as_json:
        print_json(items)
        return
    columns = ("ID", "kind", "for", "attempts", "since", "study", "error")
    keys = ("id", "kind", "lane", "attempts", "since", "study_instance_uid", "last_error")
    rows = ([item[key] for key in keys] for item in items)
    print_table(f"{len(items)} in quarantine", columns, rows, whole=("since", "study"))


@quarantine.command("retry")
def quarantine_retry(
    work_id: Annotated[int, typer.Argument(metavar="ID", help="As `quarantine list` shows it.")],
    as_json: AsJson = False,
) -> None:
    """Owe given-up work once more, with fresh attempts."""
    item = operations.quarantine_retry(_pipeline(load_settings()), work_id)
    if as_json:
        print_json(item.as_json())
    else:
        say(f"{item.subject}: {QUEUED[WorkKind(item.kind)]} again")


QUEUED = {
    WorkKind.INFER: "queued for classification",
    WorkKind.REPORT: "queued for its report",
    WorkKind.DELIVER: "queued for delivery",
}
"""What becomes of work that is owed, by its kind."""


def reprocess(
    study_uid: Annotated[str, typer.Argument(help="Study Instance UID.")],
    model: Annotated[str | None, typer.Option(help="NAME@VERSION or NAME; else the models it went to before.")] = None,
    as_json: AsJson = False,
) -> None:
    """Classify a study once more; a report that says something new becomes the next generation."""
    settings = load_settings()
    models = [bootstrap.model_registry(settings).find(model).card.identifier] if model else []
    owed = operations.reprocess(_pipeline(settings), study_uid, models)
    if as_json:
        print_json({"study_instance_uid": study_uid, "owed": owed})
        return
    if models:
        say(f"{counted(owed, 'instance')} {QUEUED[WorkKind.INFER]} by {models[0]}")
    else:
        say(f"{QUEUED[WorkKind.INFER]} by the models it went to before ({owed} to do)")


def acknowledge(
    study_uid: Annotated[str, typer.Argument(help="Study Instance UID.")],
    as_json: AsJson = False,
) -> None:
    """Say that the failure of a study is known: retention may then remove its stored bytes."""
    operations.acknowledge(_pipeline(load_settings()), study_uid)
    if as_json:
        print_json({"study_instance_uid": study_uid, "acknowledged": True})
    else:
        say("acknowledged; retention may remove its stored bytes when they are old enough")


def resend(
    study_uid: Annotated[str, typer.Argument(help="Study Instance UID.")],
    as_json: AsJson = False,
) -> None:
    """Send the newest report of a study again, to every destination."""
    if not is_uid(study_uid):
        raise NotFound(f"{study_uid!r} is no Study Instance UID")
    settings = load_settings()
    destinations = operations.resend(_pipeline(settings), study_uid, settings.pacs)
    if as_json:
        print_json({"study_instance_uid": study_uid, "destinations": destinations})
    else:
        say(f"{QUEUED[WorkKind.DELIVER]} to {', '.join(destinations)}")


def check(as_json: AsJson = False) -> None:
    """Check settings, database, broker, models, spool space and PACS: one line each, the fix in words."""
    settings = load_settings()
    made_data_dir(settings)
    findings = []
    for finding in check_all(settings):
        findings.append(finding)
        if not as_json:
            say(f"{'ok  ' if finding.ok else 'FAIL'}  {finding.name}: {finding.found}")
            if not finding.ok:
                say(f"      → {finding.fix}")
    if as_json:
        print_json([finding.as_json() for finding in findings])
    raise typer.Exit(0 if all(finding.ok for finding in findings) else 1)
