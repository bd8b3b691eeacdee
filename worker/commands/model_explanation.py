"""`firstread models explain`: where in a film a model found what it says."""

import io
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from models.card import Card
from models.folders import find_package
from models.overlay import CAVEAT, NOTHING, Legend, overlay
from models.preprocessing import FloatArray, field_of_view
from models.registry import Package
from worker import bootstrap
from worker.commands.model_common import Json, explained, model_settings
from worker.commands.model_results import json_text, need_target, printable, write_private
from worker.commands.output import complain, say
from worker.config import Settings


class Method(StrEnum):
    """How a map is made."""

    GRAD_CAM = "grad-cam"
    OCCLUSION = "occlusion"


NAMES = {Method.GRAD_CAM: "Grad-CAM", Method.OCCLUSION: "Occlusion map"}


def explain(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A DICOM, PNG or JPEG file.")],
    output: Annotated[Path, typer.Option("--out", metavar="PICTURE.png", help="The picture to be written.")],
    model: Annotated[
        str | None,
        typer.Option("--model", help="NAME, NAME@VERSION or a package's folder; without it, the file decides."),
    ] = None,
    label: Annotated[
        str | None, typer.Option("--label", help="Of which label; without it, of the most probable finding.")
    ] = None,
    method: Annotated[
        Method | None, typer.Option("--method", help="Without it, Grad-CAM where the network has a convolution.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what in a film moved a model's answer, as a heat map over it: no localisation of disease."""
    if output.suffix.lower() != ".png":
        raise typer.BadParameter(f"{output} does not end in .png", param_hint="--out")
    from models.classifier import Classifier
    from models.explain import Explainer

    with explained():
        need_target(output, "--out")
        settings = model_settings()
        package, image = _opened(file, model, settings)
        card = package.card
        if label is not None and label not in {item.name for item in card.labels}:
            names = ", ".join(item.name for item in card.labels)
            raise typer.BadParameter(f"{card.identifier} has no label {label!r}; it has: {names}", param_hint="--label")
        classifier = Classifier.load(package, engine="keras")  # no other tells gradients
        prepared = classifier.prepare(image)[np.newaxis]
        row = classifier.probabilities(prepared)[0]
        probabilities = {item.name: float(p) for item, p in zip(card.labels, row, strict=True)}
        chosen = label or _most_probable_finding(card, probabilities)
        explainer = Explainer(classifier, method.value if method else None)
        heat = explainer.maps(prepared, [chosen])[0]
        result = {
            "file": str(file),
            "model": card.name,
            "model_version": card.version,
            "label": chosen,
            "probability": round(probabilities[chosen], 6),
            "flagged": chosen in card.flagged(probabilities),
            "method": explainer.method,
            "layer": explainer.layer,
            "empty": not heat.any(),
            "picture": str(output),
        }
        write_private(output, _picture(image, heat, card, result))
    if as_json:
        print(json_text(result))
    else:
        empty = f" {NOTHING}" if result["empty"] else ""
        say(printable(f"{output}: {_title(result)}; {_how(result)}.{empty}"))
        say(CAVEAT)


def _opened(file: Path, model: str | None, settings: Settings) -> tuple[Package, FloatArray]:
    """Return the one package that is to see a file, and its image."""
    from worker.commands.model_files import COLOURED, FileOpener

    chosen = find_package(bootstrap.model_registry(settings), model) if model else None
    with FileOpener(settings, chosen) as opener:
        opened = opener.open(file)
        if file in opener.coloured:
            complain(printable(f"{file}: {COLOURED}"))
    if len(opened) > 1:
        names = ", ".join(package.identifier for package, _ in opened)
        raise typer.BadParameter(f"the file goes to several models: {names}; name one", param_hint="--model")
    return opened[0]


def _most_probable_finding(card: Card, probabilities: dict[str, float]) -> str:
    return max((item.name for item in card.labels if item.finding), key=lambda name: probabilities[name])


def _title(result: dict[str, Any]) -> str:
    flagged = ", flagged" if result["flagged"] else ""
    return f"{result['label']}: probability {result['probability']:.3f}{flagged}"


def _how(result: dict[str, Any]) -> str:
    at = f" at layer {result['layer']}" if result["layer"] else ""
    return f"{NAMES[result['method']]}{at} of {result['model']}@{result['model_version']}"


def _picture(image: FloatArray, heat: FloatArray, card: Card, result: dict[str, Any]) -> bytes:
    """Return the PNG; it holds the film and what the legend says, no name and no number of the patient's."""
    from models.explain import on_image

    field = field_of_view(card.recipe, image, card.input.rows, card.input.columns)
    whole = image[field].shape == image.shape
    how = f"{_how(result)}." + ("" if whole else " The frame is what the network saw of the film.")
    png = io.BytesIO()
    overlay(image, on_image(heat, image, card), Legend(_title(result), how, field)).save(png, "PNG")
    return png.getvalue()
