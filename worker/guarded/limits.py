"""Limits of a process (setrlimit(2)), and of one job of it."""

import contextlib
import math
import resource
import signal
from collections.abc import Iterator

_FILE_BYTES = 1 << 20
"""What may be written to a file, bytes: standard error is one, in memory."""
_OPEN_FILES = 32
_ORPHAN_SECONDS = 5
"""How much longer than the parent's patience an orphan may go on before its own alarm ends it."""


def restrict(memory_bytes: int) -> str:
    """Limit this process for good: address space, files it has open or writes, processes it starts, no core.

    Parameters
    ----------
    memory_bytes
        Address space, bytes.

    Returns
    -------
    str
        What is in force, in words.
    """
    for kind, amount in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, _FILE_BYTES),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_AS, memory_bytes),
    ):
        allowed = _allowed(kind, amount)
        resource.setrlimit(kind, (allowed, allowed))
    return f"{memory_bytes >> 20} MiB of memory"


def _allowed(kind: int, amount: int) -> int:
    hard = resource.getrlimit(kind)[1]
    return amount if hard == resource.RLIM_INFINITY else min(amount, hard)


@contextlib.contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """End this process by SIGXCPU when a job takes more CPU time than this, and by SIGALRM if the parent does not."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu = math.ceil(used.ru_utime + used.ru_stime + seconds) + 1
    before = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (_allowed(resource.RLIMIT_CPU, cpu), before[1]))
    signal.setitimer(signal.ITIMER_REAL, seconds + _ORPHAN_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        resource.setrlimit(resource.RLIMIT_CPU, before)
