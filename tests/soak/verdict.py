"""Whether a soak was flat: the end held against the time just after the warm-up."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from tests.soak.watch import Sample

ALLOWED_GROWTH = 0.10
"""Of memory, from the first part after the warm-up to the last."""
ALLOWED_DESCRIPTORS = 2
"""Connections of a pool come and go."""
ENOUGH = 3
"""Looks at a process from which on it counts."""
PART = 0.2
"""Share of the time after the warm-up that is held against the rest."""


@dataclass(frozen=True)
class Row:
    """One process: medians of its first and last part after the warm-up."""

    process: str
    memory_before: float
    memory_after: float
    descriptors_before: float
    descriptors_after: float
    whole: bool
    """Whether the process was there from the warm-up to the end."""

    @property
    def growth(self) -> float:
        """By which part of itself the memory has grown."""
        return self.memory_after / self.memory_before - 1

    @property
    def flat(self) -> bool:
        """Whether it lived to the end and took no more then than it did before."""
        calm = self.growth <= ALLOWED_GROWTH
        return self.whole and calm and self.descriptors_after <= self.descriptors_before + ALLOWED_DESCRIPTORS


def judge(processes: Mapping[str, Sequence[Sample]], warm_up: float, end: float) -> list[Row]:
    """Hold each process's last part against its first.

    Parameters
    ----------
    processes
        Samples by process.
    warm_up, end
        Seconds at which the time that counts begins and ends.

    Raises
    ------
    ValueError
        Nothing was seen after the warm-up: there is nothing to judge.
    """
    span = (end - warm_up) * PART
    rows = []
    for name, samples in processes.items():
        counted = [sample for sample in samples if sample.seconds >= warm_up]
        if len(counted) < ENOUGH:
            continue  # a helper of a moment, as when Redis rewrites its file
        before = [sample for sample in counted if sample.seconds <= warm_up + span]
        after = [sample for sample in counted if sample.seconds >= end - span]
        whole = bool(before and after)
        first, last = (before, after) if whole else (counted[:ENOUGH], counted[-ENOUGH:])
        rows.append(
            Row(
                name,
                median(sample.memory_mib for sample in first),
                median(sample.memory_mib for sample in last),
                median(sample.descriptors for sample in first),
                median(sample.descriptors for sample in last),
                whole=whole,
            )
        )
    if not rows:
        raise ValueError(f"no process was seen between {warm_up:.0f} s and {end:.0f} s")
    return rows
