"""`firstread models predict`: what a model says of files."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from models.bulk import Record, article_record, csv_text, files_under, predict
from models.card import Card
from models.folders import find_package
from models.registry import Package
from worker import bootstrap
from worker.commands.model_common import Json, bar, explained, load_classifier, model_settings
from worker.commands.model_results import json_text, need_target, printable, write_private
from worker.commands.model_views import prediction_table
from worker.commands.output import complain, counted, out, say

if TYPE_CHECKING:
    from models.classifier import Classifier

STANDARD_OUTPUT = Path("-")

AsRecord = Annotated[
    bool,
    typer.Option(
        "--record",
        help="Instead: JSON with the most probable label as Disease and its Probability; a list, but for one file.",
    ),
]
Csv = Annotated[
    Path | None,
    typer.Option(
        "--csv",
        metavar="FILE|-",
        help="CSV into this file, - for standard output: file, model, model_version, each label, flagged, error. A text"
        " that begins with =, +, - or @ gets an apostrophe before it, lest it be a formula.",
    ),
]
Out = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="The JSON into this file too.")]


def predict_files(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="DICOM, PNG or JPEG files, or folders.")],
    model: Annotated[
        str | None,
        typer.Option("--model", help="NAME, NAME@VERSION or a package's folder; without it, the file decides."),
    ] = None,
    as_record: AsRecord = False,
    csv_file: Csv = None,
    json_file: Out = None,
    as_json: Json = False,
) -> None:
    """Ask a model about files: a DICOM file is routed, a picture goes to the default chest film model."""
    cards: dict[str, Card] = {}
    with explained():
        _need_one_form(as_record=as_record, as_json=as_json, csv_file=csv_file, json_file=json_file)
        records = _predicted(paths, model, cards)
        value = _article_form(records, cards, single=_is_one_file(paths)) if as_record else records
        if json_file is not None:
            write_private(json_file, f"{json_text(value)}\n".encode())
        if csv_file not in {None, STANDARD_OUTPUT}:
            write_private(csv_file, printable(csv_text(records)).encode())
    if as_record or as_json:
        print(json_text(value))
    elif csv_file == STANDARD_OUTPUT:
        print(printable(csv_text(records)), end="")
    elif csv_file is None and json_file is None:
        out.print(prediction_table(records), highlight=False)
    else:
        written = ", ".join(str(file) for file in (json_file, csv_file) if file is not None)
        say(f"{counted(len(records), 'record')} written: {written}")
    _end(records, cards, as_record=as_record)


def _need_one_form(*, as_record: bool, as_json: bool, csv_file: Path | None, json_file: Path | None) -> None:
    """Raise if two forms would go to one place, or one to a place that cannot be."""
    if as_record and csv_file is not None:
        raise typer.BadParameter("--record is JSON; leave out --csv, or --record", param_hint="--record")
    if as_json and csv_file == STANDARD_OUTPUT:
        raise typer.BadParameter(
            "standard output takes one form; leave out --json, or write the CSV into a file", param_hint="--csv"
        )
    for file, option in ((csv_file, "--csv"), (json_file, "--out")):
        if file is not None and file != STANDARD_OUTPUT:
            need_target(file, option)
    if json_file == STANDARD_OUTPUT:
        raise typer.BadParameter("a file is wanted; for standard output say --json", param_hint="--out")
    if csv_file is not None and csv_file == json_file:
        raise typer.BadParameter("--csv and --out name the same file", param_hint="--out")


def _predicted(paths: Sequence[Path], model: str | None, cards: dict[str, Card]) -> list[Record]:
    """Ask; `cards` then holds the card of every model that answered."""
    from worker.commands.model_files import COLOURED, FileOpener

    with ExitStack() as stack:
        settings = model_settings()
        chosen = find_package(bootstrap.model_registry(settings), model) if model else None
        opener = stack.enter_context(FileOpener(settings, chosen))

        def load(package: Package) -> "Classifier":
            cards[package.identifier] = package.card
            return load_classifier(package, settings)

        files, unlisted = files_under(paths)
        records = predict(files, opener.open, load, watch=bar(stack, "files"))
        for record in records:
            if "error" not in record and Path(record["file"]) in opener.coloured:
                record["remark"] = COLOURED
        return [*records, *unlisted]


def _is_one_file(paths: Sequence[Path]) -> bool:
    return len(paths) == 1 and not paths[0].is_dir()


def _article_form(records: Sequence[Record], cards: dict[str, Card], *, single: bool) -> Any:
    """Return the article's record of one file, a list of those of several; what could not be read as it is."""
    rows = [
        record if "error" in record else article_record(record, cards[f"{record['model']}@{record['model_version']}"])
        for record in records
    ]
    return rows[0] if single and len(rows) == 1 else rows


def _end(records: Sequence[Record], cards: dict[str, Card], *, as_record: bool) -> None:
    """List on standard error what a reader of the result could miss, and end with 1 where a file gave none."""
    for record in records:
        if "error" not in record and "remark" in record:
            complain(printable(f"{record['file']}: {record['remark']}"))
        if as_record and "error" not in record:
            card = cards[f"{record['model']}@{record['model_version']}"]
            named = article_record(record, card)["Disease"]
            for label in record["flagged"]:
                if label != named:
                    probability = record["probabilities"][label]
                    complain(printable(f"{record['file']}: {label} is flagged all the same ({probability:.3f})"))
    bad = [record for record in records if "error" in record]
    if bad:
        complain(f"{len(bad)} of {len(records)} without a prediction:")
    for record in bad:
        complain(printable(f"  {record['file']}: {record['error']}"))
    if not records:
        complain("no files there")
    if bad or not records:
        raise typer.Exit(1)
