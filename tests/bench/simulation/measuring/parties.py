"""Who computed how long: processor seconds of processes, by party. Others on the machine do not change them much."""

import contextlib
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

NANOSECONDS = 1e-9

Pids = Callable[[], list[int]]
"""Names the processes of a party, as they are now."""


@dataclass(frozen=True)
class Spent:
    """What something took: wall time, and processor seconds by party."""

    wall: float
    processor: Mapping[str, float]


class Parties:
    """Watches processes.

    Parameters
    ----------
    own
        Which party this process is.
    others
        Processes of the other parties.
    """

    def __init__(self, own: str, others: Mapping[str, Pids]) -> None:
        self.own, self.others = own, others

    def time(self, act: Callable[[], object]) -> Spent:
        """Do something and say what it took."""
        before = self._look()
        own, began = time.process_time(), time.perf_counter()
        act()
        wall, own = time.perf_counter() - began, time.process_time() - own
        after = self._look()  # it computes too: our own time is not looked at with the others'
        return Spent(wall, {self.own: own, **{party: max(0.0, after[party] - before[party]) for party in before}})

    def _look(self) -> dict[str, float]:
        return {party: sum(on_processor(pid) for pid in pids()) for party, pids in self.others.items()}


def on_processor(pid: int) -> float:
    """Return the seconds that the threads of a process have been on a processor (proc(5), schedstat)."""
    total = 0
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += int((task / "schedstat").read_text().split()[0])
    return total * NANOSECONDS


def tree(pid: int) -> Pids:
    """Name a process and all its descendants."""

    def pids() -> list[int]:
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(pid)
            return [pid, *(child.pid for child in root.children(recursive=True))]
        return []

    return pids


def children_that_run(module: str) -> Pids:
    """Name our own children that run a module."""

    def pids() -> list[int]:
        found = []
        for child in psutil.Process(os.getpid()).children():
            with contextlib.suppress(psutil.NoSuchProcess):
                if module in " ".join(child.cmdline()):
                    found.append(child.pid)
        return found

    return pids
