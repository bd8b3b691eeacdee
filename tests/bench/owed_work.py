"""`firstread bench queue`: what database and queue cost an image, and whether a claim stays as cheap as rows pile up.

The journey of an image without its pixels: registered, claimed, committed, with a classifier and a reader that do
nothing. What reads the headers and what runs the network is timed apart and does not count.
"""

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from celery import Celery

from tests.bench.claims import BATCH, claim_curve, table_of_its_own
from tests.bench.goals import Goal
from tests.bench.loads import Load, radiograph
from tests.bench.receivers import OURS
from tests.bench.report import Measure, Report
from tests.bench.rounds import Effort, check_words, chosen, measure_cases
from tests.conftest import RedisServer
from tests.faults.postgres import PostgresServer
from tests.support.fakes import MODEL, FakeClassifier, FakeFrame, make_pipeline
from worker import inference_turn
from worker.wakeups import Wakeups

MEASURES = {
    "overhead_ms": Measure("ms an image", 3, more_is_better=False),
    "register_ms": Measure("registration", 3, more_is_better=False),
    "claim_ms": Measure("claim", 3, more_is_better=False),
    "commit_ms": Measure("commit", 3, more_is_better=False),
    "wakeup_ms": Measure("wake-up", 3, more_is_better=False),
    "other_ms": Measure("the rest", 3, more_is_better=False),
    "headers_ms": Measure("(headers, not counted)", 3, more_is_better=False),
}
DATABASES = {"sqlite": f"{OURS}, SQLite", "postgresql": f"{OURS}, PostgreSQL"}
BATCHES = {"a backlog of 128": 128, "one at a time": 1}
SINGLES = 24
"""How many single images a round has."""
DEFAULT_ROWS, QUICK_ROWS = 100_000, 1000
SMALL_SIDE = 64


@dataclass(frozen=True)
class Plan(Effort):
    """What is asked for.

    Attributes
    ----------
    rows
        Up to how many rows of finished work the cost of a claim is measured.
    """

    rows: int = DEFAULT_ROWS


class StillReader:
    """Gives every object the same pixels at once, and no preview."""

    count = 1

    def prepared(self, path: Path, card: Any, keep: Any) -> FakeFrame:
        return FakeFrame(np.zeros((8, 8, 1), np.float32), windowed=False)


class Bench:
    """A pipeline on one database, its steps timed.

    Parameters
    ----------
    folder
        For its spool.
    """

    def __init__(self, database: str, url: str, folder: Path, broker: str, load: Load) -> None:
        self.name, self.url = DATABASES[database], url
        app = Celery("bench", broker=broker)
        app.conf.task_create_missing_queues = True
        self.pipeline = make_pipeline(url, folder, wakeups=Wakeups(app))
        folder.mkdir(exist_ok=True)
        self.load = load
        self._sent = 0
        self._log = (folder / "log").open("w")
        self.spent: Counter[str] = Counter()
        assert self.pipeline.arrivals is not None
        _time(self.pipeline.arrivals.headers, "read", self.spent, "headers")
        _time(self.pipeline.wakeups, "send", self.spent, "wakeup")
        _time(self.pipeline.work, "claim", self.spent, "claim")
        _time(self.pipeline.results, "commit", self.spent, "commit")

    def fill(self, count: int) -> None:
        """Put images among the arrivals, each a study of its own."""
        for path in self.load.write(self.pipeline.spool.directory / "made", count, first=self._sent + 1):
            with self.pipeline.spool.receive() as incoming:
                incoming.write(path.read_bytes())
                incoming.commit()
            path.unlink()
        self._sent += count

    def carry(self) -> tuple[float, float]:
        """Register what has arrived, and classify it; return the seconds that each took, the lines of the log too."""
        with redirect_stderr(self._log):
            began = time.perf_counter()
            while self.pipeline.register_arrivals():
                pass
            registered = time.perf_counter()
            self.pipeline.infer(MODEL, FakeClassifier(), StillReader())  # type: ignore[arg-type]
            return registered - began, time.perf_counter() - registered

    def close(self) -> None:
        """Let go of the database."""
        self.pipeline.database.dispose()
        self._log.close()


def _time(owner: Any, name: str, spent: Counter[str], what: str) -> None:
    """Let the time that a method takes be added up."""
    method = getattr(owner, name)

    def timed(*arguments: Any, **named: Any) -> Any:
        began = time.perf_counter()
        try:
            return method(*arguments, **named)
        finally:
            spent[what] += time.perf_counter() - began

    setattr(owner, name, timed)


@contextmanager
def _classification_timed(spent: Counter[str]) -> Iterator[None]:
    """Add up what decoding, preview and network take, which are fakes here and no part of the overhead."""
    originals = {name: getattr(inference_turn, name) for name in ("prepare", "score")}
    for name in originals:
        _time(inference_turn, name, spent, "classify")
    try:
        yield
    finally:
        for name, original in originals.items():
            setattr(inference_turn, name, original)


def sizes(batch: int, *, quick: bool) -> tuple[int, int]:
    """Return how many images come at once, and how many in a round."""
    count = max(batch, SINGLES) // (4 if quick else 1)
    return min(batch, count), count


def measured(bench: Bench, batch: int, count: int) -> dict[str, float]:
    """Carry `count` images through in batches; return the milliseconds an image, by step."""
    bench.spent.clear()
    register = infer = 0.0
    with _classification_timed(bench.spent):
        for _ in range(count // batch):
            bench.fill(batch)
            one, other = bench.carry()
            register, infer = register + one, infer + other
    spent = bench.spent
    register -= spent["headers"] + spent["wakeup"]
    # Stages overlap: what they took each may be more than the turn did.
    rest = max(0.0, infer - spent["classify"] - spent["claim"] - spent["commit"])
    steps = {"register": register, "claim": spent["claim"], "commit": spent["commit"], "wakeup": spent["wakeup"]}
    steps["other"] = rest
    figures = {"overhead": sum(steps.values()), **steps, "headers": spent["headers"]}
    return {f"{name}_ms": 1000 * seconds / count for name, seconds in figures.items()}


@contextmanager
def databases(folder: Path, wanted: Sequence[str], absent: dict[str, str]) -> Iterator[dict[str, str]]:
    """Give the URL of each database that is wanted; a PostgreSQL is started where there is one to start."""
    urls = {"sqlite": f"sqlite:///{folder}/firstread.db"} if "sqlite" in wanted else {}
    with ExitStack() as running:
        if "postgresql" not in wanted:
            yield urls
            return
        try:
            server = PostgresServer(folder / "pg")
        except ModuleNotFoundError as error:
            absent[DATABASES["postgresql"]] = f"{error.name} is not installed"
        else:
            running.callback(server.stop)
            urls["postgresql"] = server.url
        yield urls


def run(plan: Plan, tell: Callable[[str, int, int], None]) -> Report:
    """Measure; `tell` is told what is being done, how many steps are done, and how many there are."""
    report = Report("queue", MEASURES, plan.counted, quick=plan.quick, wanted=GOALS)
    with tempfile.TemporaryDirectory(prefix="fr-b-") as name, ExitStack() as running:
        folder = Path(name)
        redis = RedisServer(folder)
        redis.start()
        running.callback(redis.stop)
        check_words(plan.only, DATABASES, BATCHES)
        urls = running.enter_context(databases(folder, chosen(list(DATABASES), plan.only), report.absent))
        load = radiograph(SMALL_SIDE)
        benches = [Bench(database, url, folder / database, redis.url, load) for database, url in urls.items()]
        for bench in benches:
            running.callback(bench.close)
        measure_cases(
            dict.fromkeys(chosen(list(BATCHES), plan.only), benches),
            plan.counted,
            lambda case, bench: measured(bench, *sizes(BATCHES[case], quick=plan.quick)),
            lambda bench: bench.name,
            report.seen,
            tell,
        )
        _claims(report, benches, plan, tell)
    return report


def _claims(report: Report, benches: list[Bench], plan: Plan, tell: Callable[[str, int, int], None]) -> None:
    """Measure the cost of a claim over the number of finished rows, on each database."""
    lines, plans = {}, {}
    for number, bench in enumerate(benches):
        tell(f"claims: {bench.name}", number, len(benches))
        rows = min(plan.rows, QUICK_ROWS) if plan.quick else plan.rows
        with table_of_its_own(bench.url) as work:
            found = claim_curve(work, rows, plan.counted)
        lines[bench.name] = found.points
        plans[bench.name] = found.plans
        ends = " and ".join(f"{ms:g} ms with {size:,}" for size, ms in (found.points[0], found.points[-1]))
        report.notes.append(f"{bench.name}: a claim of {BATCH} takes {ends} rows of finished work in the table")
    curve = {"x": "rows of finished work", "y": f"ms a claim of {BATCH}", "logarithmic": True, "lines": lines}
    report.more = {"curves": {"the cost of a claim": curve}, "query_plans": plans}


def _overhead(database: str) -> Goal:
    name = DATABASES[database]
    case = next(iter(BATCHES))
    words = f"queue + database, ms an image: {name.partition(', ')[2]}"
    return Goal(words, "<=", 1.5, lambda seen: seen.spread(case, name, "overhead_ms"))


GOALS = tuple(_overhead(database) for database in DATABASES)
