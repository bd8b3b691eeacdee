"""What a benchmark found, whole: as JSON, as tables on a terminal."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.bench.goals import Goal, Judged, judged
from tests.bench.receivers import OURS
from tests.bench.summary import Seen, Spread

STYLES = {"met": "green", "missed": "bold red", "not measured": "yellow"}


@dataclass(frozen=True)
class Measure:
    """A column: how it is called, with how many digits behind the point it is shown, and whether more is better."""

    title: str
    digits: int = 1
    more_is_better: bool = True


@dataclass
class Report:
    """A benchmark's result.

    Attributes
    ----------
    measures
        The columns, those that count first: ours is held against every other contender in the first that a case has.
    marks
        A word about a contender, in brackets behind its name: durable or not.
    absent
        Contenders that did not take part, and why.
    wanted
        The goals.
    quick
        Whether the loads were too small to judge a goal by.
    notes
        What is to be said in words.
    more
        What has a form of its own: query plans, curves.
    """

    benchmark: str
    measures: Mapping[str, Measure]
    rounds: int
    quick: bool = False
    seen: Seen = field(default_factory=Seen)
    marks: dict[str, str] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    wanted: Sequence[Goal] = ()
    notes: list[str] = field(default_factory=list)
    more: dict[str, Any] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def goals(self) -> list[Judged]:
        """Every goal, and what came of it."""
        return [] if self.quick else judged(self.wanted, self.seen)

    def headline(self, case: str) -> str:
        """Return the measure that counts in a case: the first one that was taken in it."""
        taken = {measure for of_case, _, measure in self.seen.values if of_case == case}
        return next(measure for measure in self.measures if measure in taken)

    def ours_against(self, case: str, contender: str) -> Spread | None:
        """Return ours over a contender's, round by round; None for ourselves and where there is nothing of both."""
        if contender.startswith(OURS):
            return None
        return self.seen.ratio(case, OURS, contender, self.headline(case))

    def as_json(self) -> dict[str, Any]:
        """The whole of it."""
        rows = []
        for case, contender in self.seen.rows():
            ratio = self.ours_against(case, contender)
            measures = self.seen.measures(case, contender).items()
            rows.append(
                {
                    "case": case,
                    "contender": contender,
                    "headline": self.headline(case),
                    "mark": self.marks.get(contender, ""),
                    "measures": {measure: found.as_json() for measure, found in measures},
                    "ours_over_it": None if ratio is None else ratio.as_json(),
                }
            )
        return {
            "benchmark": self.benchmark,
            **self.about,
            "rounds": self.rounds,
            "quick": self.quick,
            "rows": rows,
            "absent": self.absent,
            "goals": [goal.as_json() for goal in self.goals],
            "notes": self.notes,
            **self.more,
        }

    @property
    def missed(self) -> bool:
        """Whether a goal was missed."""
        return any(goal.met is False for goal in self.goals)


def show(report: Report, console: Console) -> None:
    """Print the figures, the goals, and who did not take part."""
    console.print(_figures(report))
    if report.goals:
        console.print(_goals(report))
    for note in report.notes:
        console.print(note, markup=False, highlight=False)
    for contender, why in report.absent.items():
        console.print(f"not here: {contender}: {why}", style="yellow", markup=False, highlight=False)
    if report.quick:
        console.print("quick: small loads, few rounds; no goal is judged by them", style="yellow", highlight=False)


def _figures(report: Report) -> Table:
    title = f"firstread bench {report.benchmark}: medians of {report.rounds} interleaved rounds (smallest to largest)"
    table = Table(title=title, title_justify="left", header_style="bold")
    table.add_column("case")
    table.add_column("contender")
    for measure in report.measures.values():
        table.add_column(measure.title, justify="right")
    table.add_column("ours ÷ it", justify="right")
    last = ""
    for case, contender in report.seen.rows():
        if case != last and last:
            table.add_section()
        found = report.seen.measures(case, contender)
        cells = [
            _shown(found.get(name), measure.digits, whole=name == report.headline(case))
            for name, measure in report.measures.items()
        ]
        mark = f" ({report.marks[contender]})" if report.marks.get(contender) else ""
        style = "bold" if contender.startswith(OURS) else ""
        shown_case = case if case != last else ""
        table.add_row(
            shown_case, contender + mark, *cells, _shown(report.ours_against(case, contender), 2), style=style
        )
        last = case
    return table


def _goals(report: Report) -> Table:
    table = Table(title="Goals", title_justify="left", header_style="bold")
    for name in ("goal", "wanted", "seen", "verdict"):
        table.add_column(name)
    for one in report.goals:
        goal = one.goal
        seen = _shown(one.seen, 2)
        verdict = one.verdict if one.met is not None or not goal.needs else f"{one.verdict}: {goal.needs}"
        wanted = f"{'≥' if goal.bound == '>=' else '≤'} {goal.target:g}"
        table.add_row(goal.words, wanted, seen, f"[{STYLES[one.verdict]}]{verdict}")
    return table


def _shown(found: Spread | None, digits: int, *, whole: bool = True) -> str:
    if found is None:
        return "-"
    if not whole or len(found.values) == 1:
        return f"{found.median:.{digits}f}"
    return f"{found.median:.{digits}f} ({found.low:.{digits}f} to {found.high:.{digits}f})"
