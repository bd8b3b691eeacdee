"""Goals: each beside what was seen, met or missed; a goal that could not be measured says why."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tests.bench.summary import Seen, Spread, rounded


@dataclass(frozen=True)
class Goal:
    """What we want.

    Attributes
    ----------
    words
        What is measured.
    bound, target
        `>=` or `<=` this; the median of the rounds is held against it.
    seen
        Finds the figure in what was measured; None where it was not.
    needs
        What has to be there for it to be measured.
    """

    words: str
    bound: Literal[">=", "<="]
    target: float
    seen: Callable[[Seen], Spread | None]
    needs: str = ""


@dataclass(frozen=True)
class Judged:
    """A goal, and what came of it; `met` is None where nothing was seen."""

    goal: Goal
    seen: Spread | None

    @property
    def met(self) -> bool | None:
        if self.seen is None:
            return None
        median = self.seen.median
        return median >= self.goal.target if self.goal.bound == ">=" else median <= self.goal.target

    @property
    def verdict(self) -> str:
        """In a word."""
        return {True: "met", False: "missed", None: "not measured"}[self.met]

    def as_json(self) -> dict[str, Any]:
        """As it is written down."""
        return {
            "goal": self.goal.words,
            "bound": self.goal.bound,
            "target": self.goal.target,
            "seen": None if self.seen is None else rounded(self.seen.median),
            "low": None if self.seen is None else rounded(self.seen.low),
            "high": None if self.seen is None else rounded(self.seen.high),
            "verdict": self.verdict,
            **({"needs": self.goal.needs} if self.met is None and self.goal.needs else {}),
        }


def judged(goals: Sequence[Goal], seen: Seen) -> list[Judged]:
    """Hold every goal against what was measured."""
    return [Judged(goal, goal.seen(seen)) for goal in goals]
