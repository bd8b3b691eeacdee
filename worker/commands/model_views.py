"""Model cards, evaluations and predictions as a person reads them on a terminal."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rich.console import Group as Page
from rich.table import Table
from rich.text import Text

from models.bulk import Record
from models.card import Card, Group, Interval, Metrics
from models.engines.choice import Choice
from models.registry import Package
from worker.commands.model_results import printable
from worker.config import Route

if TYPE_CHECKING:
    from models.training.details import OperatingPoint


def shown(interval: Interval | None) -> str:
    """Write a value with its interval."""
    if interval is None or interval.value is None:
        return "-"
    if interval.low is None or interval.high is None:
        return f"{interval.value:.3f}"
    return f"{interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f})"


def package_table(packages: Sequence[Package], engine: Callable[[Package], str]) -> Table:
    """Lay out the installed packages, each with the engine that it runs on."""
    table = Table("model", "version", "what", "default for", "accuracy on test", "runs on", "from")
    for package in packages:
        card = package.card
        accuracy = shown(card.metrics.accuracy) if card.metrics else "not measured"
        origin = "shipped" if package.shipped else str(package.path)
        table.add_row(
            card.name, card.version, card.title, ", ".join(card.default_for), accuracy, engine(package), Text(origin)
        )
    return table


def prediction_table(records: Sequence[Record]) -> Table:
    """Lay out predictions, failures in their places."""
    table = Table("file", "model", "probabilities", "flagged")
    for record in records:
        if "error" in record:
            table.add_row(Text(printable(record["file"])), "", Text(record["error"], style="red"), "")
            continue
        probabilities = ", ".join(f"{name} {value:.3f}" for name, value in record["probabilities"].items())
        model = f"{record['model']}@{record['model_version']}"
        table.add_row(Text(printable(record["file"])), model, probabilities, ", ".join(record["flagged"]) or "-")
    return table


def change_lines(package: Package, installed: Sequence[Package], routes: Sequence[Route]) -> list[str]:
    """Say where films go once a package is installed.

    Parameters
    ----------
    package
        The package, installed just now.
    installed
        All that are installed, the newest version of a name last.
    routes
        The site's own routes and the shipped ones.
    """
    card = package.card
    versions = [other for other in installed if other.card.name == card.name]
    open_ended = any(route.model == card.name for route in routes)
    keeping = [route for route in routes if (route.model or "").startswith(f"{card.name}@")]
    others = [route for route in keeping if route.model != card.identifier]
    lines = []
    if open_ended and versions[-1].card.version != card.version:
        lines.append(f"films still go to {versions[-1].identifier}, which is newer")
    elif open_ended or len(others) < len(keeping):
        before = [other for other in versions if other.card.version != card.version]
        compared = f"; {before[-1].card.version} has {_accuracy(before[-1])}" if before else ""
        lines.append(
            f"new films go to {card.identifier} from the next start of intake and workers"
            f" (test accuracy {_accuracy(package)}{compared})"
        )
    elif not others:
        lines.append(
            f'no route sends films to {card.name}: name it in a [[route]] of the settings, model = "{card.name}"'
        )
    lines += [f"the route {route.name!r} keeps {route.model}" for route in others]
    return lines


def _accuracy(package: Package) -> str:
    metrics = package.card.metrics
    return "not measured" if metrics is None or metrics.accuracy.value is None else f"{metrics.accuracy.value:.3f}"


def card_page(card: Card, engine: Choice | None = None) -> Page:
    """Lay out a card: purpose and limits first, figures after; with the engine that it runs on here."""
    head = Table.grid(padding=(0, 2))
    shape = f"{card.input.rows} x {card.input.columns} x {card.input.channels}"
    rows = {
        "model": f"{card.identifier}: {card.title}",
        "for": card.intended_use,
        "not for": "\n".join(card.not_for),
        "limits": "\n".join(card.limitations) or "-",
        "input": f"{shape}, preprocessing {card.recipe}, of several frames: {card.frame_policy}"
        + (f", CT shown at {card.window}" if card.window else ""),
        "flagging": card.threshold_rule,
        "triage": card.triage_rule,
        "weights": f"SHA-256 {card.weights_sha256}",
    }
    if card.onnx:
        rows["ONNX file"] = f"SHA-256 {card.onnx.sha256}, within {card.onnx.difference:.2g} of Keras"
    if card.mixed_precision:
        mixed = card.mixed_precision
        rows["mixed precision"] = f"within {mixed.difference:.2g} of float32, {mixed.verified_with}"
    if engine:
        rows["runs on"] = f"{engine.engine}: {engine.why}"
    if card.training:
        training = card.training
        rows["training"] = (
            f"recipe {training.recipe}, {training.reference}; best of {training.epochs_run} epochs: "
            f"{training.best_epoch}; seed {training.seed}; began with {training.initial_weights}"
        )
        rows["trained on"] = ", ".join(dict.fromkeys(source.name for source in training.sources))
    for name, text in rows.items():
        head.add_row(Text(name, style="bold"), Text(text))
    labels = Table("label", "code", "flagged from", "priority", title="Labels")
    for label in card.labels:
        code = f"{label.code.meaning} ({label.code.value}, {label.code.scheme})" if label.code else "-"
        steps = ", ".join(f"{step.priority} from {step.at_least:g}" for step in label.triage) or "-"
        threshold = f"{label.threshold:g}" if label.threshold is not None else "never"
        labels.add_row(label.name, code, threshold, steps)
    return Page(head, labels, *([metrics_page(card, card.metrics)] if card.metrics else []))


def metrics_page(card: Card, metrics: Metrics) -> Page:
    """Lay out an evaluation."""
    title = (
        f"{metrics.split}: {metrics.images} films of {metrics.patients} patients, accuracy {shown(metrics.accuracy)}, "
        f"macro F1 {shown(metrics.macro_f1)}"
    )
    if metrics.loss is not None:
        title += f", cross-entropy {metrics.loss:.3f}"
    labels = Table("label", "films", "AUROC", "sensitivity", "specificity", title=title, title_justify="left")
    called = Table("called", "precision", "recall", "F1")
    for name, row in metrics.labels.items():
        labels.add_row(name, str(row.images), shown(row.auroc), shown(row.sensitivity), shown(row.specificity))
        called.add_row(name, shown(row.precision), shown(row.recall), shown(row.f1))
    confusion = Table("true label", *(f"as {label.name}" for label in card.labels), title="Most probable label")
    for label, counts in zip(card.labels, metrics.confusion, strict=True):
        confusion.add_row(label.name, *(str(count) for count in counts))
    by_source = _groups("source", metrics.by_source)
    by_age = _groups("age group", metrics.by_age_group)
    note = f"Intervals: {metrics.bootstrap}. Sensitivity and specificity are at the card's thresholds."
    if metrics.calibration:
        note += (
            f" Expected calibration error {metrics.calibration.after:.3f}, before the card's temperature"
            f" {metrics.calibration.before:.3f} ({metrics.calibration.bins} bins)."
        )
    measured = any(row.f1 for row in metrics.labels.values())  # cards of before have none of it
    return Page(labels, confusion, *([called] if measured else []), by_source, by_age, Text(note, style="dim"))


def _groups(what: str, groups: dict[str, Group]) -> Table:
    from models.training.details import SMALL

    table = Table(what, "films", "accuracy", "macro F1", "AUROC by label", "right by label")
    for name, group in groups.items():
        right = ", ".join(f"{label} {share.right}/{share.images}" for label, share in group.labels.items())
        auroc = ", ".join(f"{label} {_value(found)}" for label, found in group.auroc.items()) or "-"
        accuracy = shown(group.accuracy) if group.images >= SMALL else "too few films to say"
        table.add_row(Text(name), str(group.images), accuracy, _value(group.macro_f1), auroc, right)
    return table


def _value(interval: Interval | None) -> str:
    return "-" if interval is None or interval.value is None else f"{interval.value:.3f}"


def thresholds_table(points: "Sequence[OperatingPoint]") -> Table:
    """Lay out what the card's thresholds do, and those that validation films give for another sensitivity."""
    columns = ("finding", "threshold", "chosen for", "on validation", "sensitivity", "specificity", "flagged of all")
    table = Table(*columns, title="Thresholds", title_justify="left")
    for point in points:
        asked = "the card" if point.asked is None else f"sensitivity {point.asked:g}"
        reached = "" if point.validation is None else f"{point.validation:.3f}"
        figures = (shown(figure) for figure in (point.sensitivity, point.specificity, point.flagged))
        table.add_row(point.label, f"{point.threshold:g}", asked, reached, *figures)
    return table
