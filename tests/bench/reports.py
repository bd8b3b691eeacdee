"""What a report costs: `python -m tests.bench.reports`, in milliseconds of CPU of this process a report.

A backlog of films, each a study of its own with two findings, is registered and classified by a fake; then its reports
are made and delivered to dcmtk's storescp (where it is not installed, delivery is left out). Making is timed apart:
as one report after another, and as the first of a process, which has highdicom and pydicom make what is kept for the
others. `tests/bench/results/reports.json` holds what came of it.
"""

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from tests.bench.machine import machine
from tests.support.fakes import make_pipeline
from tests.support.objects import save
from tests.support.peers import Storescp
from tests.support.pipelines import bright, infer
from tests.support.stack import answers
from tests.support.study_results import result_of, source
from worker.config import Peer
from worker.pipeline import Pipeline
from worker.reporting import content, structured_report

ROUNDS, REPORTS = 7, 40
RESULTS = Path(__file__).parent / "results" / "reports.json"
KEPT = (
    content._condition_form, content._summary_form, content._frame, content._comments_form,
    structured_report._document, structured_report._equipment, structured_report._contribution,
)  # fmt: skip


def cpu_ms(work: Callable[[], Any]) -> float:
    """Return the CPU time that something takes, of all threads, in milliseconds a report."""
    began = time.process_time()
    work()
    return 1000 * (time.process_time() - began) / REPORTS


def make(folder: Path, *, anew: bool) -> None:
    """Make reports and write their files; `anew`: nothing is kept from one to the next."""
    for number in range(REPORTS):
        if anew:
            for kept in KEPT:
                kept.cache_clear()
        result = result_of(source(StudyInstanceUID=f"1.2.3.{number}"))
        structured_report.write(structured_report.build(result), folder / "report.dcm")


def fill(pipeline: Pipeline, folder: Path) -> None:
    """Have as many studies classified as there are to be reports."""
    for _ in range(REPORTS):
        film = save(bright(), folder / "film.dcm")
        with pipeline.spool.receive() as incoming:
            incoming.write(film.read_bytes())
            incoming.commit()
    infer(pipeline)


@contextmanager
def peer(folder: Path) -> Iterator[Peer | None]:
    """Give a PACS, where there is one to start."""
    pacs = Storescp(folder / "pacs")
    try:
        pacs.start()
    except FileNotFoundError:
        yield None
        return
    try:
        while not answers(pacs.port):
            time.sleep(0.05)
        yield Peer.parse(pacs.peer)
    finally:
        pacs.stop()


def main() -> None:
    """Measure, print and write."""
    report: dict[str, Any] = {"machine": machine(RESULTS.parent), "rounds": ROUNDS, "reports_a_round": REPORTS}
    taken: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="firstread-bench-") as name, ExitStack() as running:
        folder = Path(name)
        there = running.enter_context(peer(folder))
        pipeline = make_pipeline(f"sqlite:///{folder}/db", folder / "data", destinations=[there] if there else [])
        running.callback(pipeline.database.dispose)
        steps: dict[str, Callable[[], Any]] = {
            "made, the first of a process": lambda: make(folder, anew=True),
            "made": lambda: make(folder, anew=False),
            "gathered, made and committed": pipeline.report,
        }
        if there:
            steps["delivered"] = pipeline.deliver
        log = running.enter_context((folder / "log").open("w"))
        for _ in range(ROUNDS):
            with redirect_stdout(log):
                fill(pipeline, folder)
            for step, work in steps.items():
                with redirect_stdout(log):
                    found = cpu_ms(work)
                taken.setdefault(step, []).append(found)
    report["cpu_ms_a_report"] = {
        step: {"median": round(statistics.median(times), 2), "rounds": [round(one, 2) for one in times]}
        for step, times in taken.items()
    }
    for step, found in report["cpu_ms_a_report"].items():
        print(f"{found['median']:>8} ms  {step}", file=sys.stderr)
    RESULTS.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
