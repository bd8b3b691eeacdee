"""Drawings as inline SVG: a few marks on two axes, coloured by the page's style sheet, dark or light as the page is.

Nothing is fetched and nothing is run; every drawing carries its description for those who do not see it.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

from markupsafe import Markup

Point = tuple[float, float]

SHARES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Ticks of an axis from 0 to 1."""


class Plot:
    """A drawing with a plotting area.

    Parameters
    ----------
    description
        What it shows, in words.
    x, y
        Values at both ends of the axes.
    width, height
        Size in the units that text is set in; the page shows it about as large, so that text stays readable.
    left, right, top, bottom
        Room around the plotting area.
    """

    def __init__(
        self,
        description: str,
        *,
        x: Point = (0.0, 1.0),
        y: Point = (0.0, 1.0),
        width: float = 330,
        height: float = 280,
        left: float = 46,
        right: float = 12,
        top: float = 10,
        bottom: float = 42,
    ) -> None:
        self._description = description
        self._size = width, height
        self._x, self._y = x, y
        self._box = left, top, width - right, height - bottom
        self._marks: list[Markup] = []

    def across(self, value: float) -> float:
        """Place of a value on the x axis."""
        left, _, right, _ = self._box
        low, high = self._x
        return left + (value - low) / (high - low) * (right - left)

    def up(self, value: float) -> float:
        """Place of a value on the y axis."""
        _, top, _, bottom = self._box
        low, high = self._y
        return bottom - (value - low) / (high - low) * (bottom - top)

    def axes(
        self,
        x_label: str,
        y_label: str,
        *,
        x_ticks: Sequence[float] = SHARES,
        y_ticks: Sequence[float] = SHARES,
        shown: Callable[[float], str] = "{:g}".format,
    ) -> None:
        """Draw grid, ticks and the names of the axes; no ticks, no numbers."""
        left, top, right, bottom = self._box
        for tick in y_ticks:
            place = self.up(tick)
            self._add('<path class="grid" d="M{} {}H{}"/>', left, place, right)
            self._add('<text class="tick end" x="{}" y="{}">{}</text>', left - 7, place + 4, shown(tick))
        for tick in x_ticks:
            place = self.across(tick)
            self._add('<path class="grid" d="M{} {}V{}"/>', place, top, bottom)
            self._add('<text class="tick middle" x="{}" y="{}">{}</text>', place, bottom + 16, shown(tick))
        self._add('<path class="axis" d="M{} {}V{}H{}"/>', left, top, bottom, right)
        self._add('<text class="name middle" x="{}" y="{}">{}</text>', (left + right) / 2, self._size[1] - 6, x_label)
        turned = 'transform="rotate(-90)"'
        middle = -(top + bottom) / 2
        self._add(f'<text class="name middle" {turned} x="{{}}" y="{{}}">{{}}</text>', middle, 12, y_label)

    def line(self, points: Sequence[Point], look: str) -> None:
        """Draw a line through points."""
        if points:
            self._add('<path class="line {}" d="{}"/>', look, self._path(points))

    def steps(self, points: Sequence[Point], look: str) -> None:
        """Draw a line that keeps the height of the coming point, as precision does between two recalls."""
        corners = [points[0]] if points else []
        for before, point in pairwise(points):
            corners += [(before[0], point[1]), point]
        self.line(corners, look)

    def band(self, low: Sequence[Point], high: Sequence[Point], look: str) -> None:
        """Fill between two lines."""
        if low:
            self._add('<path class="band {}" d="{}Z"/>', look, self._path([*low, *reversed(high)]))

    def dot(self, at: Point, look: str, radius: float = 4) -> None:
        """Draw a point."""
        self._add('<circle class="dot {}" cx="{}" cy="{}" r="{}"/>', look, *self._place(at), radius)

    def stretch(self, begin: Point, end: Point, look: str) -> None:
        """Draw a straight line."""
        self._add('<path class="{}" d="M{} {}L{} {}"/>', look, *self._place(begin), *self._place(end))

    def box(self, low: Point, high: Point, look: str, opacity: float = 1.0) -> None:
        """Fill a rectangle between two corners."""
        (left, bottom), (right, top) = self._place(low), self._place(high)
        self._add(
            '<rect class="{}" x="{}" y="{}" width="{}" height="{}" fill-opacity="{}"/>',
            look, left, top, right - left, bottom - top, opacity,
        )  # fmt: skip

    def text(self, at: Point, text: str, look: str, *, right: float = 0, down: float = 0) -> None:
        """Write at a point, moved by a few units."""
        x, y = self._place(at)
        self._add('<text class="{}" x="{}" y="{}">{}</text>', look, x + right, y + down, text)

    def svg(self) -> Markup:
        """Return the drawing."""
        begin = Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}" style="max-width:{}px">').format(
            *self._size, self._description, round(self._size[0] * 1.2)
        )
        return begin + Markup("").join(self._marks) + Markup("</svg>")

    def _place(self, at: Point) -> Point:
        return self.across(at[0]), self.up(at[1])

    def _path(self, points: Sequence[Point]) -> str:
        return "M" + "L".join(f"{_short(x)} {_short(y)}" for x, y in map(self._place, points))

    def _add(self, template: str, *values: object) -> None:
        shown = [_short(value) if isinstance(value, float) else value for value in values]
        self._marks.append(Markup(template).format(*shown))  # noqa: S704 - our own marks; `format` escapes the values


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Return round numbers between two values, `most` at most, steps of 1, 2 or 5 times a power of ten."""
    span = high - low
    if span <= 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(power * by for by in (1, 2, 5, 10, 20) if span / (power * by) <= most - 1)
    first = math.ceil(low / step - 1e-9)
    return [round(step * (first + i), 10) for i in range(int((high - step * first) / step + 1e-9) + 1)]


def cut(text: str, most: int) -> str:
    """Shorten what has no room; the table beside the drawing says it in full."""
    return text if len(text) <= most else text[: most - 1] + "…"


def _short(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
