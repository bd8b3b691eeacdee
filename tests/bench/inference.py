"""`firstread bench inference`: what our step adds to the bare engine, and what preparing an image costs."""

import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from subprocess import run as run_process
from typing import Any

import numpy as np

from models.backend import load_backend
from models.engines.choice import ENGINES
from models.errors import ModelError
from models.registry import Package, Registry
from tests.bench.goals import Goal
from tests.bench.loads import radiograph
from tests.bench.networks import Network, packaged, published
from tests.bench.preparing import PREPARING, PYDICOM, contenders
from tests.bench.receivers import OURS
from tests.bench.report import Measure, Report
from tests.bench.rounds import Effort, check_words, chosen, measure_cases

MEASURES = {"ms": Measure("ms an image", 2, more_is_better=False)}
IMAGES = 32
BUCKETS = (1, 8, 32)
DEFAULT_MODEL = "chest_xray_triage"
COLD = "from the start of a process to its first result"
PUBLISHED = ("covid_pneumonia_mlp", "covid_ct_mlp", "pneumonia_small_vgg", "covid_cxr_vgg16")
"""Networks beside the shipped ones: two of dense layers, a small and a large one of convolutions."""
LARGE = frozenset({"covid_cxr_vgg16"})
"""What takes so long an image that it is left out of a quick run, and given a batch at a time in the others."""
BARE = {"keras": "bare tf.function", "onnx": "bare ONNX Runtime"}
ALL_CORES = "bare ONNX Runtime, every core"
LEAST_SECONDS = 0.1
"""A network of a few dense layers is done with 32 images before the clock has said anything."""
CALLED, PREDICT, LOOP = "model(x)", "model.predict", "model.predict in a loop"
STEP_GOAL, PREPARING_GOAL, COLD_GOAL_MS = 1.05, 0.2, 3000.0


@dataclass(frozen=True)
class Plan(Effort):
    """What is asked for.

    Attributes
    ----------
    model
        A name or `name@version`. Beside the default one, the other shipped packages and the published networks are
        measured; of any other it is that one alone.
    """

    model: str = DEFAULT_MODEL


@dataclass(frozen=True)
class Contender:
    """Somebody who does a piece of work: `images` at a call."""

    name: str
    work: Callable[[], object]
    images: int

    def measured(self, images: int) -> dict[str, float]:
        """Do it until so many images are done, and for a while; return the milliseconds an image."""
        done, spent, began = 0, 0.0, time.perf_counter()
        while done < images or spent < LEAST_SECONDS:
            self.work()
            done += self.images
            spent = time.perf_counter() - began
        return {"ms": 1000 * spent / done}


Making = Callable[[], dict[str, Callable[[], object]]]
"""Gets a case ready: who takes part, and what each does at a call."""


def run(plan: Plan, tell: Callable[[str, int, int], None]) -> Report:
    """Measure; `tell` is told what is being done, how many steps are done, and how many there are."""
    package = Registry().find(plan.model)
    networks = networks_of(plan, package)
    report = Report("inference", MEASURES, plan.counted, quick=plan.quick, wanted=_goals(networks))
    with tempfile.TemporaryDirectory(prefix="firstread-bench-") as name, ExitStack() as running:
        (film,) = radiograph(512 if plan.quick else 2048).write(Path(name), 1)
        makings: dict[str, Making] = {PREPARING: lambda: running.enter_context(contenders(film, package.card))}
        sizes = {PREPARING: 1}
        engines = [one for one in ENGINES if one != "auto"]
        for network in networks:
            for engine in engines:
                for bucket in BUCKETS:
                    case = case_of(network, engine, bucket)
                    makings[case], sizes[case] = partial(_batch, network, engine, bucket), bucket
        for engine in engines:
            case = f"{COLD}, {engine}"
            makings[case], sizes[case] = partial(_cold, package, engine, film), 1
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


def networks_of(plan: Plan, package: Package) -> list[Network]:
    """Return what is computed, the package that is asked for first."""
    networks = [packaged(package)]
    if package.card.name == DEFAULT_MODEL:
        others = (one for one in Registry().packages() if one.shipped and one.card.name != DEFAULT_MODEL)
        networks += map(packaged, others)
        networks += [published(recipe) for recipe in PUBLISHED if not (plan.quick and recipe in LARGE)]
    return networks


def images_in(case: str, *, quick: bool) -> int:
    """Return how many images a contender is given in a round: a batch at least."""
    if case.startswith(COLD) or case.partition(",")[0] in LARGE:
        return 1
    if quick:
        return 2
    return 8 if case == PREPARING else IMAGES


def case_of(network: Network, engine: str, bucket: int) -> str:
    """Name a case."""
    return f"{network.card.name}, {engine}, batch {bucket}"


def _batch(network: Network, engine: str, bucket: int) -> dict[str, Callable[[], object]]:
    """Get ready whoever computes a batch of one size.

    Raises
    ------
    ModelError
        The engine is not here.
    """
    classifier = network.load(engine)
    shape = network.card.input
    size = (bucket, shape.rows, shape.columns, shape.channels)
    batch = np.random.default_rng(1).standard_normal(size).astype(np.float32)
    found: dict[str, Callable[[], object]] = {OURS: lambda: classifier.probabilities(batch)}
    if engine == "keras":
        found |= _keras(classifier.network, batch)
    else:
        found |= _bare_onnx(network, batch)
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


def _bare_onnx(network: Network, batch: np.ndarray) -> dict[str, Callable[[], object]]:
    """ONNX Runtime on the same file and nothing else: with as many threads as our step has, and with one a core."""

    def bare(threads: int) -> Callable[[], object]:
        session = network.session(threads)
        (taken,) = session.get_inputs()
        return lambda: session.run(None, {taken.name: batch})

    return {BARE["onnx"]: bare(1), ALL_CORES: bare(0)}


def _cold(package: Package, engine: str, film: Path) -> dict[str, Callable[[], object]]:
    """A process that gets ready as a worker does, reads one film, classifies it and ends."""
    command = [sys.executable, "-m", "tests.bench.cold_start", package.card.identifier, engine, str(film)]
    return {OURS: lambda: run_process(command, check=True, capture_output=True)}


def _goals(networks: list[Network]) -> tuple[Goal, ...]:
    def step(network: Network, bucket: int) -> Goal:
        case, bare = case_of(network, "onnx", bucket), BARE["onnx"]
        words = f"inference step ÷ bare ONNX Runtime, {network.card.name}, batch {bucket}"
        return Goal(words, "<=", STEP_GOAL, lambda seen: seen.ratio(case, OURS, bare, "ms"), "the onnx engine")

    return (
        Goal(
            "preparing a CR ÷ pydicom and Pillow",
            "<=",
            PREPARING_GOAL,
            lambda seen: seen.ratio(PREPARING, OURS, PYDICOM, "ms"),
        ),
        *(step(network, bucket) for network in networks for bucket in BUCKETS),
        Goal(
            "start of a process to its first result with onnx, ms",
            "<=",
            COLD_GOAL_MS,
            lambda seen: seen.spread(f"{COLD}, onnx", OURS, "ms"),
            "the onnx engine",
        ),
    )
