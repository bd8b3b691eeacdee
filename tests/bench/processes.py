"""What a server and its children take: CPU time, and how far their memory grows."""

import contextlib
from pathlib import Path

import psutil

from tests.support.memory import memory_mib

LEAST_CPU_SECONDS = 0.05
"""CPU time is told in ticks of 10 ms; of less than a few of them, no figure is to be made."""


class Processes:
    """A process and all its descendants, children that have ended included in the CPU time.

    Parameters
    ----------
    root
        Process id of the server.
    """

    def __init__(self, root: int) -> None:
        self._root = psutil.Process(root)

    def _all(self) -> list[psutil.Process]:
        return [self._root, *self._root.children(recursive=True)]

    def cpu_seconds(self) -> float:
        """Return the CPU time used so far, user and system."""
        total = 0.0
        for process in self._all():
            with contextlib.suppress(psutil.NoSuchProcess):  # it ended since it was listed: its parent counts it
                times = process.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
        return total

    def begin_peak(self) -> dict[int, float]:
        """Forget the peak of memory that was, of each process; return what it holds now, MiB (proc(5), clear_refs)."""
        processes = self._all()
        for process in processes:
            with contextlib.suppress(OSError):  # it has ended, and waits for its parent to notice
                Path(f"/proc/{process.pid}/clear_refs").write_text("5")
        return {process.pid: memory_mib(process.pid, "VmRSS") for process in processes}

    def growth_mib(self, before: dict[int, float]) -> float:
        """Return by how much the processes of `begin_peak` grew at their peak since, MiB, all together."""
        return sum(memory_mib(pid, "VmHWM") - held for pid, held in before.items() if psutil.pid_exists(pid))
