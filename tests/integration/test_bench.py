"""A tiny round of each benchmark on real servers: it runs to its end and finds something; how fast is no matter."""

import logging
from pathlib import Path
from typing import Any

import pytest

from models.registry import Registry
from tests.bench import inference, owed_work, pipeline, receive
from tests.bench.peers import Orthanc, PynetdicomApp, Storescp
from tests.bench.preparing import GUARDED, PREPARING, PYDICOM
from tests.bench.receivers import LIMIT, OURS
from tests.bench.report import Report


def told(report: Report, *, measure: str) -> dict[str, set[str]]:
    """The contenders of each case that have a figure above zero."""
    found: dict[str, set[str]] = {}
    for case, contender in report.seen.rows():
        figure = report.seen.spread(case, contender, measure)
        assert figure is not None, f"{case}, {contender}: no {measure}"
        assert figure.low > 0, f"{case}, {contender}: {measure} {figure.low}"
        found.setdefault(case, set()).add(contender)
    return found


@pytest.mark.peer("storescu", "storescp", "Orthanc")
def test_receive() -> None:
    steps: list[tuple[int, int]] = []
    plan = receive.Plan(rounds=1, quick=True, only=("CT, 1 association",))
    report = receive.run(plan, lambda _doing, done, total: steps.append((done, total)))
    everybody = {LIMIT, OURS, Storescp.name, Orthanc.name, "Orthanc, no fsync", PynetdicomApp.name}
    assert told(report, measure="per_second") == {
        "CT, 1 association": everybody,
        "CT, 1 association, Nagle": {OURS},
    }
    assert steps == [(number, len(steps)) for number in range(len(steps))]
    assert not report.absent


def test_inference() -> None:
    """Of a shipped package and of a network as published: each engine bare, and each way that Keras offers."""
    names = ("chest_xray_triage", "covid_pneumonia_mlp")
    words = [f"{name}, {engine}, batch 8" for name in names for engine in ("keras", "onnx")]
    plan = inference.Plan(rounds=1, quick=True, only=(*words, "network input"))
    found = told(inference.run(plan, lambda *_: None), measure="ms")
    assert found.pop(PREPARING) == {OURS, GUARDED, PYDICOM}
    ways = {inference.BARE["keras"], inference.CALLED, inference.PREDICT, inference.LOOP}
    for name in names:
        assert found.pop(f"{name}, keras, batch 8") == {OURS, *ways}
        assert found.pop(f"{name}, onnx, batch 8") == {OURS, inference.BARE["onnx"], inference.ALL_CORES}
    assert not found


def test_every_shipped_package_and_networks_as_published_are_computed() -> None:
    def named(**how: Any) -> list[str]:
        plan = inference.Plan(**how)
        return [one.card.name for one in inference.networks_of(plan, Registry().find(plan.model))]

    shipped = ["chest_xray_triage", "chest_ct_covid"]
    assert named() == [*shipped, *inference.PUBLISHED]
    assert named(quick=True) == [*shipped, *(name for name in inference.PUBLISHED if name not in inference.LARGE)]
    assert named(model="chest_ct_covid") == ["chest_ct_covid"], "who names another one wants that alone"


def test_queue(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    report = owed_work.run(owed_work.Plan(rounds=1, quick=True, only=("sqlite",)), lambda *_: None)
    (name,) = {contender for _, contender in report.seen.rows()}
    assert told(report, measure="overhead_ms") == {case: {name} for case in owed_work.BATCHES}
    ((points),) = report.more["curves"]["the cost of a claim"]["lines"].values()
    assert [size for size, _ in points] == [10, 1000]
    (plans,) = report.more["query_plans"].values()
    for statements in plans.values():
        told_plans = [line for one in statements for line in one["plan"]]
        assert any("ix_work_item_owed" in line for line in told_plans), told_plans
        assert not any(line.startswith("SCAN work_item") and "USING" not in line for line in told_plans), told_plans


@pytest.mark.peer("storescp")
def test_pipeline() -> None:
    """A backlog piles up while the worker stands still, then it is drained; beside it the loop over files."""
    plan = pipeline.Plan(rounds=1, quick=True, only=(pipeline.BACKLOG,))
    report = pipeline.run(plan, lambda *_: None)
    assert told(report, measure="per_second") == {pipeline.BACKLOG: {OURS, pipeline.LIMIT}}


def test_orthanc_is_named_where_its_plugin_is_not_installed(tmp_path: Path) -> None:
    absent: dict[str, str] = {}
    plan = pipeline.Plan(orthanc_python=tmp_path / "plugin.so")
    assert pipeline.orthancs(plan, tmp_path, tmp_path / "models", absent) == []
    assert "not" in absent["Orthanc + plugin"]
