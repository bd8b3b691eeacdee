"""`firstread models train`: from labelled films to a package."""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from worker import bootstrap
from worker.commands.model_common import Data, Json, Threads, bar, explained, line_out, model_settings, say_changes
from worker.commands.model_views import card_page
from worker.commands.output import err, out, print_json


def _backbone(text: str) -> Path | None:
    return None if text == "none" else Path(text)


def train(
    recipe: Annotated[str, typer.Argument(help="Name of a training recipe, for example chest_xray_triage.")],
    data: Data,
    version: Annotated[str, typer.Option(help="Version of the package to be made, MAJOR.MINOR.PATCH.")],
    output: Annotated[
        Path | None, typer.Option("--out", help="Folder in which <recipe>/<version>/ is made; without it, MODELS_DIR.")
    ] = None,
    backbone_weights: Annotated[
        str, typer.Option(metavar="PATH|none", help="The backbone's ImageNet weights, a .h5 file; none: random.")
    ] = "none",
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.")] = 1,
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs at most; without it, the recipe's.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Films a step.")] = None,
    learning_rate: Annotated[float | None, typer.Option(min=1e-7, max=1.0, help="Largest learning rate.")] = None,
    limitation: Annotated[
        list[str] | None,
        typer.Option(help="What you know of the films that no count shows, for the card; may be given again."),
    ] = None,
    threads: Threads = 2,
    as_json: Json = False,
) -> None:
    """Train a recipe, decide thresholds on validation, evaluate on test, and write a package with its card."""
    from models.backend import set_threads
    from models.training.dataset import load_dataset
    from models.training.pack import discard_unless_trained, finish_package, git_commit, new_package_folder, pack
    from models.training.progress import TrainingProgress
    from models.training.recipes import find_recipe
    from models.training.train import train as fit_network
    from worker.commands.model_files import FilmReader

    with explained(), ExitStack() as stack:
        settings = model_settings()
        chosen = find_recipe(recipe)
        changes = {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate}
        given: dict[str, Any] = {name: value for name, value in changes.items() if value is not None}
        hyper_parameters = replace(chosen.hyper_parameters, **given)
        dataset = load_dataset(data, chosen.label_names)
        for split, counts in dataset.counts().items():
            err.print(f"{split}: {', '.join(f'{name} {count}' for name, count in counts.items())}", highlight=False)
        if not set_threads(threads):
            err.print("the number of threads of the network is fixed already; --threads holds for the films alone")
        if output is None:
            bootstrap.model_registry(settings).refuse_installed(f"{recipe}@{version}")
        folder = new_package_folder(output or bootstrap.models_dir(settings), chosen.name, version)
        stack.callback(discard_unless_trained, folder)
        err.print(f"working in {folder}", markup=False, highlight=False, soft_wrap=True)
        reader = stack.enter_context(FilmReader(settings, chosen.frame_policy, chosen.window))
        weights, commit = _backbone(backbone_weights), git_commit()
        with TrainingProgress(err) as progress:
            fit = fit_network(
                chosen,
                dataset,
                hyper_parameters=hyper_parameters,
                seed=seed,
                backbone_weights=weights,
                checkpoint=folder / "model.keras",
                threads=threads,
                read=reader.read,
                watch=progress.watch,
            )
        pack(
            chosen,
            dataset,
            fit,
            folder,
            hyper_parameters=hyper_parameters,
            seed=seed,
            initial_weights=f"{weights.name} (ImageNet)" if weights else "random",
            commit=commit,
            limitations=limitation or (),
            threads=threads,
            read=reader.read,
            watch=bar(stack, "evaluating"),
        )
        package = finish_package(folder)
    if as_json:
        print_json(package.card.model_dump(mode="json"))
    else:
        out.print(card_page(package.card), highlight=False)
        line_out(f"written: {package.path}")
        if output is None:
            say_changes(settings, package)
