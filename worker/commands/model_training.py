"""`firstread models train`: from labelled films to a package."""

from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worker import bootstrap
from worker.commands.model_common import Data, Json, Threads, explained, model_settings, say_changes
from worker.commands.model_training_folds import cross_validation, show_folds
from worker.commands.model_training_plan import DEFAULT_SEED, Asked, changes, new_run, resumed_run
from worker.commands.model_training_run import run_to_package, show_films
from worker.commands.model_views import card_page
from worker.commands.output import out, print_json, say, tell

if TYPE_CHECKING:
    from models.training.dataset import Dataset


def train(
    recipe: Annotated[str, typer.Argument(help="Name of a training recipe, for example chest_xray_triage.")],
    data: Data,
    output: Annotated[
        Path | None, typer.Option("--out", help="Folder in which <recipe>/<version>/ is made; without it, MODELS_DIR.")
    ] = None,
    version: Annotated[
        str | None,
        typer.Option(
            help="Of the package to be made, MAJOR.MINOR.PATCH; without it 1.0.0, or the next minor version after those"
            " installed and in --out."
        ),
    ] = None,
    backbone_weights: Annotated[
        str | None,
        typer.Option(
            metavar="imagenet|PATH|none",
            help="What the backbone begins with: ImageNet weights that Keras downloads, a file of the recipe's"
            " backbone, or chance; without it, what the recipe says.",
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs at most; without it, the recipe's.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Films a step at most.")] = None,
    learning_rate: Annotated[float | None, typer.Option(min=0, max=1, help="Largest learning rate.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Any hyper-parameter, as patience=5; may be given again."),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, help=f"Of all that is random in training, not of the split; {DEFAULT_SEED} without it."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run that was broken off in --out.")] = False,
    run: Annotated[Path | None, typer.Option(help="With --resume: the run's folder, where there are several.")] = None,
    finish: Annotated[
        bool, typer.Option("--finish", help="With --resume: learn no more, make the package of the best epoch so far.")
    ] = False,
    folds: Annotated[
        int | None, typer.Option(min=3, help="Cross-validate over so many folds of patients; makes no package.")
    ] = None,
    leave_one_source_out: Annotated[
        bool,
        typer.Option(
            "--leave-one-source-out",
            help="Train once for each source without it, and test on its films; makes no package.",
        ),
    ] = False,
    limitation: Annotated[
        list[str] | None,
        typer.Option(help="What you know of the films that no count shows, for the card; may be given again."),
    ] = None,
    threads: Threads = 2,
    as_json: Json = False,
) -> None:
    """Train a recipe, decide thresholds on validation, evaluate on test, and write a package with its card.

    Ctrl-C ends after the step it is in; --resume goes on, after a crash too.
    """
    from models.backend import set_threads
    from models.training.dataset import load_dataset
    from models.training.enough import refuse_too_few
    from models.training.recipes import find_recipe
    from models.training.sources import leave_one_source_out as sources_left_out
    from worker.commands.model_files import FilmReader

    validates = folds is not None or leave_one_source_out
    if folds and leave_one_source_out:
        raise typer.BadParameter("one cross-validation at a time: --folds or this", param_hint="--leave-one-source-out")
    _refuse_mixtures(resume=resume, run=run, finish=finish, folds=validates, begins_with=backbone_weights)
    given = changes(settings or (), epochs=epochs, batch_size=batch_size, learning_rate=learning_rate)
    with explained(), ExitStack() as stack:
        own = model_settings()
        chosen = find_recipe(recipe)
        asked = Asked(chosen, given, seed, backbone_weights, tuple(limitation or ()))
        if not set_threads(threads):
            tell("the number of threads of the network is fixed already; --threads holds for the films alone")
        read = stack.enter_context(FilmReader(own, chosen.frame_policy, chosen.window)).read
        if folds:
            load = partial(load_dataset, data, chosen.label_names, folds=folds)
            each = {str(fold + 1): partial(load, fold=fold) for fold in range(folds)}
            show_folds(cross_validation(asked, each, threads, read), as_json=as_json)
            return
        dataset = load_dataset(data, chosen.label_names)
        if leave_one_source_out:
            without, notes = sources_left_out(dataset)
            each = {source: partial(_itself, left) for source, left in without.items()}
            show_folds(cross_validation(asked, each, threads, read, notes), as_json=as_json)
            return
        show_films(dataset)
        refuse_too_few(dataset)
        models_dir = output or bootstrap.models_dir(own)
        if resume:
            plan = resumed_run(asked, models_dir, version, run)
        else:
            plan = new_run(asked, models_dir, version, bootstrap.model_registry(own), installs=output is None)
        again = [recipe, "--data", str(data), *(["--out", str(output)] if output else [])]
        package = run_to_package(plan, dataset, threads=threads, read=read, finish=finish, again=again)
    if as_json:
        print_json(package.card.model_dump(mode="json"))
    else:
        out.print(card_page(package.card), highlight=False)
        say(f"written: {package.path}")
        if output is None:
            say_changes(own, package)
        else:
            say(f"next: firstread models evaluate {package.path} --data {data} --report report.html")
            say(f"      firstread models add {package.path}")


def _itself(dataset: "Dataset") -> "Dataset":
    return dataset


def _refuse_mixtures(*, resume: bool, run: Path | None, finish: bool, folds: bool, begins_with: str | None) -> None:
    for option, there in (("--run", run is not None), ("--finish", finish)):
        if there and not resume:
            raise typer.BadParameter("it goes with --resume", param_hint=option)
    if folds and resume:
        raise typer.BadParameter("a cross-validation keeps nothing that could be resumed", param_hint="--folds")
    if resume and begins_with is not None:
        raise typer.BadParameter("a run that goes on has its weights already", param_hint="--backbone-weights")
