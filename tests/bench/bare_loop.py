"""The limit of a backlog: decode, prepare and classify in a loop over files, nothing else, in bare processes.

`python -m tests.bench.bare_loop MODEL ENGINE MODELS_DIR` says `ready`, then for each line of JSON, a list of paths,
does them and says so. What a process needs to get ready is not counted. It keeps its memory as a decoding child does:
the limit is as high as it can be.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np

from models.classifier import Classifier
from models.registry import Registry
from tests.bench.preparing import in_process
from worker.guarded.child import KEPT_MEMORY


def serve(model: str, engine: str, models_dir: str) -> None:
    """Do what is asked for until there is no more of it."""
    classifier = Classifier.load(Registry(Path(models_dir)).find(model), engine=engine)
    classifier.warm_up()
    print("ready", flush=True)
    for line in sys.stdin:
        paths = json.loads(line)
        for start in range(0, len(paths), classifier.max_batch):
            batch = [in_process(path, classifier.card) for path in paths[start : start + classifier.max_batch]]
            classifier.probabilities(np.stack(batch))
        print("done", flush=True)


class BareLoop:
    """So many processes of it, each with its share of the files."""

    def __init__(self, model: str, engine: str, workers: int, models_dir: Path) -> None:
        self._command = [sys.executable, "-m", "tests.bench.bare_loop", model, engine, str(models_dir)]
        self._workers = workers
        self._processes: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        try:
            for _ in range(self._workers):
                self._processes.append(
                    subprocess.Popen(
                        self._command,
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        text=True,
                        env=os.environ | KEPT_MEMORY,
                    )
                )
            for process in self._processes:
                self._hear(process, "ready")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.communicate(timeout=60)  # which closes its standard input

    def seconds(self, paths: Sequence[Path]) -> float:
        """Do the files; return how long it took."""
        began = time.perf_counter()
        for number, process in enumerate(self._processes):
            assert process.stdin is not None
            process.stdin.write(json.dumps([str(path) for path in paths[number :: self._workers]]) + "\n")
            process.stdin.flush()
        for process in self._processes:
            self._hear(process, "done")
        return time.perf_counter() - began

    @staticmethod
    def _hear(process: subprocess.Popen[str], word: str) -> None:
        assert process.stdout is not None
        if (said := process.stdout.readline().strip()) != word:
            raise RuntimeError(f"a bare loop said {said!r} instead of {word!r}, exit {process.poll()}")


if __name__ == "__main__":
    serve(*sys.argv[1:])
