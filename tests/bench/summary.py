"""Figures of rounds: medians, and ratios taken round by round, so that what slows a whole round down cancels out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import isnan, nan
from statistics import median

import numpy as np

DIGITS = 5
"""Significant digits kept of a figure: more would be noise."""


UNMEASURED = nan
"""A figure too small to be told from nothing by what it was taken with: its whole row has none."""


@dataclass(frozen=True)
class Spread:
    """A figure over the counted rounds: its median, and the smallest and largest round.

    Attributes
    ----------
    values
        One a round, in their order.
    """

    median: float
    low: float
    high: float
    values: tuple[float, ...]

    def as_json(self) -> dict[str, float | list[float]]:
        """The figure as it is written down."""
        return {
            "median": rounded(self.median),
            "low": rounded(self.low),
            "high": rounded(self.high),
            "values": [rounded(value) for value in self.values],
        }


def spread(values: Sequence[float]) -> Spread:
    """Summarise the rounds.

    Raises
    ------
    ValueError
        There was none.
    """
    if not values:
        raise ValueError("no round was counted")
    return Spread(median(values), min(values), max(values), tuple(values))


def ratios(above: Sequence[float], below: Sequence[float]) -> Spread:
    """Divide round by round, then summarise: the median of the ratios, not the ratio of the medians.

    Raises
    ------
    ValueError
        The two were not measured in the same rounds, or in none.
    """
    if len(above) != len(below):
        raise ValueError(f"{len(above)} rounds cannot be held against {len(below)}")
    return spread([one / other for one, other in zip(above, below, strict=True)])


def percentiles(values: Sequence[float], shares: Sequence[float] = (50, 95, 99)) -> dict[str, float]:
    """Return percentiles by name, `p50` and so on, linear between neighbours."""
    found = np.percentile(np.asarray(values, np.float64), list(shares))
    return {f"p{share:g}": float(value) for share, value in zip(shares, found, strict=True)}


def rounded(value: float) -> float:
    """Return a figure without the digits that mean nothing."""
    return float(f"{value:.{DIGITS}g}")


@dataclass
class Seen:
    """What was measured: by case, contender and measure, one value a counted round."""

    values: dict[tuple[str, str, str], list[float]] = field(default_factory=dict)

    def add(self, case: str, contender: str, **measures: float) -> None:
        """Note the figures of one round."""
        for measure, value in measures.items():
            self.values.setdefault((case, contender, measure), []).append(value)

    def rows(self) -> Iterator[tuple[str, str]]:
        """Yield the cases, each with its contenders, in the order in which they first came."""
        pairs = list(dict.fromkeys((case, contender) for case, contender, _ in self.values))
        for case in dict.fromkeys(case for case, _ in pairs):
            yield from (pair for pair in pairs if pair[0] == case)

    def measures(self, case: str, contender: str) -> dict[str, Spread]:
        """Return every figure of a row."""
        return {
            measure: spread(values)
            for (of_case, of, measure), values in self.values.items()
            if (of_case, of) == (case, contender) and not any(map(isnan, values))
        }

    def spread(self, case: str, contender: str, measure: str) -> Spread | None:
        """Return one figure; None where it was not measured."""
        return self.measures(case, contender).get(measure)

    def ratio(
        self, case: str, contender: str, other: str, measure: str, *, other_case: str | None = None
    ) -> Spread | None:
        """Return one contender's figure over another's of the same rounds; None where either was not measured."""
        above = self.values.get((case, contender, measure))
        below = self.values.get((case if other_case is None else other_case, other, measure))
        return ratios(above, below) if above and below else None
