"""Results: studies, one study, and whether everything that was accepted is accounted for."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer

from worker import bootstrap
from worker.commands.output import complain, counted, err, print_json, print_table, say, tell
from worker.config import load_settings
from worker.intake.spool import Spool
from worker.reconcile import reconcile as reconcile_all
from worker.studies import PRIORITIES, STATUSES, StudyFilter, count_studies, list_studies, study_detail
from worker.study_words import result_words

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def studies(
    as_json: AsJson = False,
    search: Annotated[str, typer.Option(help="Words in patient ID, patient name or accession number.")] = "",
    status: Annotated[str | None, typer.Option(help="pending, complete, failed or not_eligible.")] = None,
    priority: Annotated[str | None, typer.Option(help="immediate, urgent, routine or none.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many; else all.")] = None,
    offset: Annotated[int, typer.Option(min=0, help="Leave out so many.")] = 0,
) -> None:
    """List the studies: immediate, urgent, failed, routine, pending, the rest; oldest first within each."""
    _require("--status", status, STATUSES)
    _require("--priority", priority, PRIORITIES)
    wanted = StudyFilter(search=search, status=status, priority=priority, limit=limit, offset=offset)
    settings = load_settings()
    database = bootstrap.open_database(settings)
    with database.read() as session:
        documents = list_studies(session, wanted)
        total = count_studies(session, wanted)
    if as_json:
        print_json(documents)
        return
    columns = ("priority", "AI", "patient ID", "modality", "accession", "received", "findings", "study")
    print_table(
        f"{len(documents)} of {counted(total, 'study', 'studies')}",
        columns,
        map(_row, documents),
        whole=("received", "study"),
    )
    if not total and wanted == StudyFilter(limit=limit, offset=offset):
        tell(f"nothing has come to {settings.data_dir} yet; is it what FIRSTREAD_DATA_DIR is for the services?")


def _require(option: str, value: str | None, allowed: Sequence[str]) -> None:
    if value is not None and value not in allowed:
        raise typer.BadParameter(f"{value!r} is none of {', '.join(allowed)}", param_hint=option)


def _row(document: dict[str, Any]) -> tuple[object, ...]:
    return (
        document["priority"],
        _spaced(document["ai_status"]),
        document["patient_id"],
        document["modality"],
        document["accession_number"],
        document["received_at"],
        result_words(document),
        document["study_instance_uid"],
    )


def show(
    study_uid: Annotated[str, typer.Argument(help="Study Instance UID.")],
    as_json: AsJson = False,
) -> None:
    """Show one study: what came of it and how far it is, then findings, instances, reports, deliveries."""
    database = bootstrap.open_database(load_settings())
    with database.read() as session:
        document = study_detail(session, study_uid)
    if as_json:
        print_json(document)
        return
    for name, value in _head(document):
        say(f"{name:<15} {value}")
    findings = [
        (
            f["label"],
            f"{f['probability']:.3f}",
            f["threshold"],
            "yes" if f["flagged"] else "no",
            f"{f['model']}@{f['model_version']}",
            f["sop_instance_uid"],
        )
        for f in document["findings"]
    ]
    instances = [(_spaced(i["status"]), i["sop_instance_uid"], _why(i)) for i in document["instances_detail"]]
    reports = [(r["generation"], r["kind"], r["sop_instance_uid"], _deliveries(r)) for r in document["reports"]]
    uid = "SOP Instance UID"
    for title, columns, rows in (
        ("findings", ("label", "probability", "flagged from", "flagged", "model", uid), findings),
        ("instances", ("AI status", uid, "reason"), instances),
        ("reports", ("generation", "kind", uid, "deliveries"), reports),
    ):
        if rows:
            print_table(title, columns, rows, whole=(uid,))


def _head(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what somebody wants to know first: what came of the study, how far it is, then whose it is."""
    from worker.worklist.presentation import report_lines

    status, counts = document["ai_status"], document["instances"]
    parts = ", ".join(f"{counts[key]} {_spaced(key)}" for key in _PARTS if counts[key])
    yield "result", result_words(document)
    yield "priority", document["priority"] if document["priority"] != "none" else _NO_PRIORITY[status]
    yield "AI", f"{_spaced(status)}: of {counted(counts['received'], 'instance')} received, {parts}"
    for line in report_lines(document):
        yield "report", f"{line.text}: {line.error}" if line.error else line.text
    if document["remark"]:
        yield "remark", document["remark"]
    if document["failure_acknowledged_at"]:
        by = document["failure_acknowledged_by"]
        yield "acknowledged", f"failure acknowledged on {document['failure_acknowledged_at']} by {by}"
    yield "study", document["study_instance_uid"]
    for name, key in (
        ("patient ID", "patient_id"), ("accession", "accession_number"), ("modality", "modality"),
        ("received", "received_at"), ("AI finished", "completed_at"),
    ):  # fmt: skip
        yield name, document[key] or "none"


_PARTS = ("classified", "failed", "not_eligible", "pending")
_NO_PRIORITY = {
    "complete": "none: no finding calls for one",
    "pending": "none yet: the AI is not done",
    "failed": "none: the AI failed, so this study is not triaged",
    "not_eligible": "none: the AI does not read this study",
}
"""What a study without a priority is told apart by; silence is never read as negative."""


def _spaced(word: str) -> str:
    return word.replace("_", " ")


def _why(instance: dict[str, Any]) -> str:
    removed = instance["bytes_removed_at"]
    parts = (instance["reason"], removed and f"stored bytes removed by retention on {removed}")
    return "; ".join(filter(None, parts))


def _deliveries(report: dict[str, Any]) -> str:
    return ", ".join(f"{d['destination']} {d['status']}{_COMMITTED[d['committed']]}" for d in report["deliveries"]) or (
        "no destination"
    )


_COMMITTED = {None: "", True: " and committed", False: ", not committed"}
"""What storage commitment adds to a delivery."""


def reconcile(
    as_json: AsJson = False,
    verify: Annotated[bool, typer.Option("--verify", help="Also read every stored file and compare digests.")] = False,
) -> None:
    """Account for everything accepted: complete + failed + not eligible + pending, spool against database."""
    settings = load_settings()
    database = bootstrap.open_database(settings)
    spool = Spool(settings.spool_dir)
    with err.status("comparing spool and database"):
        result = reconcile_all(database, spool, settings.reports_dir, verify=verify).as_json()
    if as_json:
        print_json(result)
    else:
        keys = ("accepted", "complete", "failed", "not_eligible", "pending")
        print_table("instances", [_spaced(key) for key in keys], [[result[key] for key in keys]])
        if result["removed_by_retention"]:
            say(f"of these, {result['removed_by_retention']} had their stored bytes removed by retention")
        for entry in result["unaccounted"]:
            what = entry.get("path") or entry.get("sop_instance_uid")
            complain(f"unaccounted: {what}: {entry['why']}")
    raise typer.Exit(1 if result["unaccounted"] else 0)
