"""`firstread models predict`: what a model says of files."""

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from models.bulk import files_under, predict
from models.folders import find_package
from worker import bootstrap
from worker.commands.model_common import Json, bar, explained, model_settings, say
from worker.commands.model_views import prediction_table
from worker.commands.output import out, print_json


def predict_files(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="DICOM, PNG or JPEG files, or folders.")],
    model: Annotated[
        str | None,
        typer.Option("--model", help="NAME, NAME@VERSION or a package's folder; without it, the file decides."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Ask a model about files: a DICOM file is routed, a picture goes to the default chest film model."""
    from models.classifier import Classifier
    from worker.commands.model_files import FileOpener

    with explained(), ExitStack() as stack:
        settings = model_settings()
        chosen = find_package(bootstrap.model_registry(settings), model) if model else None
        opener = stack.enter_context(FileOpener(settings, chosen))
        records = predict(
            files_under(paths),
            opener.open,
            lambda package: Classifier.load(package, engine=settings.engine),
            watch=bar(stack, "files"),
        )
    if as_json:
        print_json(records)
    else:
        out.print(prediction_table(records), highlight=False)
    if not records:
        say("no files there")
    if not records or any("error" in record for record in records):
        raise typer.Exit(1)
