"""How long each stage takes: mean processor seconds of each party, how they spread, and where the figure is from."""

import itertools
import random
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

PROBABILITIES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
"""At which a spread is kept; between two the inverse of the distribution is a straight line."""

SOURCES = ("measured", "assumed")


@dataclass(frozen=True)
class Spread:
    """A distribution of mean 1, by its quantiles at `PROBABILITIES`: what was seen, no exponential in its place."""

    quantiles: tuple[float, ...] = (1.0,) * len(PROBABILITIES)

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Return the spread of observed values, whatever their unit.

        Raises
        ------
        ValueError
            There is none, or they are all nothing.
        """
        ordered = sorted(values)
        if not ordered or not ordered[-1]:
            raise ValueError("a spread needs values above zero")
        places = [probability * (len(ordered) - 1) for probability in PROBABILITIES]
        found = [
            ordered[int(place)] + (place % 1) * (ordered[min(int(place) + 1, len(ordered) - 1)] - ordered[int(place)])
            for place in places
        ]
        mean = _mean(found)
        return cls(tuple(value / mean for value in found))

    def at(self, probability: float) -> float:
        """Return the quantile."""
        upper = min(bisect_right(PROBABILITIES, probability), len(PROBABILITIES) - 1)
        low, high = PROBABILITIES[upper - 1], PROBABILITIES[upper]
        share = (probability - low) / (high - low)
        return self.quantiles[upper - 1] + share * (self.quantiles[upper] - self.quantiles[upper - 1])

    @property
    def mean(self) -> float:
        """The mean of what `at` gives."""
        return _mean(self.quantiles)


def _mean(quantiles: Sequence[float]) -> float:
    widths = [high - low for low, high in itertools.pairwise(PROBABILITIES)]
    middles = [(low + high) / 2 for low, high in itertools.pairwise(quantiles)]
    return sum(width * middle for width, middle in zip(widths, middles, strict=True))


@dataclass(frozen=True)
class Stage:
    """One stage: what it costs once, for each object in it, and for each object that its studies hold already.

    Attributes
    ----------
    fixed, each, seen
        Mean seconds by party (`listener`, `intake`, `worker`, `child`, `delivery`, `database`, `peer` …): of
        processors, but for `wait`, which keeps nobody busy.
    statements
        Sent to the database: once, and for each object.
    chained
        Share of the transaction in which it holds the head of the audit chain; 0: it writes no audit event.
    source, how
        `measured` here or `assumed`, and how or why so.
    """

    name: str
    source: str
    how: str
    fixed: Mapping[str, float] = field(default_factory=dict)
    each: Mapping[str, float] = field(default_factory=dict)
    seen: Mapping[str, float] = field(default_factory=dict)
    statements: tuple[float, float] = (0.0, 0.0)
    chained: float = 0.0
    spread: Spread = field(default_factory=Spread)

    def __post_init__(self) -> None:
        if self.source not in SOURCES:
            raise ValueError(f"stage {self.name}: its source is {self.source!r}; it is one of {', '.join(SOURCES)}")

    @property
    def parties(self) -> set[str]:
        """Who has a part in it."""
        return {*self.fixed, *self.each, *self.seen}

    def seconds(self, party: str, count: int = 1, seen: int = 0) -> float:
        """Return the mean seconds of a party for so many objects at once, of studies that hold `seen`."""
        return self.fixed.get(party, 0.0) + count * self.each.get(party, 0.0) + seen * self.seen.get(party, 0.0)

    def draw(self, chance: random.Random) -> float:
        """Return by how much one run of it differs from the mean: a factor for all parties."""
        return self.spread.at(chance.random())

    def as_document(self) -> dict[str, Any]:
        """Return it as it stands in the file of stage times."""
        return {
            "source": self.source,
            "how": self.how,
            "fixed_seconds": dict(self.fixed),
            "each_seconds": dict(self.each),
            "seen_seconds": dict(self.seen),
            "statements": list(self.statements),
            "chained": self.chained,
            "spread": list(self.spread.quantiles),
        }


def stage_of(name: str, document: Mapping[str, Any]) -> Stage:
    """Return a stage as a file has it; what it leaves out is nothing, and its spread then none.

    Raises
    ------
    ValueError, KeyError
        It says not where it is from.
    """
    fixed, each = document.get("statements", (0.0, 0.0))
    return Stage(
        name,
        document["source"],
        document["how"],
        document.get("fixed_seconds", {}),
        document.get("each_seconds", {}),
        document.get("seen_seconds", {}),
        (fixed, each),
        document.get("chained", 0.0),
        Spread(tuple(document["spread"])) if "spread" in document else Spread(),
    )


def slower(stages: Mapping[str, Stage], factor: float) -> dict[str, Stage]:
    """Return the stages with processor seconds that are worth less; waits stay what they are."""

    def scaled(part: Mapping[str, float]) -> dict[str, float]:
        return {party: seconds * (1 if party == "wait" else factor) for party, seconds in part.items()}

    return {
        name: replace(one, fixed=scaled(one.fixed), each=scaled(one.each), seen=scaled(one.seen))
        for name, one in stages.items()
    }
