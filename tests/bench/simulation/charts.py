"""The charts of a simulation, PNG and SVG: how far sites go, what is full first, and how long a scan waits."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tests.bench.simulation.tables import LEAST, name_of

STYLE = {
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "firstread",
    "svg.fonttype": "none",
}
COLOURS = ("#15629c", "#b35c00", "#1a7040", "#8331a7", "#b3261e", "#4c5f55", "#7a6200", "#00707a")
POINTS = ("p50", "p95", "p99")
DASHES = ("-", "--", ":")


def draw(documents: Mapping[str, Mapping[str, Any]], folder: Path) -> Iterator[Path]:
    """Draw what there is to each scenario; yield the files."""
    folder.mkdir(parents=True, exist_ok=True)
    drawers = {"hospital-day": day, "regional-morning": region, "sweep": size}
    for name, document in documents.items():
        with mpl.rc_context(STYLE):
            figure = Figure(figsize=(9, 7.2 if name == "sweep" else 3.6), layout="constrained")
            drawers[name](figure, document)
            for suffix, metadata in ((".png", {"Software": None}), (".svg", {"Date": None})):
                path = folder / f"scaling-{name}{suffix}"
                figure.savefig(path, dpi=110, metadata=metadata)
                yield path


def day(figure: Figure, document: Mapping[str, Any]) -> None:
    """Draw what comes in and what lies unread, hour by hour."""
    left = figure.subplots()
    hours = [row["hour"] for row in document["hours"]]
    left.bar(hours, [row["received"] for row in document["hours"]], color=COLOURS[0], label="instances received")
    left.set(xlabel="hour of the day", ylabel="instances received in the hour", xticks=range(0, 24, 2))
    left.set_title(f"A hospital's day: {document['modalities']} modalities, {name_of(document['plant'])} worker")
    right = left.twinx()
    right.plot(hours, [row["most_unread"] for row in document["hours"]], "o-", color=COLOURS[1], label="unread at most")
    right.set(ylabel="instances unread at most", ylim=(0, None))
    figure.legend(loc="outside lower center", ncols=2, frameon=False)


def region(figure: Figure, document: Mapping[str, Any]) -> None:
    """Draw how long films and slices wait in a region's morning, by workers."""
    left, right = figure.subplots(1, 2)
    names = [name_of(row["plant"]) for row in document["rows"]]
    for axes, way, title in ((left, "to_result_seconds", "C-STORE to result"), (right, "to_report_seconds", "to SR")):
        for number, (kind, word) in enumerate((("cr", "film"), ("ct", "CT"))):
            for dash, point in zip(DASHES, POINTS, strict=True):
                values = [row["outcome"][way][kind].get(point) for row in document["rows"]]
                axes.plot(names, values, dash, marker="o", color=COLOURS[number], label=f"{word} {point}")
        axes.set(
            title=f"{document['modalities']} modalities: {title}", ylabel="seconds", xlabel="workers", yscale="log"
        )
    left.legend(frameon=False, fontsize=7)


def size(figure: Figure, document: Mapping[str, Any]) -> None:
    """Draw how far each size goes, how busy each resource is, and how long a scan waits in the busiest hour."""
    (rates, busy), (waits, load) = figure.subplots(2, 2)
    _rates(rates, document)
    processor = [row for row in document["workers"] if not row["plant"]["gpu"]]
    _busy(busy, [row["plant"]["workers"] for row in processor], [row["simulated"]["utilisation"] for row in processor])
    busy.set(xlabel="inference workers (CPU), each at the rate of its first bottleneck")
    busy.set_title("utilisation at that rate")
    modalities = [row["modalities"] for row in document["modalities"]]
    outcomes = [row["outcome"] for row in document["modalities"]]
    for number, (way, kind, word) in enumerate(
        (("to_result_seconds", "cr", "film to result"), ("to_report_seconds", "cr", "film to SR"),
         ("to_result_seconds", "ct", "slice to result"))
    ):  # fmt: skip
        for dash, point in zip(DASHES, POINTS, strict=True):
            values = [outcome[way][kind].get(point) for outcome in outcomes]
            waits.plot(modalities, values, dash, marker=".", color=COLOURS[number], label=f"{word} {point}")
    waits.set(xlabel="modalities, busiest hour, 4 CPU workers", ylabel="seconds", xscale="log", yscale="log")
    waits.set_title("how long it takes")
    waits.legend(frameon=False, fontsize=6)
    _busy(load, modalities, [outcome["utilisation"] for outcome in outcomes])
    load.set(xlabel="modalities, busiest hour, 4 CPU workers")
    load.set_title("utilisation over modalities")


def _rates(axes: Axes, document: Mapping[str, Any]) -> None:
    firsts = list(dict.fromkeys(row["first"] for row in document["workers"]))
    for gpu, line in ((False, "-"), (True, "--")):
        rows = [row for row in document["workers"] if row["plant"]["gpu"] == gpu]
        workers = [row["plant"]["workers"] for row in rows]
        axes.plot(workers, [row["objects_a_second"] for row in rows], line, color="#8a96a3", zorder=1,
                  label="GPU" if gpu else "CPU")  # fmt: skip
        axes.plot(workers, [row["at_most"] for row in rows], line, color="#8a96a3", alpha=0.4, zorder=1)
        for row in rows:
            colour = COLOURS[firsts.index(row["first"])]
            axes.scatter(row["plant"]["workers"], row["objects_a_second"], color=colour, zorder=2)
    for number, first in enumerate(firsts):
        axes.scatter([], [], color=COLOURS[number], label=f"full first: {first}")
    axes.set_xscale("log", base=2)
    axes.set(xlabel="inference workers", ylabel="instances/s", ylim=(0, None))
    axes.set_title(f"rate at which the first resource is {document['limit']:.0%} busy (pale: at most)")
    axes.legend(frameon=False, fontsize=7)


def _busy(axes: Axes, across: Sequence[float], utilisations: Sequence[Mapping[str, float]]) -> None:
    """Draw the busiest resources as lines, and mark the busiest of all at each place."""
    names = [name for name in utilisations[-1] if max(one[name] for one in utilisations) > 10 * LEAST]
    names = sorted(names, key=lambda name: -max(one[name] for one in utilisations))[: len(COLOURS)]
    for colour, name in zip(COLOURS, names, strict=False):
        axes.plot(across, [one[name] for one in utilisations], marker=".", color=colour, label=name)
    for place, one in zip(across, utilisations, strict=True):
        first = max(names, key=lambda name, of=one: of[name])
        axes.scatter(place, one[first], s=60, facecolors="none", edgecolors="#b3261e", zorder=3)
    axes.axhline(0.9, color="#b3261e", linewidth=0.8, linestyle=":")
    axes.set_xscale("log")
    axes.set(ylim=(0, 1.05), ylabel="busy")
    axes.legend(frameon=False, fontsize=6)
