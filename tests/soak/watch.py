"""What every process of the stack takes, looked at from outside: memory, descriptors, threads, temporary files."""

import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.support.memory import memory_mib


@dataclass(frozen=True)
class Sample:
    """One look at one process.

    Attributes
    ----------
    seconds
        Since the start of the watch.
    memory_mib
        Anonymous memory in use (RssAnon of proc(5)), MiB: what the process has taken for itself. Pages of files are
        left out: whether others share them depends on who else runs.
    """

    seconds: float
    memory_mib: float
    descriptors: int
    threads: int


@dataclass
class Watch:
    """Looks at a process and all its descendants, again and again.

    Parameters
    ----------
    root
        Process id of `firstread up`.
    temporary
        Directories whose files are counted: what services make there and leave behind.
    """

    root: int
    temporary: tuple[Path, ...]
    began: float = field(default_factory=time.monotonic)
    processes: dict[str, list[Sample]] = field(default_factory=dict)
    files: list[tuple[float, int]] = field(default_factory=list)

    def look(self) -> None:
        """Take one sample of everything."""
        now = time.monotonic() - self.began
        root = psutil.Process(self.root)
        for process in (root, *root.children(recursive=True)):
            try:
                with process.oneshot():
                    sample = Sample(now, memory_mib(process.pid, "RssAnon"), process.num_fds(), process.num_threads())
                    name = f"{role(process.cmdline())} {process.pid}"
            except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess, FileNotFoundError):
                continue  # it ended between the list and the look
            self.processes.setdefault(name, []).append(sample)
        self.files.append((now, sum(1 for folder in self.temporary for path in folder.rglob("*") if path.is_file())))


def role(command: list[str]) -> str:
    """Return what a process is for, from its command line."""
    words = " ".join(command)
    if "redis-server" in words:
        return "redis"
    if "worker.inference.decoder" in words or "worker.intake.header_child" in words:
        return "guarded child"
    for name in ("listener", "intake", "worklist", "up"):
        if name in command:
            return name
    if "--queues" in command:
        return command[command.index("--queues") + 1]
    return Path(command[0]).name if command else "ended"
