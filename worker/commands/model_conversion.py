"""`firstread models convert`: a package's ONNX file; and the same where a package is made or added."""

from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from models.engines.choice import Choice, choose, missing
from models.errors import ModelError
from models.folders import find_package
from models.registry import Package
from worker import bootstrap
from worker.commands.model_common import Json, bar, explained, model_settings
from worker.commands.output import complain, print_json, say, tell
from worker.config import Settings

if TYPE_CHECKING:
    from models.classifier import Classifier


def convert(
    model: Annotated[str, typer.Argument(help="NAME, NAME@VERSION or a package's folder.")],
    mixed_precision: Annotated[
        bool, typer.Option("--mixed-precision", help="Compare float16 on this GPU instead, and allow it in the card.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Give a package its ONNX file, compared with Keras; where it has one, compare that again. Its weights stay."""
    if mixed_precision:
        _mixed_precision(model, as_json=as_json)
        return
    with explained(), ExitStack() as stack:
        settings = model_settings()
        package = converted(find_package(bootstrap.model_registry(settings), model), stack)
        choice = choose(package, settings.engine, settings.precision)
    found = package.card.onnx
    assert found is not None  # noqa: S101 - it was made, or there was an error
    if as_json:
        named = {"model": package.card.name, "model_version": package.card.version, "path": str(package.path)}
        print_json({**named, "onnx": found.model_dump(mode="json"), "engine": choice.engine})
        return
    bits = "the same bits" if found.batch_invariant else "OTHER bits"
    say(f"{package.identifier}: {package.onnx}, {found.exporter}, {found.runtime}")
    say(f"  within {found.difference:.2g} of Keras over {found.inputs} images, {bits} in batches of 1 to 32")
    say(f"  it runs on {choice.engine}: {choice.why}")


def _mixed_precision(model: str, *, as_json: bool) -> None:
    """Compare mixed precision with float32, and say what the card says now."""
    from models.mixed_precision import allow_mixed_precision

    with explained():
        settings = model_settings()
        package = allow_mixed_precision(find_package(bootstrap.model_registry(settings), model))
        choice = choose(package, settings.engine, "mixed")
    found = package.card.mixed_precision
    assert found is not None  # noqa: S101 - it is allowed, or there was an error
    if as_json:
        named = {"model": package.card.name, "model_version": package.card.version, "path": str(package.path)}
        print_json({**named, "mixed_precision": found.model_dump(mode="json"), "engine": choice.engine})
        return
    say(f"{package.identifier}: mixed precision is within {found.difference:.2g} of float32 over {found.inputs} images")
    say(f"  {found.verified_with}")
    if choice.refused:
        complain(f"  it is not used: {choice.refused}")
    elif settings.precision != "mixed":
        say("  set FIRSTREAD_PRECISION=mixed to use it")


def converted(package: Package, stack: ExitStack, reference: "Classifier | None" = None) -> Package:
    """Convert a package, with a progress bar; see `models.conversion.convert`."""
    from models.conversion import convert as convert_package

    return convert_package(package, reference=reference, watch=bar(stack, "ONNX file"))


def with_onnx(package: Package, reference: "Classifier | None" = None) -> Package:
    """Give a package that was just made or staged its ONNX file; where that cannot be, say why and go on without.

    Parameters
    ----------
    reference
        The same on Keras, where it is loaded already.

    Raises
    ------
    ModelError
        If it came with one, and that is not the same network.
    """
    if absent := missing("onnxruntime", "onnx", "tf2onnx", "tensorflow"):
        if package.card.onnx is None:
            tell(f"no ONNX file was made: {absent} is not installed; `firstread models convert` makes one later")
        return package
    try:
        with ExitStack() as stack:
            return converted(package, stack, reference)
    except ModelError as error:
        if package.card.onnx is not None:
            raise
        complain(f"no ONNX file was made, so it runs on Keras: {error}")
        return package


def engine_of(package: Package, settings: Settings) -> Choice:
    """Say which engine a package runs on here, and why; `none`, and why not, where it cannot run."""
    try:
        choice = choose(package, settings.engine, settings.precision)
    except ModelError as error:
        return Choice("none", str(error))
    if choice.refused:
        return replace(choice, why=f"{choice.why}; in float32, because {choice.refused}")
    return choice


def engine_summary(package: Package, settings: Settings) -> dict[str, Any]:
    """Return the same for JSON."""
    choice = engine_of(package, settings)
    return {"engine": choice.engine, "engine_because": choice.why}
