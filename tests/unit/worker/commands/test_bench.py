"""`firstread bench`: a door to the harness of a source checkout."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from worker.cli import app
from worker.commands import bench
from worker.errors import SettingsError


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A harness that measures nothing, and what it was asked for."""
    found: dict[str, Any] = {}
    report = SimpleNamespace(missed=True, as_json=lambda: {"benchmark": "…"})

    def run(benchmark: str, tell: Any, **options: Any) -> Any:
        tell("something", 1, 2)
        found.update(options, benchmark=benchmark)
        return report

    harness = SimpleNamespace(run=run, show=lambda *_: found.update(shown=True), write=lambda _, path: [path])
    monkeypatch.setattr(bench, "_harness", lambda: harness)
    monkeypatch.setattr(bench, "configure_logs", lambda *_: None)
    return found


@pytest.mark.parametrize("benchmark", ["receive", "inference", "pipeline", "queue"])
def test_a_missed_goal_is_no_failure_but_with_strict(benchmark: str, asked: dict[str, Any]) -> None:
    done = CliRunner().invoke(app, ["bench", benchmark, "--rounds", "3", "--only", "CR", "--only", "CT"])
    assert done.exit_code == 0
    assert asked["shown"]
    assert (asked["benchmark"], asked["rounds"], asked["only"]) == (benchmark, 3, ("CR", "CT"))
    assert CliRunner().invoke(app, ["bench", benchmark, "--strict"]).exit_code == 1


def test_json_is_all_that_is_printed(asked: dict[str, Any], tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["bench", "queue", "--json", "--out", str(tmp_path / "queue.json")])
    assert json.loads(done.stdout) == {"benchmark": "…"}
    assert "queue.json" in done.stderr
    assert "shown" not in asked


def test_without_a_source_checkout_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bench, "ROOT", tmp_path)
    with pytest.raises(SettingsError, match="source checkout"):
        bench._harness()


def test_its_own_tests_are_found_wherever_it_is_called_from(tmp_path: Path) -> None:
    asked = "from worker.commands.bench import _harness; _harness(); import tests.conftest as it; print(it.__file__)"
    command = [sys.executable, "-P", "-c", asked]  # as the console script: site-packages come first, and hold a `tests`
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == str(bench.ROOT / "tests" / "conftest.py"), done.stderr[-500:]
