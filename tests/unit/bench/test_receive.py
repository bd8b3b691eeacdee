"""What a run of the benchmark of receiving makes of what it took."""

from math import isnan
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.bench import receive
from tests.bench.receive import Case, measured


@pytest.mark.parametrize(("seconds", "known"), [(0.0, False), (0.04, False), (0.05, True), (1.0, True)])
def test_cpu_time_of_a_few_ticks_is_no_figure(seconds: float, known: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    times, held = iter((0.0, seconds)), iter((0, 4))
    processes = SimpleNamespace(cpu_seconds=lambda: next(times), begin_peak=dict, growth_mib=lambda _before: 0.0)
    receiver = SimpleNamespace(pid=1, name="peer", grows=False, held=lambda: next(held), push=lambda *_arguments: 2.0)
    monkeypatch.setattr(receive, "Processes", lambda _pid: processes)
    monkeypatch.setattr(receive, "Storescu", lambda **_options: None)
    monkeypatch.setattr(receive.os, "sync", lambda: None)
    figures = measured(receiver, Case("CR", (Path("film.dcm"),), 4))  # type: ignore[arg-type]
    assert figures["per_second"] == 2.0
    assert isnan(figures["cpu_ms"]) is not known
