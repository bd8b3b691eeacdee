"""The simulation held against the real thing: the same studies through both, with 1, 2 and 4 workers."""

import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tests.bench.simulation.inputs import Inputs
from tests.bench.simulation.plant import Plant
from tests.bench.simulation.reality import QUIET_SECONDS, SWEEP_SECONDS, RealSite, Seen
from tests.bench.simulation.simulate import Outcome, percentiles, simulate
from tests.bench.simulation.site import Study
from tests.bench.simulation.stage_times import slower

WORKERS = (1, 2, 4)
PHASES = ("burst", "steady")
LONGEST = 300.0

Tell = Callable[[str], object]


def studies_of(phase: str, seed: int = 1) -> list[Study]:
    """Return the load: a little of everything, films and two stacks of slices at once, or films one after the other."""
    if phase == "warm-up":  # what a process does first is slower: statements are put together, highdicom is imported
        return [Study(number, kind, 4, 0.0) for number, kind in enumerate(("cr", "ct") * 2)]
    if phase == "burst":
        return [Study(number, "cr", 1, 0.0) for number in range(16)] + [
            Study(16, "ct", 48, 0.0),
            Study(17, "ct", 48, 0.0),
        ]
    chance, at, studies = random.Random(seed), 0.0, []
    for number in range(20):
        at += chance.expovariate(0.5)
        studies.append(Study(number, "cr", 1, at))
    return studies


def simulated(phase: str, workers: int, inputs: Inputs, seen: Seen) -> Outcome:
    """Give the simulation what the real run had: its studies, the cores that others left, the pace of the moment."""
    cores = max(0.2, len(os.sched_getaffinity(0)) - seen.others)
    factor = seen.pace_seconds / inputs.pace_seconds
    stages = {**inputs.stages, "pacs": inputs.stages["pacs_here"]}
    plant = Plant(
        workers=workers, one_machine_cores=cores, spool_channels=inputs.channels, quiet_seconds=QUIET_SECONDS,
        sweep_seconds=SWEEP_SECONDS,
    )  # fmt: skip
    return simulate(plant, slower(stages, factor), studies_of(phase), LONGEST, look_seconds=5)


def compare(inputs: Inputs, rounds: int, tell: Tell, workers: Sequence[int] = WORKERS) -> Iterator[dict[str, Any]]:
    """Yield a row for each round, number of workers and phase: what was seen beside what was simulated."""
    for number in range(rounds):
        for count in workers:
            with RealSite(count) as site:
                site.work_through(studies_of("warm-up"), tell)
                for phase in PHASES:
                    tell(f"round {number + 1}, {count} workers, {phase}")
                    seen = site.work_through(studies_of(phase), tell)
                    model = simulated(phase, count, inputs, seen)
                    yield row_of(number + 1, count, phase, seen, model, inputs.pace_seconds)


def row_of(number: int, workers: int, phase: str, seen: Seen, model: Outcome, pace_seconds: float) -> dict[str, Any]:
    """Return what was seen and what was simulated, side by side."""
    last = model.counts.last_result_at
    return {
        "round": number,
        "workers": workers,
        "phase": phase,
        "others_cores": seen.others,
        "slower": seen.pace_seconds / pace_seconds,
        "seen": {
            "objects_a_second": seen.rate,
            "to_result_seconds": {kind: percentiles(values) for kind, values in seen.to_result.items()},
            "to_report_seconds": {kind: percentiles(values) for kind, values in seen.to_report.items()},
        },
        "simulated": {
            "objects_a_second": model.counts.classified / last if last else 0.0,
            "to_result_seconds": {kind: percentiles(values) for kind, values in model.counts.to_result.items()},
            "to_report_seconds": {kind: percentiles(values) for kind, values in model.counts.to_report.items()},
        },
    }


def again(inputs: Inputs, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Simulate once more what rows of an earlier comparison have seen."""
    fresh = []
    for row in rows:
        seen = Seen(row["seen"]["objects_a_second"], row["others_cores"], row["slower"] * inputs.pace_seconds)
        model = simulated(row["phase"], row["workers"], inputs, seen)
        made = row_of(row["round"], row["workers"], row["phase"], seen, model, inputs.pace_seconds)
        fresh.append({**made, "seen": row["seen"]})
    return fresh
