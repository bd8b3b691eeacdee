"""`firstread bench pipeline`: from C-STORE to a committed result, and to the report at the PACS."""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from tests.bench.bare_loop import BareLoop
from tests.bench.goals import Goal
from tests.bench.loads import Load, Sendable, radiograph
from tests.bench.networks import is_published, write_published
from tests.bench.receivers import OURS
from tests.bench.report import Measure, Report
from tests.bench.rounds import Effort, check_words, chosen, measure_cases
from tests.bench.senders import LeanSender
from tests.bench.summary import Seen, Spread, percentiles
from tests.bench.systems import QUIET_SECONDS, OrthancWithPlugin, OurSystem, System
from worker.commands.bench import ORTHANC_PYTHON

MEASURES = {
    "per_second": Measure("images/s"),
    "p50_ms": Measure("result p50 ms", 0, more_is_better=False),
    "p95_ms": Measure("p95", 0, more_is_better=False),
    "p99_ms": Measure("p99", 0, more_is_better=False),
    "sr_p50_ms": Measure("SR at the PACS p50 ms", 0, more_is_better=False),
    "sr_p95_ms": Measure("p95", 0, more_is_better=False),
    "sr_p99_ms": Measure("p99", 0, more_is_better=False),
}
BURST, BACKLOG, IDLE = "saturated: a burst", "a backlog, drained", "idle: one at a time"
LOADS = {f"at {share:.0%} of its own rate": share for share in (0.5, 0.8, 1.0)}
CASES = (BURST, IDLE, *LOADS, BACKLOG)
LIMIT = "decode + inference, bare processes"
BURST_IMAGES, IDLE_IMAGES, LOAD_SECONDS = 32, 8, 3.0
LOOK_SECONDS = 0.002
DEFAULT_MODEL = "chest_xray_triage"
Sent = list[tuple[Sendable, float]]
"""What was sent, and when, or when it was due."""


@dataclass(frozen=True)
class Plan(Effort):
    """What is asked for.

    Attributes
    ----------
    engine
        Of ours; Orthanc's plugin is asked with it too, and with `model.predict`.
    workers
        Inference processes of ours.
    orthanc_python
        Where Orthanc's Python plugin lies.
    """

    model: str = DEFAULT_MODEL
    engine: str = "auto"
    workers: int = 1
    orthanc_python: Path = ORTHANC_PYTHON


class Rounds:
    """Runs a case on a system; images are numbered through, so that none is sent twice.

    Parameters
    ----------
    share
        Of the usual number of images.
    """

    def __init__(self, load: Load, share: float) -> None:
        self._load, self._share = load, share
        self._numbers = count(1)
        self.rates: dict[str, float] = {}
        """Images a second of a system's last burst, its reports made: what it can do all day."""

    def images(self, usual: float) -> list[Sendable]:
        """Return fresh images."""
        return [self._load.sendable(next(self._numbers)) for _ in range(max(round(usual * self._share), 2))]

    def run(self, case: str, system: System) -> dict[str, float]:
        """Run a case; the reports that follow are waited for, so that they disturb nobody else."""
        if case == BACKLOG:
            assert isinstance(system, OurSystem)
            return self.backlog(system)
        figures: dict[str, float] = {}
        with LeanSender(system.port, self._load, called=system.called) as sender:
            if case == IDLE:
                sent = self.idle(system, sender)
            elif case == BURST:
                sent = self.burst(system, sender)
            else:
                sent = self.steady(system, sender, LOADS[case])
        system.wait([one for one, _ in sent], reported=True)
        if case == BURST:
            figures["per_second"], self.rates[system.name] = rates(sent, system)
        return figures | latencies(sent, system)

    def idle(self, system: System, sender: LeanSender) -> Sent:
        """Send one, wait for its result, then the next."""
        sent = []
        for one in self.images(IDLE_IMAGES):
            sent.append((one, time.perf_counter()))
            sender.send(one)
            system.wait([one])
        return sent

    def burst(self, system: System, sender: LeanSender) -> Sent:
        """Send as fast as they are taken."""
        sent = []
        for one in self.images(BURST_IMAGES):
            sent.append((one, time.perf_counter()))
            sender.send(one)
        system.wait([one for one, _ in sent])
        return sent

    def steady(self, system: System, sender: LeanSender, share: float) -> Sent:
        """Send at a share of the rate that the system could go on with after its last burst; who is late sends at once.

        The time of an image runs from when it was due: a system that takes images late is not forgiven for it.
        """
        interval = 1 / (share * self.rates[system.name])
        began, sent = time.perf_counter(), []
        for number, one in enumerate(self.images(LOAD_SECONDS / interval)):
            sent.append((one, began + number * interval))
            while (left := sent[-1][1] - time.perf_counter()) > 0:
                system.look()
                time.sleep(min(left, LOOK_SECONDS))
            sender.send(one)
        system.wait([one for one, _ in sent])
        return sent

    def backlog(self, system: OurSystem) -> dict[str, float]:
        """Let images pile up, registered, then let them be classified."""
        before, images = system.registered(), self.images(BURST_IMAGES)
        system.pause()
        with LeanSender(system.port, self._load, called=system.called) as sender:
            for one in images:
                sender.send(one)
        while system.registered() < before + len(images):
            time.sleep(LOOK_SECONDS)
        began = time.perf_counter()
        system.go_on()
        system.wait(images)
        seconds = max(system.results[one.sop_instance_uid] for one in images) - began
        system.wait(images, reported=True)
        return {"per_second": len(images) / seconds}


def rates(sent: Sent, system: System) -> tuple[float, float]:
    """Return the images a second of a burst until its last result, and until its last report is at the PACS.

    Reports wait until their studies are quiet; that time is no work, and is left out.
    """
    began = sent[0][1]
    last = max(system.results[one.sop_instance_uid] for one, _ in sent)
    resulting = len(sent) / (last - began)
    if not system.reports_expected:
        return resulting, resulting
    reported = max(system.reports[one.study_instance_uid] for one, _ in sent)
    return resulting, min(resulting, len(sent) / (reported - began - QUIET_SECONDS))


def latencies(sent: Sent, system: System) -> dict[str, float]:
    """Return the percentiles of the time from C-STORE to the result, and to the report, ms."""
    results = [1000 * (system.results[one.sop_instance_uid] - moment) for one, moment in sent]
    found = {f"{name}_ms": value for name, value in percentiles(results).items()}
    if system.reports_expected:
        reports = [1000 * (system.reports[one.study_instance_uid] - moment) for one, moment in sent]
        found |= {f"sr_{name}_ms": value for name, value in percentiles(reports).items()}
    return found


def run(plan: Plan, tell: Callable[[str, int, int], None]) -> Report:
    """Measure; `tell` is told what is being done, how many steps are done, and how many there are."""
    report = Report("pipeline", MEASURES, plan.counted, quick=plan.quick, wanted=goals(plan.model))
    check_words(plan.only, CASES)
    report.notes.append(f"a study is quiet after {QUIET_SECONDS:g} s here; its report waits for that")
    report.notes.append("loads are shares of the rate that results, and reports where there are any, keep up with")
    load = radiograph(512 if plan.quick else 2048)
    with tempfile.TemporaryDirectory(prefix="fr-b-") as name, ExitStack() as running:
        folder = Path(name)
        models_dir = folder / "models"
        if is_published(plan.model):
            tell(f"{plan.model}: drawing weights, converting", 0, 1)
            write_published(plan.model, models_dir)
            report.notes.append(f"{plan.model}: the network as published, its weights drawn at random")
        rounds = Rounds(load, 0.1 if plan.quick else 1.0)
        wanted = set(chosen(CASES, plan.only))
        if wanted & LOADS.keys():  # which are shares of the rate of a burst
            wanted.add(BURST)
        cases = [case for case in CASES if case in wanted]
        systems: list[System] = [OurSystem(folder, plan.model, plan.engine, plan.workers, models_dir)]
        if wanted != {BACKLOG}:  # which is a matter between ours and the limit
            systems += orthancs(plan, folder, models_dir, report.absent)
        # As many as there are cores, however few workers ours has: what the machine can do at all.
        cores = len(os.sched_getaffinity(0))
        bare = BareLoop(plan.model, plan.engine, max(cores, plan.workers), models_dir)
        for one in systems if BACKLOG not in wanted else (*systems, bare):
            running.enter_context(one)

        def measured(case: str, one: System | BareLoop) -> dict[str, float]:
            if isinstance(one, System):
                return rounds.run(case, one)
            return bare_rate(one, load, folder / "files", len(rounds.images(BURST_IMAGES)))

        measure_cases(
            {case: (systems[0], bare) if case == BACKLOG else systems for case in cases},
            plan.counted,
            measured,
            lambda one: one.name if isinstance(one, System) else LIMIT,
            report.seen,
            tell,
            after_round=lambda: _clear(systems),
        )
    return report


def _clear(systems: Sequence[System]) -> None:
    for system in systems:
        system.clear()
    os.sync()


def bare_rate(bare: BareLoop, load: Load, folder: Path, images: int) -> dict[str, float]:
    """Write as many files as a backlog has, and let the bare processes do them."""
    paths = load.write(folder, images)
    seconds = bare.seconds(paths)
    shutil.rmtree(folder)
    return {"per_second": images / seconds}


def orthancs(plan: Plan, folder: Path, models_dir: Path, absent: dict[str, str]) -> list[System]:
    """Return Orthanc with the plugin, asking the model in each way; none where it is not installed."""
    why = ""
    if not shutil.which("Orthanc"):
        why = "Orthanc is not installed (Debian: orthanc)"
    elif not plan.orthanc_python.is_file():
        why = f"{plan.orthanc_python} is not there (Debian: orthanc-python, or --orthanc-python FILE)"
    if why:
        absent["Orthanc + plugin"] = why
        return []
    return [
        OrthancWithPlugin(name, folder / way.partition(":")[0], plan.model, way, plan.orthanc_python, models_dir)
        for name, way in ((PREDICTING, "predict:keras"), (SAME_ENGINE, f"engine:{plan.engine}"))
    ]


PREDICTING, SAME_ENGINE = "Orthanc + plugin, model.predict", "Orthanc + plugin, our engine"


def _against(case: str, other: str, measure: str) -> Callable[[Seen], Spread | None]:
    return lambda seen: seen.ratio(case, OURS, other, measure)


_PLUGIN = "Orthanc and its Python plugin"


def goals(model: str) -> tuple[Goal, ...]:
    """Return what is wanted; of a network that takes most of the time by itself less is to be gained."""
    same, predict = (1.2, 2.0) if "vgg16" in model else (2.2, 3.0)
    return (
        Goal(f"{BACKLOG} ÷ {LIMIT}", ">=", 0.90, _against(BACKLOG, LIMIT, "per_second")),
        Goal(f"end to end ÷ {SAME_ENGINE}", ">=", same, _against(BURST, SAME_ENGINE, "per_second"), _PLUGIN),
        Goal(f"end to end ÷ {PREDICTING}", ">=", predict, _against(BURST, PREDICTING, "per_second"), _PLUGIN),
        Goal(f"idle, result ÷ {SAME_ENGINE}", "<=", 0.65, _against(IDLE, SAME_ENGINE, "p50_ms"), _PLUGIN),
    )
