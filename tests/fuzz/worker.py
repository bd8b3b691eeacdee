"""The process that runs the cases of one target; what it does is in shared memory, so that its end tells which case."""

import json
import logging
import mmap
import resource
import struct
import sys
import time
import warnings
from pathlib import Path

import psutil
import structlog

from tests.fuzz.targets import Violation, opened

STATE = struct.Struct("=QQQdQ")
"""Case under way, cases done, the slowest, its seconds, largest resident memory (this process, its child), bytes."""

MEMORY = 3 << 30
"""Address space of the worker: what reads within it has to do with less."""


class State:
    """The shared memory: written here, read by the runner."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self.memory = mmap.mmap(file.fileno(), STATE.size)

    def write(self, *values: float) -> None:
        """Write all of it."""
        STATE.pack_into(self.memory, 0, *values)

    def read(self) -> tuple[int, int, int, float, int]:
        """Read all of it."""
        index, done, slowest, seconds, peak = STATE.unpack_from(self.memory)
        return index, done, slowest, seconds, peak


def resident() -> int:
    """Return the largest resident memory so far of this process and of its children, bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    for child in psutil.Process().children():
        status = Path(f"/proc/{child.pid}/status")
        lines = status.read_text().splitlines() if status.exists() else []
        peak = max(peak, *(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:")), 0)
    return peak


def run(name: str, seed: int, first: int, last: int, state_file: Path) -> None:
    """Run the cases from `first` to before `last`; each violation is a line of JSON."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))  # stdout is for findings
    warnings.simplefilter("ignore")  # as in the children: pydicom's remarks about single values
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    state = State(state_file)
    _, done, slowest, seconds, peak = state.read()
    with opened(name) as target:
        index = first
        for index in range(first, last):
            state.write(index, done, slowest, seconds, peak)
            case = target.random_case(seed, index)
            began = time.perf_counter()
            _judged(index, lambda case=case: target.run(case))  # type: ignore[misc]
            took = time.perf_counter() - began
            done += 1
            if took > seconds:
                slowest, seconds = index, took
            if index % 50 == 0 or index == last - 1:
                peak = max(peak, resident())
        _judged(index, target.finish)
        state.write(last, done, slowest, seconds, peak)


def _judged(index: int, way: object) -> None:
    case = None
    try:
        way()  # type: ignore[operator]
    except Violation as error:
        told = str(error)
        case = error.case.hex() if error.case is not None else None
    except Exception as error:  # noqa: BLE001 - any error that gets here is what is looked for
        told = f"{type(error).__name__}: {error}"
    else:
        return
    print(json.dumps({"index": index, "what": told[:500], "case": case}), flush=True)


if __name__ == "__main__":
    run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]))
