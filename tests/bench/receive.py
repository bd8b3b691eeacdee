"""`firstread bench receive`: how fast objects are received, by whom, at what cost."""

import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.bench.goals import Goal
from tests.bench.loads import radiograph, scans_in, slice_of_ct
from tests.bench.peers import ForkingStorescp, Orthanc, OrthancUnsynced, PynetdicomApp, Storescp
from tests.bench.processes import LEAST_CPU_SECONDS, Processes
from tests.bench.receivers import LIMIT, OURS, Ours, RawLimit, Receiver
from tests.bench.report import Measure, Report
from tests.bench.rounds import Effort, check_words, chosen, measure_cases
from tests.bench.senders import NotSent, Storescu
from tests.bench.summary import UNMEASURED, Seen, Spread

RECEIVERS: tuple[type[Receiver], ...] = (
    RawLimit, Ours, Storescp, ForkingStorescp, Orthanc, OrthancUnsynced, PynetdicomApp,
)  # fmt: skip
MEASURES = {
    "per_second": Measure("instances/s"),
    "cpu_ms": Measure("CPU ms an instance", 2, more_is_better=False),
    "growth_mib": Measure("memory growth MiB", more_is_better=False),
}
FILES = 4
"""Different objects of a load; each is sent several times, under UIDs of its own."""


@dataclass(frozen=True)
class Case:
    """One way to send: what, how often on each of how many associations, and how the sender's TCP is set."""

    name: str
    files: tuple[Path, ...]
    count: int
    associations: int = 1
    nagle: bool = False

    @property
    def objects(self) -> int:
        """How many objects one run sends."""
        return self.count * self.associations


@dataclass(frozen=True)
class Plan(Effort):
    """What is asked for; the raw limit and ours take part whatever `only` says.

    Attributes
    ----------
    scans
        A folder of DICOM files that are sent too.
    """

    scans: Path | None = None


def cases(folder: Path, plan: Plan) -> list[Case]:
    """Return the cases, their objects written below `folder`."""
    sizes, share = ((512, 128), 0.1) if plan.quick else ((2048, 512), 1.0)
    loads = {"CR": (radiograph(sizes[0]), 24), "CT": (slice_of_ct(sizes[1]), 240)}
    found: list[Case] = []
    for name, (load, count) in loads.items():
        files = tuple(load.write(folder / name, FILES))
        turns = max(round(count * share / FILES), 1)
        found += [
            Case(f"{name}, 1 association", files, turns * FILES),
            Case(f"{name}, 4 associations", files, max(turns // 3, 1) * FILES, associations=4),
            Case(f"{name}, 1 association, Nagle", files, turns * FILES, nagle=True),
        ]
    if plan.scans is not None:
        files = tuple(scans_in(plan.scans, 24))
        found.append(Case("own scans, 1 association", files, len(files)))
    order = ("1 association", "4 associations", "1 association, Nagle")
    return sorted(found, key=lambda case: order.index(case.name.partition(", ")[2]))


def takes_part(receiver: type[Receiver], case: Case) -> bool:
    """Say whether a receiver is measured in a case: storescp forks where it has to, Nagle is a matter between us."""
    if case.nagle:
        return receiver is Ours
    if case.associations > 1:
        return receiver is not Storescp
    return receiver is not ForkingStorescp


def run(plan: Plan, tell: Callable[[str, int, int], None]) -> Report:
    """Measure.

    Parameters
    ----------
    tell
        Is told what is being done, how many runs are done, and how many there are.

    Raises
    ------
    NotSent
        There is no sender, or a receiver did not keep all that it answered success for.
    """
    if why := Storescu.missing():
        raise NotSent(f"{why}: the sender of this benchmark is its storescu")
    report = Report("receive", MEASURES, plan.counted, quick=plan.quick, wanted=GOALS)
    with tempfile.TemporaryDirectory(prefix="firstread-bench-") as name, ExitStack() as running:
        folder = Path(name)
        known = {case.name: case for case in cases(folder / "objects", plan)}
        peers = [kind.name for kind in RECEIVERS if kind not in {RawLimit, Ours}]
        check_words(plan.only, known, peers)
        wanted = [known[name] for name in chosen(list(known), plan.only)]
        receivers: list[Receiver] = []
        for kind in RECEIVERS:
            if why := kind.missing():
                report.absent[kind.name] = why
            elif kind in {RawLimit, Ours} or kind.name in chosen(peers, plan.only):
                receivers.append(running.enter_context(kind(folder / kind.__name__)))
                report.marks[kind.name] = "durable" if kind.durable else "not durable"
        measure_cases(
            {case.name: [one for one in receivers if takes_part(type(one), case)] for case in wanted},
            plan.counted,
            lambda case, receiver: measured(receiver, known[case]),
            lambda receiver: receiver.name,
            report.seen,
            tell,
            after_round=lambda: _clear(receivers),
        )
    return report


def measured(receiver: Receiver, case: Case) -> dict[str, float]:
    """Push once and return the figures.

    Raises
    ------
    NotSent
        Not all objects were kept.
    """
    processes = Processes(receiver.pid)
    before, cpu, peak = receiver.held(), processes.cpu_seconds(), processes.begin_peak()
    seconds = receiver.push(Storescu(nagle=case.nagle), case.files, case.count, case.associations)
    growth, cpu = processes.growth_mib(peak), processes.cpu_seconds() - cpu
    if (kept := receiver.held() - before) != case.objects:
        raise NotSent(f"{receiver.name} kept {kept} of {case.objects} objects in the case {case.name}")
    os.sync()  # what one has not written yet is not to be written while the next is measured
    cpu_ms = 1000 * cpu / case.objects if cpu >= LEAST_CPU_SECONDS else UNMEASURED
    figures = {"per_second": case.objects / seconds, "cpu_ms": cpu_ms}
    if receiver.grows and case.associations == 1:
        figures["growth_mib"] = growth
    return figures


def _clear(receivers: Sequence[Receiver]) -> None:
    for receiver in receivers:
        receiver.clear()
    os.sync()


def _over(case: str, other: str) -> Callable[[Seen], Spread | None]:
    return lambda seen: seen.ratio(case, OURS, other, "per_second")


def _one(case: str, measure: str) -> Callable[[Seen], Spread | None]:
    return lambda seen: seen.spread(case, OURS, measure)


def _nagle(load: str) -> Callable[[Seen], Spread | None]:
    case = f"{load}, 1 association"
    return lambda seen: seen.ratio(f"{case}, Nagle", OURS, OURS, "per_second", other_case=case)


_CR, _CT, _CR4, _CT4 = (f"{load}, {many}" for many in ("1 association", "4 associations") for load in ("CR", "CT"))
GOALS = (
    Goal("durable receive ÷ raw limit, CR", ">=", 0.80, _over(_CR, LIMIT)),
    Goal("durable receive ÷ raw limit, CT", ">=", 0.70, _over(_CT, LIMIT)),
    Goal("durable receive ÷ Orthanc, CR", ">=", 3.0, _over(_CR, Orthanc.name), "Orthanc"),
    Goal("durable receive ÷ Orthanc, CT", ">=", 2.2, _over(_CT, Orthanc.name), "Orthanc"),
    Goal("durable receive ÷ Orthanc, CR, 4 associations", ">=", 1.8, _over(_CR4, Orthanc.name), "Orthanc"),
    Goal("durable receive ÷ Orthanc, CT, 4 associations", ">=", 1.6, _over(_CT4, Orthanc.name), "Orthanc"),
    Goal("durable receive ÷ dcmtk storescp +B (not durable), CR", ">=", 0.75, _over(_CR, Storescp.name), "dcmtk"),
    Goal("durable receive ÷ dcmtk storescp +B (not durable), CT", ">=", 0.45, _over(_CT, Storescp.name), "dcmtk"),
    Goal("sender with Nagle ÷ without, CR", ">=", 0.9, _nagle("CR")),
    Goal("sender with Nagle ÷ without, CT", ">=", 0.9, _nagle("CT")),
    Goal("CPU ms an instance, CR", "<=", 5.0, _one(_CR, "cpu_ms")),
    Goal("CPU ms an instance, CT", "<=", 0.7, _one(_CT, "cpu_ms")),
    Goal("memory growth an association, CR, MiB", "<=", 2.0, _one(_CR, "growth_mib")),
    Goal("memory growth an association, CT, MiB", "<=", 2.0, _one(_CT, "growth_mib")),
)
