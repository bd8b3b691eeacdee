"""From runs of a stage to its figures: what it costs once, for each object, and for each object of the studies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from tests.bench.simulation.measuring.parties import Spent
from tests.bench.simulation.measuring.probe import Seen
from tests.bench.simulation.stage_times import Spread, Stage


@dataclass(frozen=True)
class Run:
    """One run of a stage over `count` objects, of studies that held `seen`."""

    count: int
    spent: Spent
    seen: int = 0
    probed: Seen | None = None


def fitted(name: str, how: str, runs: Sequence[Run], rename: Mapping[str, str] | None = None) -> Stage:
    """Return the stage that fits its runs best: least squares over the lower quartile of each kind (others only add).

    Parameters
    ----------
    rename
        New names of parties.
    """
    kinds = sorted({(run.count, run.seen) for run in runs})
    columns = _columns(kinds)
    matrix = np.array([[1.0, count, seen] for count, seen in kinds])[:, columns]
    fixed: dict[str, float] = {}
    each: dict[str, float] = {}
    held: dict[str, float] = {}
    parts: tuple[dict[str, float], ...] = (fixed, each, held)
    counted = _who_counts(runs)
    for party in runs[0].spent.processor:
        found = _solve(matrix, [_typical(runs, kind, lambda run, p=party: run.spent.processor[p]) for kind in kinds])
        for column, value in zip(columns, found, strict=True):
            if value > 0 and party in counted:
                parts[column][(rename or {}).get(party, party)] = value
    probed = [run for run in runs if run.probed is not None]
    statements = (0.0, 0.0)
    if probed:
        trips = [_typical(probed, kind, lambda run: float(run.probed.trips)) for kind in kinds]  # type: ignore[union-attr]
        solved = dict(zip(columns, _solve(matrix, trips), strict=True))
        statements = (solved.get(0, 0.0), solved.get(1, 0.0))
    spread = _spread(runs, kinds)
    return Stage(name, "measured", how, fixed, each, held, statements, _chained(probed), spread)


def _who_counts(runs: Sequence[Run]) -> set[str]:
    """Return the parties with a part in it worth the name: others do a little of their own at any time."""
    sums = {party: sum(run.spent.processor[party] for run in runs) for party in runs[0].spent.processor}
    return {party for party, seconds in sums.items() if seconds > NOISE * sum(sums.values())}


NOISE = 0.02


def _columns(kinds: Sequence[tuple[int, int]]) -> list[int]:
    """Return which of the three can be told apart."""
    counts, seens = {count for count, _ in kinds}, {seen for _, seen in kinds}
    columns = [0] if len(kinds) > 1 or counts == {0} else []
    if len(counts) > 1 or not columns:
        columns.append(1)
    if len(seens) > 1 and len(kinds) > 2:
        columns.append(2)
    return columns


def _solve(matrix: np.ndarray, values: Sequence[float]) -> list[float]:
    """Solve in relative terms, so that the small runs count as much as the large; nothing costs less than nothing."""
    from scipy.optimize import nnls

    scale = np.maximum(np.array(values), 1e-9)
    found, _ = nnls(matrix / scale[:, None], np.ones(len(values)))
    return [float(value) for value in found]


def _typical(runs: Sequence[Run], kind: tuple[int, int], value) -> float:  # type: ignore[no-untyped-def]
    values = sorted(value(run) for run in runs if (run.count, run.seen) == kind)
    return values[len(values) // 4]


def _spread(runs: Sequence[Run], kinds: Sequence[tuple[int, int]]) -> Spread:
    """Return how single runs differ from the typical one of their kind, in processor seconds of all parties."""
    shares = []
    for kind in kinds:
        totals = [sum(run.spent.processor.values()) for run in runs if (run.count, run.seen) == kind]
        if (typical := median(totals)) > 0:
            shares += [total / typical for total in totals]
    return Spread.of(shares) if shares else Spread()


def _chained(runs: Sequence[Run]) -> float:
    whole = sum(run.probed.transaction_seconds for run in runs if run.probed)
    return sum(run.probed.chained_seconds for run in runs if run.probed) / whole if whole else 0.0
