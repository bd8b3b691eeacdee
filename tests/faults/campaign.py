"""The campaign: scenarios on sites, one site a database, both at the same time, within a bound."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.faults import clock_and_load, disk, kills, pacs_manners, sabotage, senders, servers
from tests.faults.site import Site, site
from tests.faults.trial import BOTH, Result, Scenario, run

LAST_WORDS_SECONDS = 60.0
"""A scenario under way at the bound may take so long to its end."""


def all_scenarios() -> list[Scenario]:
    """Every scenario, family by family."""
    families = (servers, disk, pacs_manners, senders, clock_and_load, kills, sabotage)
    return [scenario for family in families for scenario in family.scenarios()]


def chosen(only: Sequence[str] = ()) -> list[Scenario]:
    """Those whose name or family has one of the words in it; all but the hidden ones where no word is given.

    Raises
    ------
    ValueError
        When a word is in no name.
    """
    found = all_scenarios()
    if not only:
        return [scenario for scenario in found if not scenario.hidden]
    for word in only:
        if not any(_is_meant(word, scenario) for scenario in found):
            raise ValueError(f"no scenario has {word!r} in its name; --list shows them")
    return [scenario for scenario in found if any(_is_meant(word, scenario) for word in only)]


def _is_meant(word: str, scenario: Scenario) -> bool:
    return word.lower() in scenario.name.lower() or word.lower() == scenario.family.lower()


@dataclass
class Campaign:
    """What is to be done, and what has come of it.

    Attributes
    ----------
    minutes
        After so long no scenario is begun any more; those that were not are named.
    tell
        Called with each result as it comes.
    """

    scenarios: Sequence[Scenario]
    databases: Sequence[str] = BOTH
    seed: int = 1
    minutes: float = 15.0
    tell: Callable[[Result], None] = lambda _result: None
    results: list[Result] = field(default_factory=list)
    now: dict[str, str] = field(default_factory=dict)
    """By database, what is being tried."""
    seconds: float = 0.0
    stop: threading.Event = field(default_factory=threading.Event)
    """Set to end early; what has been started is stopped in order."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def rows(self) -> int:
        """How many rows the table will have."""
        return sum(name in scenario.databases for scenario in self.scenarios for name in self.databases)

    def run(self) -> None:
        """Try everything; what a site is too broken for is a result too."""
        began = time.monotonic()
        deadline = began + 60 * self.minutes
        lanes = [threading.Thread(target=self._lane, args=(name, deadline), name=name) for name in self.databases]
        for lane in lanes:
            lane.start()
        for lane in lanes:
            while lane.is_alive():  # in slices: a signal is handled between them
                lane.join(0.5)
        self.seconds = round(time.monotonic() - began, 1)

    def ok(self) -> bool:
        """Whether every row held, or could not be tried on this machine."""
        return bool(self.results) and all(result.outcome in {"held", "not here"} for result in self.results)

    def _lane(self, database: str, deadline: float) -> None:
        left = [scenario for scenario in self.scenarios if database in scenario.databases]
        if not left:
            return
        self.now[database] = "starting"
        try:
            with site(database) as opened:
                while left and time.monotonic() < deadline and not self.stop.is_set():
                    scenario = left.pop(0)
                    self.now[database] = scenario.name
                    self._keep(run(scenario, opened, self.seed, deadline + LAST_WORDS_SECONDS, self.stop))
                    _heal(opened)
        except Exception as error:  # noqa: BLE001 - the other database goes on; this one's rows say why they are not there
            why = [f"the site could not go on: {type(error).__name__}: {error}"[:2000]]
            for scenario in left:
                self._keep(Result(scenario.name, scenario.family, database, outcome="broken", why=why))
            left = []
        for scenario in left:
            why = [
                "the campaign was told to end" if self.stop.is_set() else f"not begun within {self.minutes:g} minutes"
            ]
            self._keep(Result(scenario.name, scenario.family, database, outcome="not run", why=why))
        self.now.pop(database, None)

    def _keep(self, result: Result) -> None:
        with self._lock:
            self.results.append(result)
            self.tell(result)


def _heal(opened: Site) -> None:
    """Leave the site as the next scenario expects it, whatever the last one has left behind."""
    opened.disarm()
    opened.step_clock(0)
    opened.pacs.manner = "well"
    if opened.postgres is not None:
        opened.postgres.thaw()
    opened.tend()
