"""Both engines side by side: from the start of a process to its first score, its memory, and the time of an image.

`python tests/bench/engines.py [--model NAME] [--rounds N]`: every round starts a process for each engine in turn; the
medians are printed, and the ratio. On a shared machine the ratio is what counts.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time

ENGINES = ("keras", "onnx")
BATCHES = (1, 8, 32)

PROGRAM = """
import json, sys, time
import numpy as np
from models.classifier import Classifier
from models.registry import Registry
classifier = Classifier.load(Registry().find(sys.argv[1]), engine=sys.argv[2])
shape = classifier.card.input
images = np.random.default_rng(0).standard_normal((32, shape.rows, shape.columns, shape.channels), np.float32)
classifier.probabilities(images[:1])
print(json.dumps({"first": time.time()}), flush=True)
classifier.warm_up()
resident = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmRSS"))
spent = {}
for size in map(int, sys.argv[3].split(",")):
    rounds = []
    for _ in range(7):
        began = time.perf_counter()
        classifier.probabilities(images[:size])
        rounds.append((time.perf_counter() - began) / size)
    spent[f"batch {size}, ms an image"] = 1000 * sorted(rounds)[3]
print(json.dumps({"resident memory, MB": int(resident) / 1024, **spent}))
"""


def one(model: str, engine: str) -> dict[str, float]:
    """Start a process and let it say what it took."""
    began = time.time()
    command = [sys.executable, "-c", PROGRAM, model, engine, ",".join(map(str, BATCHES))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    first, rest = map(json.loads, done.stdout.splitlines())
    return {"start to first score, s": first["first"] - began, **rest}


def main() -> None:
    """Take rounds and print medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="chest_xray_triage")
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    taken: dict[str, list[dict[str, float]]] = {engine: [] for engine in ENGINES}
    for number in range(asked.rounds):
        for engine in ENGINES if number % 2 == 0 else reversed(ENGINES):
            taken[engine].append(one(asked.model, engine))
    print(f"{asked.model}, medians of {asked.rounds} rounds")
    for what in taken["keras"][0]:
        medians = [statistics.median(found[what] for found in taken[engine]) for engine in ENGINES]
        ratios = [a[what] / b[what] for a, b in zip(*taken.values(), strict=True)]
        print(f"{what:28} keras {medians[0]:8.2f}  onnx {medians[1]:8.2f}  ratio {statistics.median(ratios):6.2f}")


if __name__ == "__main__":
    main()
