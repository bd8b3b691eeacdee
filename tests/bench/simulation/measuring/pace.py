"""How much a processor second is worth just now: others on the same cores take caches and turns of the same core.

    python -m tests.bench.simulation.measuring.pace

prints, twice a second, the processor seconds of one and the same piece of work. The simulation of a real run scales the
stage times by how much slower that piece was then than when they were measured.
"""

import hashlib
import os
import subprocess
import sys
import time
from statistics import median
from typing import Self

PIECE = bytes(4 << 20)
EVERY_SECONDS = 0.5


class Pace:
    """Watches the pace in a process of its own while the block runs."""

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "tests.bench.simulation.measuring.pace"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        text, _ = self._process.communicate()
        whole = text.splitlines()[1:-1]  # the first is cold, the last may be cut
        self.seconds = median(float(line) for line in whole) if whole else 0.0


def main() -> None:
    """Print until ended."""
    while os.getppid() > 1:
        began = time.process_time()
        hashlib.sha256(bytearray(PIECE)).digest()
        print(f"{time.process_time() - began:.6f}", flush=True)
        time.sleep(EVERY_SECONDS)


if __name__ == "__main__":
    main()
