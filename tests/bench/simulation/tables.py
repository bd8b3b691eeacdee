"""The tables that the commands print."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table

from tests.bench.simulation.inputs import Inputs


def rounded(value: Any) -> Any:
    """Return a document with numbers of four significant digits."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, Mapping):
        return {str(name): rounded(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(one) for one in value]
    return value


def stages(inputs: Inputs) -> Table:
    """What each stage takes, and where that is from."""
    table = Table("stage", "once, ms", "each object, ms", "each in the study, ms", "source", title="Stage times")
    for name, stage in sorted(inputs.stages.items()):
        parts = [_milliseconds(part) for part in (stage.fixed, stage.each, stage.seen)]
        table.add_row(name, *parts, stage.source)
    return table


def _milliseconds(part: Mapping[str, float]) -> str:
    return ", ".join(f"{party} {1000 * seconds:.3g}" for party, seconds in part.items() if seconds > 1e-6)


def comparison(rows: Sequence[Mapping[str, Any]]) -> Table:
    """What was seen beside what was simulated."""
    table = Table(
        "workers", "load", "others' cores", "slower", "instances/s", "film p50 s", "film p95 s", "CT p95 s", "SR p95 s",
        title="Seen / simulated",
    )  # fmt: skip
    for row in sorted(rows, key=lambda row: (row["phase"], row["workers"], row["round"])):
        pairs = [
            _pair(row, "objects_a_second"), _pair(row, "to_result_seconds", "cr", "p50"),
            _pair(row, "to_result_seconds", "cr", "p95"), _pair(row, "to_result_seconds", "ct", "p95"),
            _pair(row, "to_report_seconds", "cr", "p95"),
        ]  # fmt: skip
        table.add_row(str(row["workers"]), row["phase"], f"{row['others_cores']:.2f}", f"{row['slower']:.2f}", *pairs)
    return table


def _pair(row: Mapping[str, Any], *path: str) -> str:
    found = []
    for side in ("seen", "simulated"):
        value = row[side]
        for step in path:
            value = value.get(step) if value else None
        found.append("-" if value is None else f"{value:.3g}")
    return " / ".join(found)


def hospital_day(document: Mapping[str, Any]) -> Iterable[Table]:
    """A hospital's day, hour by hour, and in sum."""
    table = Table("hour", "instances received", "unread at most", title=f"A hospital's day: {document['how']}")
    for row in document["hours"]:
        table.add_row(f"{row['hour']:02d}", str(row["received"]), str(row["most_unread"]))
    yield table
    yield latencies("The day's latencies", [("the day", document)])
    yield busy("How busy on average over the day", [("the day", document["outcome"]["utilisation"])])
    yield costs([("the hospital", document)])


def regional_morning(document: Mapping[str, Any]) -> Iterable[Table]:
    """A region's morning, by workers."""
    named = [(name_of(row["plant"]), row) for row in document["rows"]]
    begin, end = document["hours"]
    yield latencies(f"A region of {document['modalities']} modalities, {begin} to {end} h", named)
    yield busy("How busy on average", [(name, row["outcome"]["utilisation"]) for name, row in named])
    yield costs(named)


def sweep(document: Mapping[str, Any]) -> Iterable[Table]:
    """How far each size goes."""
    table = Table(
        "workers", "instances/s", "at most", "modalities", "first to be full", "then", "1,000 studies",
        title=f"What a site carries until its first resource is {document['limit']:.0%} busy",
    )  # fmt: skip
    for row in document["workers"]:
        table.add_row(name_of(row["plant"]), *_capacity(row))
    yield table
    yield busy(
        "How busy at that rate",
        [(name_of(row["plant"]), row["simulated"]["utilisation"]) for row in document["workers"]],
    )
    named = [(f"{row['modalities']} modalities", row) for row in document["modalities"]]
    yield latencies("The busiest hour, 4 workers without GPU", named)
    yield busy("How busy in it", [(name, row["outcome"]["utilisation"]) for name, row in named])
    for part, first, title in (
        ("remedies", "changed, each on top of the last", "What each remedy brings, 16 workers without GPU"),
        ("faster", "processors", "On other processors than those of the measurement, 4 workers without GPU"),
    ):
        table = Table(
            first, "instances/s", "at most", "modalities", "first to be full", "then", "1,000 studies", title=title
        )
        for row in document[part]:
            table.add_row(row["name"], *_capacity(row))
        yield table


def _capacity(row: Mapping[str, Any]) -> list[str]:
    after = "; ".join(f"{one['resource']} {one['objects_a_second']:.0f}/s" for one in row["next"][:2])
    return [
        f"{row['objects_a_second']:.0f}", f"{row['at_most']:.0f}", f"{row['modalities']:.0f}", row["first"], after,
        f"{row['cost']['sum']:.2f}",
    ]  # fmt: skip


def name_of(plant: Mapping[str, Any]) -> str:
    """Return a plant's size in words."""
    return f"{plant['workers']} {'GPU' if plant['gpu'] else 'CPU'}"


def latencies(title: str, rows: Sequence[tuple[str, Mapping[str, Any]]]) -> Table:
    """C-STORE to result and to report, films and CTs, p50 / p95 / p99 in seconds."""
    table = Table(
        "", "instances/s", "batch", "film to result", "slice to result", "film to SR", "CT to SR", "unread at most",
        "busiest", title=f"{title}; p50 / p95 / p99 in seconds, SR with its quiet time",
    )  # fmt: skip
    for name, row in rows:
        outcome = row["outcome"]
        cells = [
            _points(outcome[way].get(kind))
            for way in ("to_result_seconds", "to_report_seconds")
            for kind in ("cr", "ct")
        ]
        first = outcome["first"]
        table.add_row(
            name, f"{outcome['objects_a_second']['done']:.1f}", f"{outcome['batch']:.1f}", *cells,
            str(outcome["in_system"]["most"]), f"{first['resource']} {first['busy']:.0%}",
        )  # fmt: skip
    return table


def _points(found: Mapping[str, float] | None) -> str:
    return " / ".join(f"{value:.3g}" for value in found.values()) if found else "-"


def busy(title: str, columns: Sequence[tuple[str, Mapping[str, float]]]) -> Table:
    """Utilisation of every resource, a column a site; the busiest of each is marked."""
    table = Table("resource", *(name for name, _ in columns), title=title)
    names = dict.fromkeys(name for _, utilisation in columns for name in utilisation)
    for name in names:
        if max(utilisation.get(name, 0.0) for _, utilisation in columns) < LEAST:
            continue
        cells = []
        for _, utilisation in columns:
            mark = " *" if name == max(utilisation, key=lambda one, of=utilisation: of[one]) else ""
            cells.append(f"{utilisation.get(name, 0.0):.1%}{mark}")
        table.add_row(name, *cells)
    return table


LEAST = 0.005
"""What is never busier is left out."""


def costs(rows: Sequence[tuple[str, Mapping[str, Any]]]) -> Table:
    """What 1,000 studies cost."""
    table = Table(
        "", "studies a month", "machines an hour", "machines", "storage", "sum", title="Cost of 1,000 studies"
    )
    for name, row in rows:
        cost = row["cost"]
        cells = (f"{cost[part]:.2f}" for part in ("hourly", "machines", "storage", "sum"))
        table.add_row(name, f"{cost['studies_a_month']:.0f}", *cells)
    return table


OF = {"hospital-day": hospital_day, "regional-morning": regional_morning, "sweep": sweep}


def of_scenario(name: str, document: Mapping[str, Any]) -> Iterable[Table]:
    """Return the tables of a scenario."""
    return OF[name](document)
