"""The pictures of a report. Each has a table beside it on the page: nothing is said by a picture alone."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from models.card import Card, Group, Interval
from models.training.curves import LabelCurves
from models.training.details import Reliability
from models.training.report.svg import SHARES, Plot, cut, ticks

ENOUGH_TO_DRAW = 5
"""Films below which a point of the reliability curve is drawn hollow."""

SERIES = 6
"""Colours there are; a further label begins again with another dash."""


def look(index: int) -> str:
    """Colour and dash of a label, so that neither has to be told apart alone."""
    return f"c{index % SERIES} d{index % 4}"


def confusion(card: Card, counts: Sequence[Sequence[int]]) -> Markup:
    """Draw the confusion matrix: the darker the cell, the larger its share of the films of the row's label."""
    names = [label.name for label in card.labels]
    size = len(names)
    told = "; ".join(
        f"{true}: " + ", ".join(f"{count} called {called}" for called, count in zip(names, row, strict=True))
        for true, row in zip(names, counts, strict=True)
    )
    side, room = (70, 12) if size <= 5 else (54, 8)
    plot = Plot(
        f"Confusion matrix, a row a true label, a column the most probable label. {told}.",
        x=(0, size), y=(size, 0), width=104 + side * size, height=64 + side * size, left=96, right=8, top=56, bottom=8,
    )  # fmt: skip
    plot.text((size / 2, 0), "most probable label", "name middle", down=-40)
    plot.text((0, 0), "true label", "name end", right=-8, down=-12)
    for i, (name, row) in enumerate(zip(names, counts, strict=True)):
        plot.text((i + 0.5, 0), cut(name, room), "tick middle", down=-12)
        plot.text((0, i + 0.5), cut(name, 14), "tick end", right=-8, down=4)
        for j, count in enumerate(row):
            share = count / sum(row) if sum(row) else 0.0
            plot.box((j + 0.03, i + 0.97), (j + 0.97, i + 0.03), "cell", max(share, 0.05))
            strong = " strong" if share > 0.66 else ""
            said = f"{share:.2f}" if sum(row) else "-"
            plot.text((j + 0.5, i + 0.5), said, f"share middle{strong}", down=0)
            plot.text((j + 0.5, i + 0.5), str(count), f"count middle{strong}", down=16)
    return plot.svg()


def roc(name: str, index: int, curves: LabelCurves, auroc: Interval) -> Markup:
    """Draw a ROC curve with the band that 95 % of the bootstrap rounds keep to."""
    plot = Plot(f"ROC curve of {name}: area {auroc.value}; sensitivity over false alarms, with a 95 % band.")
    plot.axes("false alarms (1 - specificity)", "sensitivity")
    plot.stretch((0, 0), (1, 1), "chance")
    low = [(point.false_positive_rate, point.low) for point in curves.roc_band]
    plot.band(low, [(point.false_positive_rate, point.high) for point in curves.roc_band], look(index))
    plot.line(curves.roc, f"solid c{index % SERIES}")
    return plot.svg()


def precision_recall(name: str, index: int, curves: LabelCurves) -> Markup:
    """Draw precision over recall, and the precision of flagging every film."""
    area = curves.average_precision.value
    plot = Plot(f"Precision over sensitivity of {name}: average precision {area}, {curves.prevalence} by chance.")
    plot.axes("sensitivity (recall)", "precision")
    plot.stretch((0, curves.prevalence), (1, curves.prevalence), "chance")
    plot.steps(curves.precision_recall, f"solid c{index % SERIES}")
    return plot.svg()


def by_threshold(name: str, threshold: float, curves: LabelCurves, word: str) -> Markup:
    """Draw what every threshold would give, and where the card's stands."""
    plot = Plot(
        f"Sensitivity, specificity and share flagged of {name} at every threshold; the card's is {threshold:g}."
    )
    plot.axes("threshold", f"share of {word}s")
    for key, style in (("sensitivity", "solid c1"), ("specificity", "c3 d1"), ("flagged", "c0 d2")):
        found = [(point.threshold, getattr(point, key)) for point in curves.by_threshold]
        plot.line([(x, y) for x, y in found if y is not None], style)
    plot.stretch((threshold, 0), (threshold, 1), "mark")
    aside = threshold > 0.75
    plot.text((threshold, 0), f"{threshold:g}", f"at {'end' if aside else ''}", right=-5 if aside else 5, down=-6)
    return plot.svg()


def reliability(found: Reliability, word: str) -> Markup:
    """Draw the share that was right over the probability that was given, before and after the temperature."""
    plot = Plot(
        f"Reliability: share of {word}s whose most probable label was right, over the probability it was given. On the"
        f" diagonal both are the same. Mean distance {found.error_before.value} before and {found.error_after.value}"
        " after the temperature.",
    )
    plot.axes("probability of the most probable label", "share right")
    plot.stretch((0, 0), (1, 1), "chance")
    for held in found.after:
        if held.films < ENOUGH_TO_DRAW or held.mean is None:
            continue
        if held.right.low is not None and held.right.high is not None:
            plot.stretch((held.mean, held.right.low), (held.mean, held.right.high), "whisker c1")
    for bins, style in ((found.before, "c0 d1"), (found.after, "solid c1")):
        points = [(held.mean, held.right.value, held.films) for held in bins]
        told = [(mean, right, films) for mean, right, films in points if mean is not None and right is not None]
        plot.line([(mean, right) for mean, right, _ in told], style)
        for mean, right, films in told:
            plot.dot((mean, right), f"{style} {'hollow' if films < ENOUGH_TO_DRAW else ''}", 3.5)
    return plot.svg()


def sureness(found: Reliability, word: str) -> Markup:
    """Draw how many films stand behind each point of the reliability curve."""
    most = max(held.films for held in found.after)
    told = ", ".join(f"{held.films} from {held.low:g} to {held.high:g}" for held in found.after if held.films)
    plot = Plot(
        f"{word.capitalize()}s by the probability of their most probable label: {told}.", y=(0, most), height=150
    )
    plot.axes("probability of the most probable label", f"{word}s", y_ticks=ticks(0, most, 4))
    for held in found.after:
        if held.films:
            plot.box((held.low + 0.006, 0), (held.high - 0.006, held.films), "bar c1")
    return plot.svg()


def groups(what: str, found: Mapping[str, Group], whole: Interval, small: int, word: str) -> Markup:
    """Draw the accuracy of each part of the set with its interval, beside that of the whole."""
    told = ", ".join(f"{name} {group.accuracy.value} of {group.images}" for name, group in found.items())
    height = 62 + 30 * len(found)
    plot = Plot(
        f"Accuracy by {what}: {told}. All {word}s: {whole.value}.",
        y=(len(found), 0), width=350, height=height, left=138, top=16, bottom=42,
    )  # fmt: skip
    plot.axes("accuracy", "", y_ticks=())
    if whole.value is not None:
        plot.stretch((whole.value, 0), (whole.value, len(found)), "mark")
    for row, (name, group) in enumerate(found.items()):
        at = row + 0.5
        plot.text((0, at), f"{cut(name, 15)} · {group.images}", "tick end", right=-9, down=4)
        accuracy = group.accuracy
        if group.images < small or accuracy.value is None:
            plot.text((0, at), f"too few {word}s to say", "tick soft", right=8, down=4)
            continue
        if accuracy.low is not None and accuracy.high is not None:
            plot.stretch((accuracy.low, at), (accuracy.high, at), "whisker c1")
        plot.dot((accuracy.value, at), "c1", 5)
    return plot.svg()


def history(what: str, series: Mapping[str, Sequence[tuple[float, float]]], best: int | None) -> Markup:
    """Draw what became of a figure over the epochs of training, one line a series."""
    values = [value for points in series.values() for _, value in points]
    last = max(epoch for points in series.values() for epoch, _ in points)
    low, high = (0.0, 1.0) if what == "accuracy" else (0.0, max(values) * 1.05 or 1.0)
    told = "; ".join(f"{name} from {points[0][1]:.3f} to {points[-1][1]:.3f}" for name, points in series.items())
    plot = Plot(f"Training, {what} by epoch: {told}.", x=(1, max(last, 2)), y=(low, high), height=250)
    plot.axes(
        "epoch", what,
        x_ticks=[tick for tick in ticks(1, last, 7) if tick == int(tick)],
        y_ticks=SHARES if what == "accuracy" else ticks(low, high),
    )  # fmt: skip
    if best is not None and best <= last:
        plot.stretch((best, low), (best, high), "mark")
    for name, points in series.items():
        style = "solid c1" if name == "validation" else "c0 d1"
        plot.line(points, style)
        if len(points) == 1:
            plot.dot(points[0], style)
    return plot.svg()


def grey_values(density: Mapping[str, Sequence[float]], order: Sequence[str]) -> Markup:
    """Draw the mean density of grey values of each label's films.

    Black and white borders stand far above everything else; the drawing ends where the values between them end.
    """
    inner = [value for values in density.values() for value in values[2:-2]]
    top = max(inner, default=0.0) * 1.08 or 1.0
    plot = Plot(
        f"Grey values, from black to white, one line a label: {', '.join(density)}.",
        x=(0, 255), y=(0, top), width=350, height=260,
    )  # fmt: skip
    plot.axes("grey value (0 black, 255 white)", "share of pixels", x_ticks=(0, 64, 128, 192, 255), y_ticks=())
    for name, values in density.items():
        width = 255 / len(values)
        plot.line([((i + 0.5) * width, min(value, top)) for i, value in enumerate(values)], look(order.index(name)))
    return plot.svg()
