"""Fuzzing led by coverage, with atheris (libFuzzer): for the targets that parse in Python, in a process of its own."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.fuzz.runner import ROOT, Result, Runner

NAMES = ("part 10", "headers")
"""Targets whose code runs in the process that is measured; the others read in a guarded child."""

INPUT_BYTES = 256
"""Of these the steps of a mutation are made, so that coverage leads structured steps, not bytes."""

RSS_MIB = 2048
FOUND = "FOUND "


def run(runner: Runner, name: str, cases: int, advance: Callable[[int], object]) -> Result:
    """Run so many cases of a target, stopping at the first that finds something."""
    result, began = Result(name), time.monotonic()
    runner.keep.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="firstread-fuzz-") as corpus:
        options = [
            f"-runs={cases}",
            f"-seed={runner.seed}",
            f"-timeout={int(runner.hang_seconds)}",
            f"-max_total_time={int(runner.most_seconds)}",
            f"-rss_limit_mb={RSS_MIB}",
            f"-max_len={INPUT_BYTES}",
            f"-artifact_prefix={runner.keep.resolve()}/",
            "-print_final_stats=1",
            "-verbosity=0",
        ]
        command = [sys.executable, "-m", "tests.fuzz.guided", name, str(runner.keep.resolve()), *options, corpus]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, errors="replace", check=False)
    said = done.stdout + done.stderr
    result.cases = _stat(said, "number_of_executed_units")
    result.peak_bytes = _stat(said, "peak_rss_mb") << 20
    result.slowest_seconds = float(_stat(said, "slowest_unit_time_sec"))
    result.seconds = time.monotonic() - began
    advance(result.cases)
    result.kept = [line.removeprefix(FOUND) for line in said.splitlines() if line.startswith(FOUND)]
    result.violations = len(result.kept)
    if done.returncode and not result.kept:
        result.hangs += "libFuzzer: timeout" in said
        result.crashes += "libFuzzer: timeout" not in said
        result.kept.append(f"{runner.keep}: {said.strip().splitlines()[-1] if said.strip() else done.returncode}")
    return result


def _stat(said: str, name: str) -> int:
    found = re.search(rf"stat::{name}:\s+(\d+)", said)
    return int(found[1]) if found else 0


def main() -> None:
    """Be the process: `guided NAME KEEP [libFuzzer's options]`."""
    import atheris

    with atheris.instrument_imports(
        include=["pydicom.filereader", "pydicom.dataset", "worker.intake", "worker.inference"]
    ):
        from tests.fuzz.mutation import STEPS, Mutation
        from tests.fuzz.targets import opened

    name, keep = sys.argv[1], Path(sys.argv[2])
    with opened(name) as target:

        def one(data: bytes) -> None:
            source = atheris.FuzzedDataProvider(data)
            choice = source.ConsumeIntInRange(0, (1 << 16) - 1)
            steps = [
                Mutation(
                    STEPS[source.ConsumeIntInRange(0, len(STEPS) - 1)],
                    source.ConsumeIntInRange(0, (1 << 24) - 1),
                    source.ConsumeIntInRange(0, (1 << 16) - 1),
                    source.ConsumeBytes(source.ConsumeIntInRange(0, 8)),
                )
                for _ in range(source.ConsumeIntInRange(1, 8))
            ]
            case = target.made(choice, steps)
            try:
                target.run(case)
            except BaseException as error:
                path = keep / f"{name.replace(' ', '-')}-guided-{os.getpid()}.case"
                path.write_bytes(case)
                print(f"{FOUND}{path}: {type(error).__name__}: {error}", flush=True)
                raise

        atheris.Setup([sys.argv[0], *sys.argv[3:]], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
