"""The tables of `deploy/scaling.md`, written from the results that lie beside this file, so that none is typed."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.bench.simulation.tables import name_of

RESULTS = Path(__file__).with_name("results")
PAGE = Path(__file__).parents[3] / "deploy" / "scaling.md"
PICTURES = PAGE.parent / "pictures"


def results() -> dict[str, Any]:
    """Read the results of every scenario, and of the comparison with the real services."""
    found: dict[str, Any] = {}
    for name in ("sweep", "hospital-day", "regional-morning"):
        found[name] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))[name]
    found["validation"] = json.loads((RESULTS / "validation.json").read_text(encoding="utf-8"))["rows"]
    return found


def tables_of(found: Mapping[str, Any]) -> dict[str, str]:
    """Return each table as Markdown, by the name of its place in the page."""
    sweep, day, region = found["sweep"], found["hospital-day"], found["regional-morning"]
    peak = [(f"{row['modalities']}", row) for row in sweep["modalities"]]
    morning = [(name_of(row["plant"]), row) for row in region["rows"]]
    costs = [(f"{day['modalities']} modalities, {name_of(day['plant'])}", day["cost"])]
    costs += [(f"{region['modalities']} modalities, {name}", row["cost"]) for name, row in morning]
    return {
        "workers": capacities("workers", [(name_of(row["plant"]), row) for row in sweep["workers"]]),
        "remedies": capacities("changed, each on top of the last", [(row["name"], row) for row in sweep["remedies"]]),
        "faster": capacities("processors", [(row["name"], row) for row in sweep["faster"]]),
        "modalities": latencies("modalities", peak),
        "day": latencies("", [("the whole day", day)]),
        "region": latencies("workers", morning),
        "cost": costs_of(costs),
        "validation": validation(found["validation"]),
    }


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def capacities(first: str, rows: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """How far plants go."""
    rates = ("objects_a_second", "at_most", "modalities")
    head = (first, "instances/s at 90 %", "at most", "modalities", "full first", "then, at", "1,000 studies, USD")
    return markdown(
        head,
        [
            (
                name, *(f"{row[rate]:.0f}" for rate in rates), _first(row),
                ", ".join(f"{one['resource']} {one['objects_a_second']:.0f}/s" for one in row["next"][:2]),
                f"{row['cost']['sum']:.2f}",
            )
            for name, row in rows
        ],
    )  # fmt: skip


def _first(row: Mapping[str, Any]) -> str:
    busy = row["simulated"]["utilisation"]
    waits = {
        "intake: its process": "intake: waiting for others' transactions",
        "inference workers": "inference workers: waiting for others' transactions",
        "rows of studies": "intake: waiting for others' transactions",
    }
    waiting = busy.get(waits.get(row["first"], ""), 0.0)
    return f"{row['first']} ({waiting:.0%} waiting)" if waiting >= 0.05 else row["first"]


def latencies(first: str, rows: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """How long films and slices take, p50 / p95 / p99 in seconds."""
    head = (first, "instances/s in", "out", "film to result", "slice to result", "film to SR", "CT to SR",
            "unread at most", "busiest")  # fmt: skip
    made = []
    for name, row in rows:
        outcome = row["outcome"]
        waits = [_points(outcome[way].get(kind)) for way in ("to_result_seconds", "to_report_seconds")
                 for kind in ("cr", "ct")]  # fmt: skip
        rates = [f"{outcome['objects_a_second'][side]:.1f}" for side in ("offered", "done")]
        first_one = outcome["first"]
        busiest = f"{first_one['resource']} {first_one['busy']:.0%}"
        made.append((name, *rates, *waits, str(outcome["in_system"]["most"]), busiest))
    return markdown(head, made)


def _points(found: Mapping[str, float] | None) -> str:
    return " / ".join(f"{value:.3g}" for value in found.values()) if found else "-"


def costs_of(rows: Sequence[tuple[str, Mapping[str, float]]]) -> str:
    """What 1,000 studies cost."""
    head = ("site", "studies a month", "machines, USD an hour", "machines", "storage", "sum, USD")
    parts = ("machines", "storage", "sum")
    return markdown(
        head,
        [
            (name, f"{cost['studies_a_month']:.0f}", f"{cost['hourly']:.2f}", *(f"{cost[part]:.2f}" for part in parts))
            for name, cost in rows
        ],
    )


def validation(rows: Sequence[Mapping[str, Any]]) -> str:
    """What was seen / what was simulated."""
    head = ("workers", "load", "cores that others took", "instances/s", "film to result p50", "p95",
            "slice to result p95", "film to SR p50", "p95")  # fmt: skip
    ways = (("objects_a_second",), ("to_result_seconds", "cr", "p50"), ("to_result_seconds", "cr", "p95"),
            ("to_result_seconds", "ct", "p95"), ("to_report_seconds", "cr", "p50"),
            ("to_report_seconds", "cr", "p95"))  # fmt: skip
    ordered = sorted(rows, key=lambda row: (row["phase"], row["workers"], row["round"]))
    return markdown(
        head,
        [
            (str(row["workers"]), row["phase"], f"{row['others_cores']:.2f}", *(_pair(row, *way) for way in ways))
            for row in ordered
        ],
    )


def _pair(row: Mapping[str, Any], *way: str) -> str:
    found = []
    for side in ("seen", "simulated"):
        value = row[side]
        for step in way:
            value = value.get(step) if value else None
        found.append("-" if value is None else f"{value:.3g}")
    return "-" if found == ["-", "-"] else " / ".join(found)


def filled(page: str, tables: Mapping[str, str]) -> str:
    """Return a page with its tables renewed: each stands between `<!-- NAME -->` and `<!-- end of NAME -->`.

    Raises
    ------
    ValueError
        A table has no place.
    """
    for name, table in tables.items():
        place = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)", re.DOTALL)
        page, count = place.subn(lambda found, table=table: f"{found[1]}{table}\n{found[2]}", page)
        if count != 1:
            raise ValueError(f"{PAGE.name} has {count} places for the table {name}; it needs one")
    return page
