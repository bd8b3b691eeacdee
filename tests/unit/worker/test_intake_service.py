"""The loop of intake: after an outage, workers that lived get the time to renew their leases before any is taken."""

import threading
from types import SimpleNamespace

import pytest
from sqlalchemy.exc import OperationalError

from worker import intake_service
from worker.intake.grace import Grace


class Outage:
    """A pipeline whose database is away in the given sweeps; it notes whether grace held in the others."""

    def __init__(self, stop: threading.Event, away: set[int], sweeps: int) -> None:
        self.grace = Grace(30.0)
        self.wakeups = SimpleNamespace(close=lambda: None)
        self.held: list[tuple[int, bool]] = []
        self._stop, self._away, self._sweeps = stop, away, sweeps
        self._sweep = 0

    def say(self, action: str) -> None:
        """Nothing is written down here."""

    def register_arrivals(self) -> int:
        return 0  # an empty spool asks the database nothing

    def hint_when_due(self) -> None:
        """Nothing ever is."""

    def sweep(self) -> None:
        self._sweep += 1
        if self._sweep >= self._sweeps:
            self._stop.set()
        if self._sweep in self._away:
            raise OperationalError("SELECT", {}, Exception("connection refused"))
        self.held.append((self._sweep, self.grace.holds()))


def test_grace_holds_in_the_first_sweep_after_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    stop = threading.Event()
    pipeline = Outage(stop, away={2}, sweeps=3)
    monkeypatch.setattr(intake_service.bootstrap, "open_database", lambda _settings: None)
    monkeypatch.setattr(intake_service.bootstrap, "build_pipeline", lambda *_, **__: pipeline)
    monkeypatch.setattr(intake_service.bootstrap, "retention", lambda *_: None)
    monkeypatch.setattr(intake_service.bootstrap, "finished_work", lambda *_: None)
    monkeypatch.setattr(intake_service, "Timetable", lambda *_: SimpleNamespace(turn=lambda: None))
    monkeypatch.setattr(intake_service, "Anchoring", lambda *_, **__: SimpleNamespace(follow=lambda: None))
    monkeypatch.setattr(intake_service, "AnchorFile", lambda _path: None)
    settings = SimpleNamespace(audit_syslog="", broker_url="", sweep_seconds=0.0, anchors_file=None)
    intake_service.Intake(settings, None, stop).run()  # type: ignore[arg-type]
    assert pipeline.held == [(1, False), (3, True)]
