"""README names every command, setting and metric: what is not written there does not exist for its users."""

from pathlib import Path

import pytest
import typer.main
from prometheus_client import Counter
from prometheus_client.metrics import MetricWrapperBase

from worker import metrics
from worker.cli import app
from worker.config import Settings

README = (Path(__file__).parents[2] / "README.md").read_text()


def commands() -> list[str]:
    root = typer.main.get_command(app)
    names: list[str] = []
    for name, command in root.commands.items():  # type: ignore[attr-defined]
        names += [f"{name} {sub}" for sub in getattr(command, "commands", {})] or [name]
    return names


@pytest.mark.parametrize("command", commands())
def test_every_command(command: str) -> None:
    assert f"firstread {command}" in README


@pytest.mark.parametrize("setting", list(Settings.model_fields))
def test_every_setting(setting: str) -> None:
    assert f"`FIRSTREAD_{setting.upper()}`" in README
    assert Settings.model_fields[setting].description


@pytest.mark.parametrize(
    "metric", [m for m in vars(metrics).values() if isinstance(m, MetricWrapperBase)], ids=lambda m: m._name
)
def test_every_metric(metric: MetricWrapperBase) -> None:
    name = metric._name + ("_total" if isinstance(metric, Counter) else "")
    labels = "{" + ",".join(metric._labelnames) + "}" if metric._labelnames else ""
    assert f"`{name}{labels}`" in README
