"""`firstread models evaluate`: how right a model is on labelled films."""

import json
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from models.folders import find_package
from worker import bootstrap
from worker.commands.model_common import Data, Json, Threads, bar, explained, model_settings
from worker.commands.model_views import metrics_page
from worker.commands.output import out, print_json

if TYPE_CHECKING:
    from models.training.dataset import Split


def evaluate(
    model: Annotated[str, typer.Argument(help="NAME, NAME@VERSION or a package's folder.")],
    data: Data,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    rounds: Annotated[int, typer.Option(min=10, help="Bootstrap rounds.")] = 1000,
    output: Annotated[Path | None, typer.Option("--out", help="Write the JSON into this file too.")] = None,
    threads: Threads = 2,
    as_json: Json = False,
) -> None:
    """Measure a model on labelled films: accuracy, AUROC, sensitivity, by source, with patient-level intervals."""
    from models.classifier import Classifier
    from models.training.dataset import SPLITS, load_dataset
    from models.training.evaluate import measure, score
    from worker.commands.model_files import FilmReader

    if split not in SPLITS:
        raise typer.BadParameter(f"{split!r} is none of {', '.join(SPLITS)}", param_hint="--split")
    chosen: Split = split
    with explained(), ExitStack() as stack:
        settings = model_settings()
        package = find_package(bootstrap.model_registry(settings), model)
        dataset = load_dataset(data, [label.name for label in package.card.labels])
        classifier = Classifier.load(package, engine=settings.engine)
        reader = stack.enter_context(FilmReader(settings, package.card.frame_policy, package.card.window))
        watch = bar(stack, "films")
        scored = score(classifier, dataset, chosen, read=reader.read, threads=threads, watch=watch)
        metrics = measure(package.card, scored, split=chosen, rounds=rounds)
    result = {"model": package.card.name, "model_version": package.card.version, **metrics.model_dump(mode="json")}
    if output is not None:
        output.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if as_json:
        print_json(result)
    else:
        out.print(metrics_page(package.card, metrics), highlight=False)
