"""A benchmark as pictures, PNG and SVG: a bar a contender and case, with its smallest and largest round."""

from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tests.bench.receivers import OURS
from tests.bench.report import Report

OURS_COLOUR, OTHER_COLOUR, RANGE_COLOUR = "#15629c", "#9aa7b3", "#4c5f55"
ROW_INCHES, HEAD_INCHES, WIDTH_INCHES = 0.26, 0.75, 9.0
STYLE = {
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "firstread",
    "svg.fonttype": "none",
}
"""The salt makes the same drawing the same file; text stays text."""


def draw(report: Report, stem: Path) -> list[Path]:
    """Draw the measure that counts, a panel a case; curves get a picture of their own.

    Parameters
    ----------
    stem
        Path of the pictures without their suffix.

    Returns
    -------
    list of Path
        What was written.
    """
    with mpl.rc_context(STYLE):
        written = _saved(_bars(report), stem)
    if curves := report.more.get("curves"):
        written += draw_curves(curves, stem.with_name(f"{stem.name}-curves"))
    return written


def draw_curves(curves: dict[str, dict[str, object]], stem: Path) -> list[Path]:
    """Draw curves, a panel each; return what was written."""
    with mpl.rc_context(STYLE):
        return _saved(_lines(curves), stem)


def _saved(figure: Figure, stem: Path) -> list[Path]:
    png, svg = stem.with_name(f"{stem.name}.png"), stem.with_name(f"{stem.name}.svg")
    figure.savefig(png, dpi=130, metadata={"Software": None})
    figure.savefig(svg, metadata={"Date": None})
    return [png, svg]


def _bars(report: Report) -> Figure:
    cases: dict[str, list[str]] = {}
    for case, contender in report.seen.rows():
        if report.seen.spread(case, contender, report.headline(case)):
            cases.setdefault(case, []).append(contender)
    heights = [ROW_INCHES * len(contenders) + HEAD_INCHES for contenders in cases.values()]
    figure = Figure(figsize=(WIDTH_INCHES, max(sum(heights), 2.0)), layout="constrained")
    panels = figure.subplots(len(cases), 1, height_ratios=heights, squeeze=False)[:, 0]
    for panel, (case, contenders) in zip(panels, cases.items(), strict=True):
        _case(panel, report, case, contenders)
    return figure


def _case(panel: Axes, report: Report, case: str, contenders: list[str]) -> None:
    headline = report.headline(case)
    measure = report.measures[headline]
    found = [report.seen.spread(case, contender, headline) for contender in contenders]
    shown = sorted(zip(contenders, filter(None, found), strict=True), key=lambda pair: pair[1].median)
    if not measure.more_is_better:
        shown.reverse()
    medians = [figure.median for _, figure in shown]
    names = [f"{name} ({report.marks[name]})" if report.marks.get(name) else name for name, _ in shown]
    colours = [OURS_COLOUR if name.startswith(OURS) else OTHER_COLOUR for name, _ in shown]
    panel.barh(names, medians, color=colours)
    ranges = ([one.median - one.low for _, one in shown], [one.high - one.median for _, one in shown])
    panel.errorbar(medians, range(len(shown)), xerr=ranges, fmt="none", ecolor=RANGE_COLOUR, elinewidth=1, capsize=2)
    for place, median in enumerate(medians):
        label = f"{median:.{measure.digits}f}"
        panel.annotate(label, (0, place), xytext=(4, 0), textcoords="offset points", va="center", color="white")
    panel.set_title(case, loc="left", fontweight="bold", fontsize=10)
    panel.set_xlabel(measure.title)


def _lines(curves: dict[str, dict[str, object]]) -> Figure:
    """Draw curves: `{title: {"x": words, "y": words, "lines": {name: [[x, y], …]}}}`, x on a logarithmic scale."""
    figure = Figure(figsize=(WIDTH_INCHES, 3.2 * len(curves)), layout="constrained")
    panels = figure.subplots(len(curves), 1, squeeze=False)[:, 0]
    for panel, (title, curve) in zip(panels, curves.items(), strict=True):
        for name, points in dict(curve["lines"]).items():  # type: ignore[call-overload]
            panel.plot(*zip(*points, strict=True), marker="o", label=name)
        panel.set_title(title, loc="left", fontweight="bold", fontsize=10)
        panel.set_xlabel(str(curve["x"]))
        panel.set_ylabel(str(curve["y"]))
        panel.set_ylim(bottom=0)
        if curve.get("logarithmic"):
            panel.set_xscale("log")
        panel.legend(frameon=False)
    return figure
