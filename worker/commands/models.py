"""`firstread models`: list, show, verify, predict, add, train, evaluate; thin doors into `models`."""

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from models.bulk import files_under, predict
from models.errors import ModelError, NotInstalledError, RecipeError
from models.folders import find_package, package_folder
from models.registry import Package, discard_staged, install_staged, stage_package
from worker import bootstrap
from worker.commands.model_views import card_page, change_lines, metrics_page, package_table, prediction_table
from worker.commands.output import err, out, print_json
from worker.config import Settings, load_settings
from worker.errors import FirstreadError, SettingsError
from worker.logs import configure_logs

if TYPE_CHECKING:
    from models.training.dataset import Split

app = typer.Typer(help="The classifiers: which there are, what they say, whether they are whole.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="JSON on standard output, and nothing else there.")]
Threads = Annotated[int, typer.Option("--threads", min=1, max=256, help="CPU threads.")]
Data = Annotated[
    Path, typer.Option("--data", help="Folder with the films and a labels.csv: file, label, split, patient_id.")
]


def _settings() -> Settings:
    """Read the settings, and send this process's log to standard error: standard output carries results alone."""
    settings = load_settings()
    configure_logs("models", settings.log_format)
    logging.getLogger("pydicom").setLevel(logging.ERROR)  # not its remarks about single values
    return settings


@contextmanager
def _explained() -> Iterator[None]:
    """Turn an expected error into words on standard error and an exit code: 2 for bad usage or settings, else 1."""
    try:
        yield
    except (SettingsError, NotInstalledError, RecipeError) as error:
        _say(str(error))
        raise typer.Exit(2) from None
    except (FirstreadError, ModelError) as error:
        _say(str(error))
        raise typer.Exit(1) from None


def _say(text: str) -> None:
    err.print(text, style="red", markup=False, highlight=False, soft_wrap=True)


def _line(text: str) -> None:
    out.print(text, markup=False, highlight=False, soft_wrap=True)


def _bar(stack: ExitStack, what: str) -> Callable[[int, int], None]:
    """Show progress on standard error, where that is a terminal."""
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=err, transient=True, disable=not err.is_terminal)
    stack.enter_context(progress)
    task = progress.add_task(what, total=None)
    return lambda done, total: progress.update(task, completed=done, total=total)


@app.command("list")
def list_models(as_json: Json = False) -> None:
    """List the installed packages; broken ones too, with the reason."""
    with _explained():
        registry = bootstrap.model_registry(_settings())
    packages, broken = registry.scan()
    if as_json:
        failures = [{"path": str(item.path), "error": item.reason} for item in broken]
        print_json([_summary(package) for package in packages] + failures)
        return
    out.print(package_table(packages), highlight=False)
    for item in broken:
        _say(f"broken: {item.reason}")


def _summary(package: Package) -> dict[str, Any]:
    card = package.card
    return {
        "model": card.name,
        "model_version": card.version,
        "title": card.title,
        "labels": [label.name for label in card.labels],
        "default_for": list(card.default_for),
        "accuracy": card.metrics.accuracy.value if card.metrics else None,
        "shipped": package.shipped,
        "path": str(package.path),
    }


@app.command()
def show(
    model: Annotated[str, typer.Argument(help="NAME, NAME@VERSION or a package's folder.")], as_json: Json = False
) -> None:
    """Show a model's card: what it is for, what it is not for, how well it does."""
    with _explained():
        card = find_package(bootstrap.model_registry(_settings()), model).card
    if as_json:
        print_json(card.model_dump(mode="json"))
    else:
        out.print(card_page(card), highlight=False)


@app.command()
def verify(
    model: Annotated[
        str | None, typer.Argument(help="NAME, NAME@VERSION or a package's folder; without it, all.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check files against the card, load the network, replay its golden image; exit 1 where one fails."""
    with _explained():
        registry = bootstrap.model_registry(_settings())
        packages, broken = ([find_package(registry, model)], []) if model else registry.scan()
    results = [_verified(package) for package in packages]
    results += [{"path": str(item.path), "ok": False, "error": item.reason} for item in broken]
    if as_json:
        print_json(results)
    for result in [] if as_json else results:
        name = f"{result['model']}@{result['model_version']}" if "model" in result else result["path"]
        golden = f"golden image within {result['difference']:.1e} of {result['tolerance']:g}" if result["ok"] else ""
        line = f"{name}: {'ok' if result['ok'] else 'FAILED'}, {result['error'] or golden}"
        _line(line)
    if not results:
        _say("no model package is installed")
    if not results or not all(result["ok"] for result in results):
        raise typer.Exit(1)


def _verified(package: Package) -> dict[str, Any]:
    from models.classifier import Classifier

    card = package.card
    result: dict[str, Any] = {"model": card.name, "model_version": card.version, "path": str(package.path)}
    try:
        replay = Classifier.load(package).warm_up()
    except ModelError as error:
        return {**result, "ok": False, "difference": None, "tolerance": card.tolerance, "error": str(error)}
    return {**result, "ok": True, "difference": replay.difference, "tolerance": replay.tolerance, "error": None}


@app.command("predict")
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

    with _explained(), ExitStack() as stack:
        settings = _settings()
        chosen = find_package(bootstrap.model_registry(settings), model) if model else None
        opener = stack.enter_context(FileOpener(settings, chosen))
        records = predict(
            files_under(paths),
            opener.open,
            lambda package: Classifier.load(package, engine=settings.engine),
            watch=_bar(stack, "files"),
        )
    if as_json:
        print_json(records)
    else:
        out.print(prediction_table(records), highlight=False)
    if not records:
        _say("no files there")
    if not records or any("error" in record for record in records):
        raise typer.Exit(1)


@app.command()
def add(
    path: Annotated[
        Path, typer.Argument(help="A package's folder, or the --out of `train` with one package below it.")
    ],
) -> None:
    """Check a package and install it into MODELS_DIR, if it loads and gives its golden probabilities."""
    from models.classifier import Classifier

    with _explained():
        settings = _settings()
        target = bootstrap.models_dir(settings)
        staged = stage_package(package_folder(path), target)
        try:
            Classifier.load(staged).warm_up()
        except ModelError:
            discard_staged(staged)
            raise
        package = install_staged(staged, target)
    _line(f"{package.identifier} installed: {package.path}")
    _say_changes(settings, package)


def _say_changes(settings: Settings, package: Package) -> None:
    installed = bootstrap.model_registry(settings).packages()
    for line in change_lines(package, installed, bootstrap.model_router(settings).routes):
        _line(line)


def _backbone(text: str) -> Path | None:
    return None if text == "none" else Path(text)


@app.command()
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

    with _explained(), ExitStack() as stack:
        settings = _settings()
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
        reader = stack.enter_context(FilmReader(settings, chosen.frame_policy))
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
            watch=_bar(stack, "evaluating"),
        )
        package = finish_package(folder)
    if as_json:
        print_json(package.card.model_dump(mode="json"))
    else:
        out.print(card_page(package.card), highlight=False)
        _line(f"written: {package.path}")
        if output is None:
            _say_changes(settings, package)


@app.command()
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
    with _explained(), ExitStack() as stack:
        settings = _settings()
        package = find_package(bootstrap.model_registry(settings), model)
        dataset = load_dataset(data, [label.name for label in package.card.labels])
        classifier = Classifier.load(package, engine=settings.engine)
        reader = stack.enter_context(FilmReader(settings, package.card.frame_policy))
        bar = _bar(stack, "films")
        scored = score(classifier, dataset, chosen, read=reader.read, threads=threads, watch=bar)
        metrics = measure(package.card, scored, split=chosen, rounds=rounds)
    result = {"model": package.card.name, "model_version": package.card.version, **metrics.model_dump(mode="json")}
    if output is not None:
        output.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if as_json:
        print_json(result)
    else:
        out.print(metrics_page(package.card, metrics), highlight=False)
