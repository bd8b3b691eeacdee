"""`firstread models`: list, show, verify, add, and the doors to predict, convert, train and evaluate."""

from pathlib import Path
from typing import Annotated, Any

import typer

from models.engines.choice import MIXED, can_run
from models.errors import ModelError
from models.folders import find_package, package_folder
from models.registry import Package, discard_staged, install_staged, stage_package
from worker import bootstrap
from worker.commands.model_common import Json, explained, model_settings, say_changes
from worker.commands.model_conversion import convert, engine_of, engine_summary, with_onnx
from worker.commands.model_evaluation import evaluate
from worker.commands.model_explanation import explain
from worker.commands.model_package import pack, template
from worker.commands.model_prediction import predict_files
from worker.commands.model_training import train
from worker.commands.model_views import card_page, package_table
from worker.commands.output import complain, out, print_json, say

app = typer.Typer(help="The classifiers: which there are, what they say, whether they are whole.", no_args_is_help=True)
app.command("predict")(predict_files)
app.command()(explain)
app.command("card")(template)
app.command()(pack)
app.command()(convert)
app.command()(train)
app.command()(evaluate)


@app.command("list")
def list_models(as_json: Json = False) -> None:
    """List the installed packages; broken ones too, with the reason."""
    with explained():
        settings = model_settings()
        registry = bootstrap.model_registry(settings)
    packages, broken = registry.scan()
    if as_json:
        failures = [{"path": str(item.path), "error": item.reason} for item in broken]
        print_json([_summary(package) | engine_summary(package, settings) for package in packages] + failures)
        return
    out.print(package_table(packages, lambda package: engine_of(package, settings).engine), highlight=False)
    for item in broken:
        complain(f"broken: {item.reason}")


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
    with explained():
        settings = model_settings()
        package = find_package(bootstrap.model_registry(settings), model)
    if as_json:
        print_json(package.card.model_dump(mode="json"))
    else:
        out.print(card_page(package.card, engine_of(package, settings)), highlight=False)


@app.command()
def verify(
    model: Annotated[
        str | None, typer.Argument(help="NAME, NAME@VERSION or a package's folder; without it, all.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check files against the card, load the network, replay its golden image; exit 1 where one fails."""
    with explained():
        registry = bootstrap.model_registry(model_settings())
        packages, broken = ([find_package(registry, model)], []) if model else registry.scan()
    results = [_verified(package) for package in packages]
    results += [{"path": str(item.path), "ok": False, "error": item.reason} for item in broken]
    if as_json:
        print_json(results)
    for result in [] if as_json else results:
        name = f"{result['model']}@{result['model_version']}" if "model" in result else result["path"]
        if result["ok"]:
            each = ", ".join(f"{engine} {difference:.1e}" for engine, difference in result["engines"].items())
            say(f"{name}: ok, golden image off by {each}, {result['tolerance']:g} allowed")
        else:
            say(f"{name}: FAILED, {result['error']}")
    if not results:
        complain("no model package is installed")
    if not results or not all(result["ok"] for result in results):
        raise typer.Exit(1)


def _verified(package: Package) -> dict[str, Any]:
    """Verify a package on every engine that is here."""
    from models.classifier import Classifier

    card = package.card
    result: dict[str, Any] = {"model": card.name, "model_version": card.version, "path": str(package.path)}
    engines: dict[str, float] = {}
    try:
        for engine in [name for name in ("keras", MIXED, "onnx") if can_run(package, name)] or ["auto"]:
            classifier = Classifier.load(package, engine=engine)
            engines[classifier.engine] = classifier.warm_up().difference
    except ModelError as error:
        return {**result, "ok": False, "difference": None, "tolerance": card.tolerance, "error": str(error)}
    worst = max(engines.values())
    return {**result, "ok": True, "difference": worst, "tolerance": card.tolerance, "engines": engines, "error": None}


@app.command()
def add(
    path: Annotated[
        Path, typer.Argument(help="A package's folder, or the --out of `train` with one package below it.")
    ],
) -> None:
    """Check a package and install it into MODELS_DIR, if it loads and gives its golden probabilities.

    Where firstread[onnx] is installed it gets its ONNX file too; one that it has is compared with its network.
    """
    from models.archive import check_archive
    from models.classifier import Classifier

    with explained():
        settings = model_settings()
        target = bootstrap.models_dir(settings)
        staged = stage_package(package_folder(path), target)
        try:
            check_archive(staged.weights)  # another machine may open it, where this one has no Keras
            classifier = Classifier.load(staged, engine="keras" if can_run(staged, "keras") else "auto")
            classifier.warm_up()
            staged = with_onnx(staged, classifier)
        except ModelError:
            discard_staged(staged)
            raise
        package = install_staged(staged, target)
    say(f"{package.identifier} installed: {package.path}")
    say_changes(settings, package)
