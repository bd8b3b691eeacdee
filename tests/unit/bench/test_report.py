"""A report shows each goal beside what was seen; a missed one is never hidden, and only `--strict` makes it an exit."""

import json
import sys
from pathlib import Path

import pytest
from rich.console import Console

from tests.bench import run as harness
from tests.bench.goals import Goal
from tests.bench.report import Measure, Report, show
from tests.bench.summary import UNMEASURED

MEASURES = {"per_second": Measure("instances/s"), "cpu_ms": Measure("CPU ms", 2, more_is_better=False)}


def goal(bound: str, target: float, contender: str = "firstread", needs: str = "") -> Goal:
    words = f"{contender} {bound} {target:g}"
    return Goal(words, bound, target, lambda seen: seen.spread("CR", contender, "per_second"), needs)  # type: ignore[arg-type]


@pytest.fixture
def report() -> Report:
    wanted = (goal(">=", 90), goal(">=", 120), goal("<=", 120), goal("<=", 90), goal(">=", 1, "Orthanc", "Orthanc"))
    made = Report("receive", MEASURES, 3, wanted=wanted, marks={"firstread": "durable"}, absent={"Orthanc": "not here"})
    for value in (90.0, 100.0, 110.0):
        made.seen.add("CR", "firstread", per_second=value, cpu_ms=4.5)
        made.seen.add("CR", "raw limit", per_second=2 * value)
    return made


def shown(report: Report) -> str:
    console = Console(width=200, record=True, file=Path("/dev/null").open("w"))  # noqa: SIM115 - closed with the console
    with console.file:
        show(report, console)
        return console.export_text()


def test_goals_are_judged_by_the_median(report: Report) -> None:
    assert [one.verdict for one in report.goals] == ["met", "missed", "met", "missed", "not measured"]
    assert report.missed
    report.wanted = (goal(">=", 100), goal("<=", 100), goal(">=", 1, "Orthanc"))
    assert not report.missed  # at the target is met, and what was not measured was not missed


def test_what_was_missed_is_shown_and_what_is_not_here_is_named(report: Report) -> None:
    text = shown(report)
    assert "firstread >= 120" in text
    assert text.count("missed") == 2
    assert "100.0 (90.0 to 110.0)" in text
    assert "0.50 (0.50 to 0.50)" in text  # ours over the raw limit
    assert "not measured: Orthanc" in text
    assert "not here: Orthanc: not here" in text


def test_what_was_too_small_to_measure_is_a_dash_and_judges_nothing(report: Report) -> None:
    for cpu_ms in (0.0, 2.5, UNMEASURED):
        report.seen.add("CT", "firstread", per_second=10.0, cpu_ms=cpu_ms)
    [row] = [line for line in shown(report).splitlines() if "│ CT" in line]
    assert [cell.strip() for cell in row.strip("│").split("│")][2:4] == ["10.0 (10.0 to 10.0)", "-"]
    written = {one["case"]: one["measures"] for one in report.as_json()["rows"] if one["contender"] == "firstread"}
    assert set(written["CT"]) == {"per_second"}
    assert written["CR"]["cpu_ms"]["median"] == 4.5
    report.wanted = (Goal("CPU", "<=", 1.0, lambda seen: seen.spread("CT", "firstread", "cpu_ms")),)
    assert [one.verdict for one in report.goals] == ["not measured"]


def test_small_loads_judge_no_goal(report: Report) -> None:
    report.quick = True
    assert report.goals == []
    assert not report.missed
    assert "no goal is judged" in shown(report)


def test_json_and_charts_are_written_beside_each_other(report: Report, tmp_path: Path) -> None:
    report.about = {"machine": {"cores": 2}}
    report.more = {"curves": {"a claim": {"x": "rows", "y": "ms", "logarithmic": True,
                                          "lines": {"SQLite": [[10, 1.0], [1000, 1.5]]}}}}  # fmt: skip
    written = harness.write(report, tmp_path / "new" / "receive.json")
    names = {"receive.json", "receive.png", "receive.svg", "receive-curves.png", "receive-curves.svg"}
    assert {path.name for path in written} == names
    assert all(path.stat().st_size for path in written)
    document = json.loads(written[0].read_text())
    assert document["machine"] == {"cores": 2}
    assert document["rows"][0]["measures"]["per_second"]["values"] == [90.0, 100.0, 110.0]
    assert document["rows"][1]["ours_over_it"]["median"] == 0.5
    assert [one["verdict"] for one in document["goals"]][:2] == ["met", "missed"]
    svg = (tmp_path / "new" / "receive.svg").read_text()
    harness.write(report, tmp_path / "again" / "receive.json")
    assert svg == (tmp_path / "again" / "receive.svg").read_text()


def test_programs_of_our_own_environment_are_no_peers() -> None:
    """Where it is on the path, pynetdicom's storescp would be taken for dcmtk's."""
    ours = str(Path(sys.executable).parent)
    assert harness.without_our_own(f"/usr/local/bin:{ours}:/usr/bin") == "/usr/local/bin:/usr/bin"
