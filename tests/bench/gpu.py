"""Images a second of every network on a GPU, by whatever Keras backend reaches it, in float32 and in mixed precision.

    KERAS_BACKEND=jax python -m tests.bench.gpu [--only NAME] [--rounds N] [--out FILE]

A call is what a worker's step is: images from the host's memory to the device, the network, its output back. `float32`
is what firstread serves, TensorFloat-32 off; `mixed` multiplies in float16 (`FIRSTREAD_PRECISION=mixed`). Shipped
packages also replay their golden pair, which was made by TensorFlow on a CPU, and say how far mixed precision is off
their float32; networks as published have random weights, so of them only the time says anything. Without a GPU it
measures the processor, and says so.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from models.backend import load_keras
from models.classifier import Classifier
from models.conversion import drawn_inputs
from models.engines.keras import BUCKETS, in_mixed_precision
from models.preprocessing import FloatArray
from models.registry import Package, Registry
from models.training.recipes import TRAINING_RECIPES
from tests.bench.networks import build_published
from tests.bench.rows import write_rows

SIZES = (1, 8, 32, 128)
"""Three of the batches that are served, and one beyond them that shows where the card would end."""
SERVED = SIZES[:-1]
LEAST_SECONDS = 0.1
PRECISIONS = ("float32", "mixed")

Step = Callable[[FloatArray], FloatArray]


class GpuEngine:
    """A Keras network on the backend at hand, one compiled function for each size of batch."""

    buckets = BUCKETS

    def __init__(self, network: Any, name: str) -> None:
        self.name = name
        self.device = device()
        self.outputs = STEPS[load_keras().backend.backend()](network)


def on_jax(network: Any) -> Step:
    """Compile by XLA."""
    import jax

    weights = jax.device_put([one.value for one in network.trainable_variables])
    rest = jax.device_put([one.value for one in network.non_trainable_variables])

    @jax.jit
    def step(weights: Any, rest: Any, batch: Any) -> Any:
        return network.stateless_call(weights, rest, batch, training=False)[0].astype("float32")

    return lambda batch: np.asarray(step(weights, rest, batch))


def on_torch(network: Any) -> Step:
    """Call it as PyTorch does, eagerly."""
    import torch

    def step(batch: FloatArray) -> FloatArray:
        with torch.inference_mode():
            given = network(torch.from_numpy(batch).to(network.weights[0].value.device), training=False)
            result: FloatArray = given.float().cpu().numpy()
            return result

    return step


def on_tensorflow(network: Any) -> Step:
    """Compute as firstread serves."""
    from models.engines.keras import KerasEngine

    engine = KerasEngine(network)
    return (
        lambda batch: np.concatenate(  # its largest bucket is 32
            [engine.outputs(batch[start : start + BUCKETS[-1]]) for start in range(0, len(batch), BUCKETS[-1])]
        )
    )


STEPS: dict[str, Callable[[Any], Step]] = {"jax": on_jax, "torch": on_torch, "tensorflow": on_tensorflow}


def device() -> str:
    """Name the device that the backend computes on."""
    backend = load_keras().backend.backend()
    if backend == "jax":
        import jax

        return str(jax.devices()[0].device_kind)
    if backend == "torch":
        import torch

        return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    import tensorflow as tf

    gpus = [tf.config.experimental.get_device_details(one) for one in tf.config.list_physical_devices("GPU")]
    return str(gpus[0].get("device_name", "a GPU")) if gpus else "cpu"


def without_tensor_float_32() -> None:
    """Have float32 multiplied as float32: `load_keras` sees to it on TensorFlow."""
    backend = load_keras().backend.backend()
    if backend == "jax":
        import jax

        jax.config.update("jax_default_matmul_precision", "highest")
    elif backend == "torch":
        import torch

        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


def subjects(only: list[str]) -> Iterator[tuple[str, Package | None, Any]]:
    """Give every network: the shipped packages with their weights, then those as published."""
    keras = load_keras()
    packages = {package.card.name: package for package in Registry().packages() if package.shipped}
    for name in [*packages, *(recipe for recipe in TRAINING_RECIPES if recipe not in packages)]:
        if only and name not in only:
            continue
        package = packages.get(name)
        yield name, package, (
            keras.models.load_model(package.weights, compile=False, safe_mode=True)
            if package else build_published(name)
        )  # fmt: skip


def milliseconds(step: Step, batch: FloatArray, rounds: int) -> float:
    """Median of the rounds of how long a call takes; the first calls, which compile, are not counted."""
    step(batch)
    step(batch)
    taken = []
    for _ in range(rounds):
        calls, began = 0, time.perf_counter()
        while time.perf_counter() - began < LEAST_SECONDS:
            step(batch)
            calls += 1
        taken.append(1000 * (time.perf_counter() - began) / calls)
    return statistics.median(taken)


def measured(name: str, package: Package | None, network: Any, rounds: int) -> dict[str, Any]:
    """Measure a network in each precision; return what a call takes by size of batch, and how far scores are off."""
    _, rows, columns, channels = network.input_shape
    images = np.random.default_rng(3).standard_normal((SIZES[-1], rows, columns, channels), np.float32)
    found: dict[str, Any] = {
        "name": name, "weights": network.count_params(), "input": [rows, columns, channels], "shipped": bool(package)
    }  # fmt: skip
    reference: FloatArray | None = None
    for precision in PRECISIONS:
        engine = GpuEngine(in_mixed_precision(network) if precision == "mixed" else network, precision)
        taken = {size: milliseconds(engine.outputs, images[:size], rounds) for size in SIZES}
        each, fixed = np.polyfit([float(size) for size in SERVED], [taken[size] for size in SERVED], 1)
        row = {
            "ms_a_call": {str(size): round(ms, 3) for size, ms in taken.items()},
            "images_per_second": {str(size): round(1000 * size / ms) for size, ms in taken.items()},
            "fixed_ms": round(float(fixed), 3),
            "each_ms": round(float(each), 4),
        }
        if package:
            classifier = Classifier(package, engine)
            scores = classifier.probabilities(drawn_inputs(classifier))
            reference = scores if reference is None else reference
            row["off_float32"] = float(np.abs(scores - reference).max())
            row["off_golden"] = classifier.replay().difference
            row["tolerance"] = package.card.tolerance
        found[precision] = row
    return found


def main() -> None:
    """Measure each and print it; write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", default=[], metavar="NAME")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    without_tensor_float_32()
    backend, found = load_keras().backend.backend(), device()
    print(f"{found}, Keras on {backend}", file=sys.stderr, flush=True)
    rows = (measured(name, package, network, asked.rounds) for name, package, network in subjects(asked.only))
    write_rows("gpu", rows, asked.out, backend=backend, device=found, rounds=asked.rounds)


if __name__ == "__main__":
    main()
