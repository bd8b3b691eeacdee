"""Runs a benchmark and says where and with what: the one door to this package."""

import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.bench import charts, inference, owed_work, pipeline, receive
from tests.bench.machine import machine, versions
from tests.bench.report import Report, show

__all__ = ["run", "show", "write"]

Tell = Callable[[str, int, int], None]
BENCHMARKS: dict[str, Any] = {
    "receive": receive,
    "inference": inference,
    "pipeline": pipeline,
    "queue": owed_work,
}
"""Each has a `Plan` and a `run`."""


def run(benchmark: str, tell: Tell, **options: Any) -> Report:
    """Run a benchmark.

    Parameters
    ----------
    tell
        Is told what is being done, how many steps are done, and how many there are.
    **options
        Of its `Plan`.
    """
    for name in [name for name in os.environ if name.startswith("FIRSTREAD_")]:
        del os.environ[name]  # what is measured is the product as it ships, not as this user has set it
    os.environ["PATH"] = without_our_own(os.environ.get("PATH", os.defpath))
    module = BENCHMARKS[benchmark]
    about = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(Path(tempfile.gettempdir())),
        "versions": versions(),
        "options": {name: value.name if isinstance(value, Path) else value for name, value in options.items()},
    }
    began = time.monotonic()
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that what was started is ended
    try:
        report: Report = module.run(module.Plan(**options), tell)
    finally:
        signal.signal(signal.SIGTERM, before)
    report.about = {**about, "seconds": round(time.monotonic() - began, 1)}
    return report


def without_our_own(path: str) -> str:
    """Take our environment's programs off a search path: pynetdicom installs some under the names of dcmtk's."""
    return os.pathsep.join(one for one in path.split(os.pathsep) if Path(one) != Path(sys.executable).parent)


def write(report: Report, path: Path) -> list[Path]:
    """Write a report as JSON, and its charts beside it; return what was written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report.as_json(), indent=1, ensure_ascii=False) + "\n")
    return [path, *charts.draw(report, path.with_suffix(""))]
