"""`firstread models`: list, show, verify, add, and the doors to predict, train and evaluate."""

from pathlib import Path
from typing import Annotated, Any

import typer

from models.errors import ModelError
from models.folders import find_package, package_folder
from models.registry import Package, discard_staged, install_staged, stage_package
from worker import bootstrap
from worker.commands.model_common import Json, explained, model_settings, say_changes
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
app.command()(train)
app.command()(evaluate)


@app.command("list")
def list_models(as_json: Json = False) -> None:
    """List the installed packages; broken ones too, with the reason."""
    with explained():
        registry = bootstrap.model_registry(model_settings())
    packages, broken = registry.scan()
    if as_json:
        failures = [{"path": str(item.path), "error": item.reason} for item in broken]
        print_json([_summary(package) for package in packages] + failures)
        return
    out.print(package_table(packages), highlight=False)
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
        card = find_package(bootstrap.model_registry(model_settings()), model).card
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
            say(f"{name}: ok, golden image off by {result['difference']:.1e}, {result['tolerance']:g} allowed")
        else:
            say(f"{name}: FAILED, {result['error']}")
    if not results:
        complain("no model package is installed")
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


@app.command()
def add(
    path: Annotated[
        Path, typer.Argument(help="A package's folder, or the --out of `train` with one package below it.")
    ],
) -> None:
    """Check a package and install it into MODELS_DIR, if it loads and gives its golden probabilities."""
    from models.classifier import Classifier

    with explained():
        settings = model_settings()
        target = bootstrap.models_dir(settings)
        staged = stage_package(package_folder(path), target)
        try:
            Classifier.load(staged).warm_up()
        except ModelError:
            discard_staged(staged)
            raise
        package = install_staged(staged, target)
    say(f"{package.identifier} installed: {package.path}")
    say_changes(settings, package)
