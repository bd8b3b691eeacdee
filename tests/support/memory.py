"""Memory of a process, as the kernel counts it."""

import re
from pathlib import Path

KIBIBYTES = 1 << 10
"""Of a MiB."""


def memory_mib(pid: int, field: str) -> float:
    """Return a field of /proc/PID/status (proc(5)), MiB: `VmHWM`, `RssAnon`; nothing of one that has just ended."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(rf"^{field}:\s+(\d+) kB$", status, re.MULTILINE)
    return int(found[1]) / KIBIBYTES if found else 0.0
