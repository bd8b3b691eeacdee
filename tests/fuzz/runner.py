"""The runner: one process a target at a time, watched from outside; what ends or stops it is kept as a file."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.fuzz.targets import TARGETS, opened
from tests.fuzz.worker import STATE, State

ROOT = Path(__file__).parents[2]
POLL_SECONDS = 0.2
KEPT = 20
"""Cases of a target that are kept: more of them say the same."""

START_SECONDS = 120.0


@dataclass
class Result:
    """What became of one target."""

    target: str
    cases: int = 0
    crashes: int = 0
    hangs: int = 0
    violations: int = 0
    slowest_seconds: float = 0.0
    peak_bytes: int = 0
    seconds: float = 0.0
    kept: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether nothing was found."""
        return not (self.crashes or self.hangs or self.violations)

    def as_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


class Runner:
    """Runs cases and keeps what was found.

    Parameters
    ----------
    seed
        The same cases for the same seed.
    keep
        Directory for the cases that found something; made when it is needed.
    hang_seconds
        A case that takes longer hangs.
    most_seconds
        No target goes on after so long.
    """

    def __init__(self, *, seed: int, keep: Path, hang_seconds: float, most_seconds: float) -> None:
        self.seed = seed
        self.keep = keep
        self.hang_seconds = hang_seconds
        self.most_seconds = most_seconds

    def run(self, name: str, cases: int, advance: Callable[[int], object]) -> Result:
        """Run so many cases of a target; `advance` is told how many are done."""
        result = Result(name)
        began = time.monotonic()
        with TemporaryDirectory(prefix="firstread-fuzz-") as directory:
            path = Path(directory) / "state"
            path.write_bytes(bytes(STATE.size))
            state, first = State(path), 0
            while first < cases and time.monotonic() - began < self.most_seconds:
                first = self._stretch(result, state, path, (first, cases), advance, began + self.most_seconds)
            _, _, _, result.slowest_seconds, result.peak_bytes = state.read()
        result.seconds = time.monotonic() - began
        return result

    def _stretch(
        self,
        result: Result,
        state: State,
        path: Path,
        span: tuple[int, int],
        advance: Callable[[int], object],
        deadline: float,
    ) -> int:
        """Run until the end, a crash or a hang; return which case comes next."""
        first, last = span
        _, done, slowest, seconds, peak = state.read()
        state.write(first, done, slowest, seconds, peak)
        found = path.with_name("found")
        command = [
            sys.executable,
            "-m",
            "tests.fuzz.worker",
            result.target,
            str(self.seed),
            str(first),
            str(last),
            str(path),
        ]
        with found.open("wb") as out, subprocess.Popen(command, cwd=ROOT, stdout=out) as process:
            hung, over = self._watch(process, state, (done, last), advance, deadline, result)
        index = state.read()[0]
        for line in found.read_bytes().splitlines():
            said = json.loads(line)
            result.violations += 1
            self._keep(result, said["index"], said["what"], said["case"])
        if over or (not hung and process.returncode == 0):
            return last
        if hung:
            result.hangs += 1
            self._keep(result, index, f"it took longer than {self.hang_seconds:g} seconds")
        else:
            result.crashes += 1
            ended = (
                signal.Signals(-process.returncode).name if process.returncode < 0 else f"status {process.returncode}"
            )
            self._keep(result, index, f"the process ended by {ended}")
        _, done, *rest = state.read()
        state.write(index + 1, done + 1, *rest)
        result.cases += 1
        return index + 1

    def _watch(
        self,
        process: subprocess.Popen[bytes],
        state: State,
        span: tuple[int, int],
        advance: Callable[[int], object],
        deadline: float,
        result: Result,
    ) -> tuple[bool, bool]:
        """Wait for the process; `span`: cases done before, and the last. Return whether it hung, or ran out of time."""
        before, last = span
        at, since, told = state.read()[0], time.monotonic(), before
        patience = START_SECONDS
        while process.poll() is None:
            time.sleep(POLL_SECONDS)
            index, done, *_ = state.read()
            if index != at:
                at, since = index, time.monotonic()
                patience = self.hang_seconds if index < last else START_SECONDS  # after the last it only ends
            elif done > before and index < last:
                patience = self.hang_seconds
            advance(done - told)
            told = done
            now = time.monotonic()
            if now - since > patience or now > deadline:
                process.kill()
                process.wait()
                result.cases = state.read()[1]
                return now - since > patience, now > deadline
        result.cases = state.read()[1]
        advance(result.cases - told)
        return False, False

    def _keep(self, result: Result, index: int, what: str, case: str | None = None) -> None:
        if len(result.kept) >= KEPT:
            return
        self.keep.mkdir(parents=True, exist_ok=True)
        path = self.keep / f"{result.target.replace(' ', '-')}-{self.seed}-{index}.case"
        if case is not None:
            path.write_bytes(bytes.fromhex(case))
        else:
            with opened(result.target) as target:
                path.write_bytes(target.random_case(self.seed, index))
        result.kept.append(f"{path}: {what}")


def replay(path: Path) -> str | None:
    """Run a kept case again in this process; return what was found, None where nothing is any more."""
    name = next(name for name in TARGETS if path.name.startswith(f"{name.replace(' ', '-')}-"))
    with opened(name) as target:
        try:
            target.run(path.read_bytes())
            target.finish()
        except Exception as error:  # noqa: BLE001 - any error that gets here is what is looked for
            return f"{type(error).__name__}: {error}"
    return None
