"""The whole of `firstread models convert` for the published networks, the largest last: seconds, memory, agreement.

    python -m tests.bench.conversion [--only RECIPE] [--limit-seconds N] [--limit-mb N] [--out FILE]

Each network is built as published, with random weights, packed by one process and converted by another: loaded by
Keras, exported, looked through, opened by ONNX Runtime, asked about 36 images alone and in batches of every size up to
32, and named in the card. What goes beyond a limit is stopped; the stages say how far it came, and four images, asked
first alone and together, what was seen by then.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from tests.bench.rows import write_rows

RECIPES = (
    "covid_pneumonia_mlp", "covid_ct_mlp", "chest_xray_squeezenet", "covid_cxr_vgg16", "tuberculosis_vgg16",
    "pneumonia_small_vgg", "tuberculosis_cnn",
)  # fmt: skip
"""The smallest first. Those of the shipped packages are converted in them."""

PACK = """
import json, sys
from pathlib import Path
from tests.bench.networks import pack_published
package, weights = pack_published(sys.argv[1], Path(sys.argv[2]) / "packages")
print(json.dumps({"path": str(package.path), "weights": weights}))
"""

CONVERT = """
import json, resource, sys, time
from pathlib import Path
import numpy as np
from models import conversion
from models.classifier import Classifier
from models.registry import read_package
begun = last = time.perf_counter()
def told(stage, **more):
    global last
    now = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"stage": stage, "seconds": now - last, "peak_mb": peak} | more), flush=True)
    last = now
def then(function, stage):
    def timed(*given, **named):
        result = function(*given, **named)
        told(stage)
        return result
    return timed
conversion.export = then(conversion.export, "export")
conversion.open_session = then(conversion.open_session, "open")
whole = conversion.compare
def compare(reference, other, watch):
    few = conversion.drawn_inputs(reference)[:4]
    alone = np.concatenate([other.probabilities(image[np.newaxis]) for image in few])
    told("four images", four_images={
        "difference": float(np.abs(alone - reference.probabilities(few)).max()),
        "same_bits": bool(np.array_equal(other.probabilities(few), alone)),
    })
    result = whole(reference, other, watch)
    told("compare")
    return result
conversion.compare = compare
package = read_package(Path(sys.argv[1]))
reference = Classifier.load(package, engine="keras")
told("load")
found = conversion.convert(package, reference=reference)
told("warm up and write", onnx=found.card.onnx.model_dump(mode="json"), bytes=found.onnx.stat().st_size)
"""


def measured(recipe: str, limit_seconds: float, limit_mb: float) -> dict[str, Any]:
    """Build, pack and convert one network; where a limit was passed, `stopped` says which."""
    with tempfile.TemporaryDirectory(prefix="firstread-bench-") as name:
        command = [sys.executable, "-c", PACK, recipe, name]
        packed = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
        began = time.perf_counter()
        with (Path(name) / "told").open("w+") as told:
            child = subprocess.Popen([sys.executable, "-c", CONVERT, packed["path"]], stdout=told)
            stopped = watched(child, limit_seconds, limit_mb)
            told.seek(0)
            stages = [json.loads(line) for line in told]
        last = stages[-1] if stages else {}
        if child.returncode and not stopped:
            stopped = f"it ended with {child.returncode}"
        return {
            "recipe": recipe,
            "weights": packed["weights"],
            "seconds": time.perf_counter() - began,
            "peak_mb": last.get("peak_mb"),
            "stages": {stage["stage"]: round(stage["seconds"], 2) for stage in stages},
            "onnx_bytes": last.get("bytes"),
            "onnx": last.get("onnx"),
            "four_images": next((stage["four_images"] for stage in stages if "four_images" in stage), None),
            "stopped": stopped,
            "limits": {"seconds": limit_seconds, "mb": limit_mb},
        }


def watched(child: subprocess.Popen[bytes], limit_seconds: float, limit_mb: float) -> str:
    """Wait for a process, and end it where it goes beyond a limit; return which, in words, or nothing."""
    began = time.perf_counter()
    process = psutil.Process(child.pid)
    while child.poll() is None:
        try:
            resident = process.memory_info().rss / 2**20
        except psutil.NoSuchProcess:
            break
        spent = time.perf_counter() - began
        if spent > limit_seconds or resident > limit_mb:
            child.kill()
            child.wait()
            return f"after {spent:.0f} s at {resident:.0f} MB"
        time.sleep(0.2)
    child.wait()
    return ""


def main() -> None:
    """Measure each and print it; write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=RECIPES)
    parser.add_argument("--limit-seconds", type=float, default=1800)
    parser.add_argument("--limit-mb", type=float, default=16_000)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    rows = (measured(recipe, asked.limit_seconds, asked.limit_mb) for recipe in asked.only or RECIPES)
    write_rows("conversion", rows, asked.out)


if __name__ == "__main__":
    main()
