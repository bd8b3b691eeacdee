"""`firstread bench inference`: what our step adds to the bare engine, and what preparing an image costs."""

import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from subprocess import run as run_process
from typing import Any

import numpy as np

from models.backend import load_backend
from models.classifier import Classifier
from models.engines.choice import ENGINES
from models.errors import ModelError
from models.registry import Package, Registry
from tests.bench.goals import Goal
from tests.bench.loads import radiograph
from tests.bench.preparing import PREPARING, PYDICOM, contenders
from tests.bench.receivers import OURS
from tests.bench.report import Measure, Report
from tests.bench.rounds import Effort, check_words, chosen, measure_cases

MEASURES = {"ms": Measure("ms an image", 2, more_is_better=False)}
IMAGES = 32
BUCKETS = (1, 8, 32)
DEFAULT_MODEL = "chest_xray_triage"
COLD = "from the start of a process to its first result"
BARE = {"keras": "bare tf.function", "onnx": "bare ONNX Runtime"}
CALLED, PREDICT, LOOP = "model(x)", "model.predict", "model.predict in a loop"
STEP_GOAL, PREPARING_GOAL, COLD_GOAL_MS = 1.05, 0.2, 3000.0


@dataclass(frozen=True)
class Plan(Effort):
    """What is asked for; `model` is a name or `name@version`."""

    model: str = DEFAULT_MODEL


@dataclass(frozen=True)
class Contender:
    """Somebody who does a piece of work: `images` at a call."""

    name: str
    work: Callable[[], object]
    images: int

    def measured(self, images: int) -> dict[str, float]:
        """Do it until so many images are done; return the milliseconds an image."""
        calls = max(images // self.images, 1)
        began = time.perf_counter()
        for _ in range(calls):
            self.work()
        return {"ms": 1000 * (time.perf_counter() - began) / (calls * self.images)}


Making = Callable[[], dict[str, Callable[[], object]]]
"""Gets a case ready: who takes part, and what each does at a call."""


def run(plan: Plan, tell: Callable[[str, int, int], None]) -> Report:
    """Measure; `tell` is told what is being done, how many steps are done, and how many there are."""
    package = Registry().find(plan.model)
    report = Report("inference", MEASURES, plan.counted, quick=plan.quick, wanted=_goals(package))
    with tempfile.TemporaryDirectory(prefix="firstread-bench-") as name, ExitStack() as running:
        (film,) = radiograph(512 if plan.quick else 2048).write(Path(name), 1)
        makings: dict[str, Making] = {PREPARING: lambda: running.enter_context(contenders(film, package.card))}
        sizes = {PREPARING: 1}
        load = cache(lambda engine: Classifier.load(package, engine=engine))
        for engine in (one for one in ENGINES if one != "auto"):
            for bucket in BUCKETS:
                case = case_of(package, engine, bucket)
                makings[case], sizes[case] = partial(_batch, package, load, engine, bucket, report.absent), bucket
            case = f"{COLD}, {engine}"
            makings[case], sizes[case] = partial(_cold, package, engine, film), 1
        if "onnx" not in ENGINES:
            report.absent["onnx"] = "this version has no such engine"
        check_words(plan.only, makings)
        cases: dict[str, list[Contender]] = {}
        for case in chosen(list(makings), plan.only):
            try:
                cases[case] = [Contender(who, work, sizes[case]) for who, work in makings[case]().items()]
            except ModelError as error:
                report.absent[case] = str(error)
        measure_cases(
            cases,
            plan.counted,
            lambda case, one: one.measured(images_in(case, quick=plan.quick)),
            lambda one: one.name,
            report.seen,
            tell,
        )
    return report


def images_in(case: str, *, quick: bool) -> int:
    """Return how many images a contender is given in a round."""
    if case.startswith(COLD):
        return 1
    if quick:
        return 2
    return 8 if case == PREPARING else IMAGES


def case_of(package: Package, engine: str, bucket: int) -> str:
    """Name a case."""
    return f"{package.card.name}, {engine}, batch {bucket}"


def _batch(
    package: Package, load: Callable[[str], Classifier], engine: str, bucket: int, absent: dict[str, str]
) -> dict[str, Callable[[], object]]:
    """Get ready whoever computes a batch of one size.

    Raises
    ------
    ModelError
        The engine is not here.
    """
    classifier = load(engine)
    shape = package.card.input
    size = (bucket, shape.rows, shape.columns, shape.channels)
    batch = np.random.default_rng(1).standard_normal(size).astype(np.float32)
    found: dict[str, Callable[[], object]] = {OURS: lambda: classifier.probabilities(batch)}
    if engine == "keras":
        found |= _keras(classifier.network, batch)
    elif bare := _bare_onnx(package, batch, absent):
        found[BARE["onnx"]] = bare
    return found


def _keras(network: Any, batch: np.ndarray) -> dict[str, Callable[[], object]]:
    """What Keras offers: compiled, called, asked to predict, and that one image at a time."""
    _, tf = load_backend()
    step = tf.function(
        lambda images: network(images, training=False), input_signature=[tf.TensorSpec(batch.shape, tf.float32)]
    ).get_concrete_function()
    found: dict[str, Callable[[], object]] = {
        BARE["keras"]: lambda: step(tf.constant(batch)).numpy(),
        CALLED: lambda: np.asarray(network(batch, training=False)),
        PREDICT: lambda: network.predict(batch, batch_size=len(batch), verbose=0),
    }
    if len(batch) > 1:
        found[LOOP] = lambda: [network.predict(image[np.newaxis], verbose=0) for image in batch]
    return found


def _bare_onnx(package: Package, batch: np.ndarray, absent: dict[str, str]) -> Callable[[], object] | None:
    """ONNX Runtime on the package's network and nothing else; None where either is not here."""
    networks = sorted(package.weights.parent.glob("*.onnx"))
    try:
        import onnxruntime
    except ModuleNotFoundError:
        absent[BARE["onnx"]] = "onnxruntime is not installed"
        return None
    if not networks:
        absent[BARE["onnx"]] = f"{package.card.identifier} holds no .onnx"
        return None
    session = onnxruntime.InferenceSession(networks[0], providers=["CPUExecutionProvider"])
    (taken,) = session.get_inputs()
    return lambda: session.run(None, {taken.name: batch})


def _cold(package: Package, engine: str, film: Path) -> dict[str, Callable[[], object]]:
    """A process that gets ready as a worker does, reads one film, classifies it and ends."""
    command = [sys.executable, "-m", "tests.bench.cold_start", package.card.identifier, engine, str(film)]
    return {OURS: lambda: run_process(command, check=True, capture_output=True)}


def _goals(package: Package) -> tuple[Goal, ...]:
    def step(bucket: int) -> Goal:
        case, bare = case_of(package, "onnx", bucket), BARE["onnx"]
        words = f"inference step ÷ bare ONNX Runtime, batch {bucket}"
        return Goal(words, "<=", STEP_GOAL, lambda seen: seen.ratio(case, OURS, bare, "ms"), "the onnx engine")

    return (
        Goal(
            "preparing a CR ÷ pydicom and Pillow",
            "<=",
            PREPARING_GOAL,
            lambda seen: seen.ratio(PREPARING, OURS, PYDICOM, "ms"),
        ),
        *(step(bucket) for bucket in BUCKETS),
        Goal(
            "start of a process to its first result with onnx, ms",
            "<=",
            COLD_GOAL_MS,
            lambda seen: seen.spread(f"{COLD}, onnx", OURS, "ms"),
            "the onnx engine",
        ),
    )
