"""One fault, tried: what a scenario does to a site, and the row that comes of it."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from random import Random
from typing import Any

import psutil
import psycopg

from tests.faults.judge import FINAL, Expected, Rows, Verdict, judge, read_files, read_rows
from tests.faults.scans import Modality, Scan, acknowledged
from tests.faults.site import Site

DATABASE_ERRORS = (psycopg.Error, OSError)


class FaultDidNotStrike(Exception):
    """The scenario has proven nothing."""


class Stopped(Exception):
    """The campaign has been told to end."""


class NotHere(Exception):
    """The scenario needs something that this machine does not give; the words say what."""


@dataclass
class Result:
    """A row of the table."""

    fault: str
    family: str
    database: str
    times: int = 0
    acknowledged: int = 0
    lost: int = 0
    doubled: int = 0
    unaccounted: int = 0
    recovery_seconds: float | None = None
    seconds: float = 0.0
    outcome: str = "held"
    """held, broken, or not run."""
    why: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Trial:
    """What a scenario works with.

    Parameters
    ----------
    deadline
        On the monotonic clock: no wait ends much later.
    stop
        Set when the campaign has been told to end.
    """

    def __init__(self, site: Site, random: Random, deadline: float, stop: threading.Event) -> None:
        self.site, self.random, self.deadline, self._stop = site, random, deadline, stop
        self.times = 0
        """How often the fault has struck."""
        self.deaths = 0
        """How many services were found dead and started again."""
        self.statuses: dict[tuple[str, str], str] = {}
        self.generations: dict[str, int | None] = {}
        self.complaints: list[str] = []
        self.recovery_seconds: float | None = None
        self._modalities: list[Modality] = []
        self._over_at: float | None = None
        self._waited_in_vain = False

    # ---- senders

    def modality(self, name: str = "MODALITY") -> Modality:
        """A sender of this trial, whose log the judge reads."""
        self._modalities.append(Modality(self.site.stack.port, name))
        return self._modalities[-1]

    def push(self, scans: Sequence[Scan], seconds: float = 240) -> None:
        """Send until everything is accepted, as a modality does, while what dies is started again."""
        pushing = self.push_beside(scans, seconds)
        self.wait(lambda: not pushing.is_alive(), seconds + 60, "the modality to end")

    def push_beside(self, scans: Sequence[Scan], seconds: float = 240, *, size: int = 0) -> threading.Thread:
        """Send so from a thread of its own, `size` objects over each association; the caller sees to what dies."""
        modality, patience = self.modality(), self._patience(seconds)
        step = size or max(len(scans), 1)

        def push() -> None:
            for start in range(0, len(scans), step):
                left = modality.push_until_accepted(scans[start : start + step], patience)
                if left:
                    self.complaints.append(f"{len(left)} objects were never accepted")

        thread = threading.Thread(target=push, name="modality", daemon=True)
        thread.start()
        return thread

    def accepted(self) -> dict[tuple[str, str], Scan]:
        """What was answered with 0x0000."""
        return acknowledged(self._modalities)

    # ---- the fault

    def strike(self, point: str, act: Callable[[], None], times: int = 1) -> None:
        """Let the fault at a named point strike so many times while something goes on; what dies is started again."""
        self.site.arm(point, times)
        act()
        self.wait(lambda: self.site.strikes() >= times, 240, f"the fault {point!r} to strike {times} times", fatal=True)
        self.times = self.site.strikes()
        self.site.disarm()
        self.fault_is_over()

    def struck(self, times: int = 1) -> None:
        """Count a fault that the scenario made itself."""
        self.times += times

    def fault_is_over(self) -> None:
        """From now on it is recovery."""
        self._over_at = time.monotonic()

    def wait(self, condition: Callable[[], bool], seconds: float, what: str, *, fatal: bool = False) -> bool:
        """Wait until something holds, while what dies is started again.

        Raises
        ------
        FaultDidNotStrike
            It did not come to that, and it is `fatal`.
        """
        deadline = time.monotonic() + self._patience(seconds)
        while not condition():
            if self._stop.is_set():
                raise Stopped("the campaign was told to end")
            if time.monotonic() > deadline:
                if fatal:
                    raise FaultDidNotStrike(f"waited in vain for {what}")
                self.complaints.append(f"waited in vain for {what}")
                return False
            self.deaths += self.site.tend()
            time.sleep(0.1)
        return True

    def _patience(self, seconds: float) -> float:
        return min(seconds, max(30.0, self.deadline - time.monotonic()))

    # ---- the end

    def rows(self) -> Rows | None:
        """What the database says; None while it is away."""
        try:
            return read_rows(self.site.database_url)
        except DATABASE_ERRORS:
            return None

    def settled(self) -> bool:
        """Whether everything that was accepted has its result, its report and its delivery, and nothing is owed."""
        if self.site.arrivals() or (rows := self.rows()) is None or rows.open_work:
            return False
        final = {(row.sop_instance_uid, row.digest): row for row in rows.instances if row.status in FINAL}
        accepted = self.accepted()
        if accepted.keys() - final.keys():
            return False
        counted: dict[str, int] = {}
        for study, _, _ in rows.reports:
            counted[study] = counted.get(study, 0) + 1
        reported = {scan.study_instance_uid for key, scan in accepted.items() if final[key].reportable}
        return all(counted.get(study, 0) >= (self.generations.get(study, 1) or 1) for study in reported)

    def settle(self, seconds: float = 400) -> None:
        """Wait until everything has come to its end; once in vain is enough."""
        if self._waited_in_vain:
            return
        if self.wait(self.settled, seconds, "everything accepted to come to its end") and self._over_at is not None:
            self.recovery_seconds = round(time.monotonic() - self._over_at, 1)
        self._waited_in_vain = bool(self.complaints)

    def judged(self) -> tuple[Verdict, int]:
        """What the judge says, and how much `reconcile` cannot account for."""
        rows = self.rows() or Rows()
        files = read_files(self.site.spool_dir, [row.spool_name for row in rows.instances])
        expected = Expected(self.statuses, self.generations)
        verdict = judge(self.accepted(), rows, files, self.site.pacs.arrivals, expected)
        partials = list((self.site.spool_dir / "incoming").glob("*.part"))
        if partials:
            verdict.wrong.append(f"{len(partials)} partial files are left in the spool")
        reports = list((self.site.data_dir / "reports").glob("*/.*"))
        if reports:
            verdict.wrong.append(f"{len(reports)} partial reports are left")
        reconciled = self.site.firstread("reconcile", "--verify")
        verdict.wrong += [f"reconcile: {entry}" for entry in reconciled["unaccounted"][:3]]
        if reconciled["pending"]:
            verdict.wrong.append(f"reconcile: {reconciled['pending']} pending at the end")
        return verdict, len(reconciled["unaccounted"])


def freeze(name: str, site: Site, *, thaw: bool = False) -> None:
    """SIGSTOP or SIGCONT to a service and its children."""
    process = psutil.Process(site.stack.processes[name].pid)
    for one in (process, *process.children(recursive=True)):
        one.resume() if thaw else one.suspend()


def run(scenario: "Scenario", site: Site, seed: int, deadline: float, stop: threading.Event) -> Result:
    """Try one scenario and judge it."""
    result = Result(scenario.name, scenario.family, site.database)
    began = time.monotonic()
    trial = Trial(site, Random(f"{seed} {scenario.name} {site.database}"), deadline, stop)
    try:
        scenario.act(trial)
        trial.settle(scenario.patience)
        verdict, result.unaccounted = trial.judged()
        result.acknowledged = verdict.acknowledged
        result.lost, result.doubled = len(verdict.lost), len(verdict.doubled)
        result.why = [*verdict.lost, *verdict.doubled, *verdict.wrong, *trial.complaints]
        if trial.deaths and not scenario.deadly:
            result.why.append(f"{trial.deaths} services died of it")
        if not trial.times:
            result.why.append("the fault did not strike: nothing is proven")
        result.outcome = "broken" if result.why or result.unaccounted else "held"
    except Stopped as error:
        result.outcome, result.why = "not run", [str(error)]
    except NotHere as error:
        result.outcome, result.why = "not here", [str(error)]
    except Exception as error:  # noqa: BLE001 - whatever went wrong is this row's, and the next row goes on
        result.outcome, result.why = "broken", [f"{type(error).__name__}: {error}"[:2000], *trial.complaints]
    result.times, result.recovery_seconds = trial.times, trial.recovery_seconds
    result.seconds = round(time.monotonic() - began, 1)
    return result


@dataclass(frozen=True)
class Scenario:
    """A fault, and how it is made.

    Attributes
    ----------
    act
        Makes the fault, and lifts it; settling and judging come after.
    databases
        On which it is tried.
    patience
        How long it may take until everything has come to its end, seconds.
    deadly
        Whether services die of it; where they must not, one that does breaks the row.
    hidden
        Only run when it is named: it breaks things on purpose, to show that the judge sees it.
    """

    name: str
    family: str
    act: Callable[[Trial], None]
    databases: tuple[str, ...]
    patience: float = 400.0
    deadly: bool = False
    hidden: bool = False


BOTH = ("sqlite", "postgresql")
SQLITE, POSTGRESQL = BOTH[:1], BOTH[1:]
