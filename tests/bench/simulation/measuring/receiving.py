"""Measured: C-STORE into the real listener, and the disk under the spool, alone and by many at once."""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from tests.bench.simulation.measuring.fit import Run, fitted
from tests.bench.simulation.measuring.loads import Loads
from tests.bench.simulation.measuring.parties import Parties, tree
from tests.bench.simulation.stage_times import Spread, Stage
from tests.support.raw_store import EXPLICIT_VR_LITTLE_ENDIAN, RawAssociation
from tests.support.stack import Stack
from worker.files import sync_directory
from worker.intake.spool import Spool

OBJECTS = {"cr": 6, "ct": 40}
"""Of one round."""
AT_ONCE = 8


def receive(stack: Stack, loads: Loads, rounds: int, tell: Callable[[str], object]) -> list[Stage]:
    """Send objects one by one to the running listener of a stack; the head of a round is its warm-up."""
    parties = Parties("sender", {"listener": tree(stack.processes["listener"].pid)})
    runs: dict[str, list[Run]] = {"cr": [], "ct": []}
    for _ in range(rounds):
        for kind, found in runs.items():
            tell(f"receive {kind}")
            scans = list(loads.study(kind, OBJECTS[kind] + 1))
            contexts = [(scans[0].sop_class_uid, [EXPLICIT_VR_LITTLE_ENDIAN])]
            with RawAssociation("127.0.0.1", stack.port, contexts, timeout=60) as association:
                for number, one in enumerate(scans):
                    spent = parties.time(
                        lambda one=one: association.store(
                            one.sop_class_uid, one.sop_instance_uid, one.data, room=MAXIMUM
                        )
                    )
                    if number:
                        found.append(Run(1, spent))
    how = "processor seconds of the listener and of a plain sender for one C-STORE, one association"
    return [fitted(f"receive.{kind}", how, found) for kind, found in runs.items()]


MAXIMUM = 131072 - 6
"""Room of a fragment in a PDU of the length that the listener offers."""


def disk(folder: Path, rounds: int, tell: Callable[[str], object]) -> tuple[list[Stage], float]:
    """Write, sync and name files as the spool does; return the stages, and how many such writes it does at once."""
    spool = Spool(folder)
    sizes = {"spool.cr": 2048 * 2048 * 2, "spool.ct": 512 * 512 * 2, "report_file": 1 << 14, "file_away": 0, "log": 0}
    blocks = {name: os.urandom(size) for name, size in sizes.items()}
    seconds: dict[str, list[float]] = {name: [] for name in sizes}
    for round_number in range(rounds + 1):
        for name, block in blocks.items():
            tell(f"disk {name}")
            for _ in range(3 if name == "spool.cr" else 12):
                found = _write(spool, name, block)
                if round_number:  # the first touches fresh memory and fresh blocks
                    seconds[name].append(found)
    how = "wall time of the same fsyncs, alone; the median, for others use this disk too"
    stages = [
        Stage(name, "measured", how, {"wait": median(found)}, spread=Spread.of(found))
        for name, found in seconds.items()
    ]
    return stages, channels(spool, blocks["spool.ct"], rounds, tell)


def _write(spool: Spool, name: str, block: bytes) -> float:
    """Return the seconds until it is durable; writing into memory is the processors' work and counted there."""
    if name == "file_away":
        began = time.perf_counter()
        for _ in range(3):  # the folder of the day, the arrivals, and what holds the folder
            sync_directory(spool.incoming_dir)
        return time.perf_counter() - began
    if name == "log":
        with (spool.directory / "log").open("ab") as file:
            file.write(b"\0" * LOG_BYTES)
            file.flush()
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            return time.perf_counter() - began
    with spool.receive() as incoming:
        incoming.write(block)
        began = time.perf_counter()
        incoming.commit()
        return time.perf_counter() - began


LOG_BYTES = 8192
"""A page of a write-ahead log."""


def channels(spool: Spool, block: bytes, rounds: int, tell: Callable[[str], object]) -> float:
    """Return how many durable writes the disk does in the time of one, at least 1."""
    found = []
    for _ in range(rounds):
        tell("disk, many at once")
        alone = _writes_a_second(spool, block, 1)
        found.append(_writes_a_second(spool, block, AT_ONCE) / alone)
    return max(1.0, median(found))


def _writes_a_second(spool: Spool, block: bytes, threads: int, each: int = 12) -> float:
    def write() -> None:
        for _ in range(each):
            _write(spool, "spool.ct", block)

    workers = [threading.Thread(target=write) for _ in range(threads)]
    began = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return threads * each / (time.perf_counter() - began)
