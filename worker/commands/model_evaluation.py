"""`firstread models evaluate`: how right a model is on labelled films, as figures and as a page."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from models.folders import find_package
from models.registry import Package
from worker import bootstrap
from worker.commands.model_common import Data, Json, Threads, bar, explained, load_classifier, model_settings
from worker.commands.model_results import json_text, need_target, printable, write_private
from worker.commands.model_views import metrics_page, thresholds_table
from worker.commands.output import complain, out, print_json, say

if TYPE_CHECKING:
    from models.training.dataset import Dataset
    from models.training.evaluate import Asked


def evaluate(
    model: Annotated[str, typer.Argument(help="NAME, NAME@VERSION or a package's folder.")],
    data: Data,
    split: Annotated[
        str, typer.Option(help="train, val or test; all: every film, whatever its split, as of films of your own.")
    ] = "test",
    rounds: Annotated[int, typer.Option(min=10, help="Bootstrap rounds.")] = 1000,
    output: Annotated[Path | None, typer.Option("--out", help="Write the JSON into this file too.")] = None,
    report: Annotated[
        Path | None,
        typer.Option("--report", metavar="FILE.html", help="Write a page to read; it holds films and stays with you."),
    ] = None,
    no_images: Annotated[
        bool, typer.Option("--no-images", help="Leave films and their file names out of the page.")
    ] = False,
    sensitivity: Annotated[
        list[float] | None,
        typer.Option(
            min=0.01, max=1.0, help="Show, too, thresholds that flag this share on validation; may be given again."
        ),
    ] = None,
    threads: Threads = 2,
    as_json: Json = False,
) -> None:
    """Measure a model on labelled films: accuracy, AUROC, sensitivity, by source, with patient-level intervals."""
    from models.training.dataset import load_dataset
    from models.training.details import detail
    from models.training.evaluate import measure, score
    from models.training.provenance import library_versions
    from models.training.report import Report, render
    from models.training.report.films import GreyValues, sheet
    from models.training.report.history import read_history
    from worker.commands.model_files import FilmReader

    chosen = _split(split)
    asked: Sequence[float] = sensitivity or ()
    evaluated_at = datetime.now(UTC).replace(microsecond=0)
    with explained(), ExitStack() as stack:
        for path, option in ((output, "--out"), (report, "--report")):
            if path is not None:
                need_target(path, option)
        settings = model_settings()
        package = find_package(bootstrap.model_registry(settings), model)
        card = package.card
        dataset = load_dataset(data, [label.name for label in card.labels])
        dataset, seen = _warned(package, dataset, chosen)
        classifier = load_classifier(package, settings)
        reader = stack.enter_context(FilmReader(settings, card.frame_policy, card.window))
        grey = GreyValues()
        scored = score(
            classifier, dataset, chosen, read=reader.read, threads=threads, watch=bar(stack, "films"), look=grey.look
        )
        validation = None
        if asked:
            watch = bar(stack, "validation films")
            validation = (
                scored
                if chosen == "val"
                else score(classifier, dataset, "val", read=reader.read, threads=threads, watch=watch)
            )
        metrics = measure(card, scored, split=chosen, rounds=rounds)
        details = detail(card, scored, validation=validation, sensitivities=asked, rounds=rounds)
        if report is not None:
            page = Report(
                card=card,
                dataset=dataset,
                scored=scored,
                metrics=metrics,
                details=details,
                history=read_history(package.path),
                grey=grey.density(scored, dataset.labels),
                sheet=None if no_images else sheet(card, scored, dataset.root, reader.read),
                libraries=library_versions(),
                evaluated_at=evaluated_at,
            )
            write_private(report, printable(render(page)).encode())
        result = {
            "model": card.name,
            "model_version": card.version,
            "evaluated_at": evaluated_at.isoformat(),
            **metrics.model_dump(mode="json"),
            "seen_in_training": seen,
            "details": details.model_dump(mode="json"),
        }
        if output is not None:
            write_private(output, (json_text(result) + "\n").encode())
    if as_json:
        print_json(result)
        return
    for line in dataset.notes:
        say(line)
    out.print(metrics_page(card, metrics), highlight=False)
    if asked:
        out.print(thresholds_table(details.operating_points), highlight=False)
    if report is not None:
        say(f"written: {report}" + ("" if no_images else "; it holds films of patients and stays with you"))


def _split(text: str) -> "Asked":
    from models.training.dataset import SPLITS

    splits: tuple[Asked, ...] = (*SPLITS, "all")
    for split in splits:
        if split == text:
            return split
    raise typer.BadParameter(f"{text!r} is none of {', '.join(splits)}", param_hint="--split")


def _warned(package: Package, dataset: "Dataset", split: "Asked") -> tuple["Dataset", int | None]:
    """Say if the network was taught some of the films, on standard error and in the notes; and return how many."""
    from models.training.evaluate import films_of
    from models.training.seen import note_of, seen_in_training

    films = films_of(dataset, split)
    seen = seen_in_training(package.path, films)
    note = note_of(seen, len(films), split)
    if note is None:
        return dataset, seen
    complain(note)
    return replace(dataset, notes=(*dataset.notes, note)), seen
