"""What an intake process does in turns: register, sweep, anchor the audit chain, remove what retention lets go.

While the database or the disk is away it waits and looks again; scans are accepted and kept meanwhile.
"""

import socket
import time

from celery import Celery
from sqlalchemy.exc import SQLAlchemyError

from worker import bootstrap
from worker.audit.anchor import AnchorFile, Anchoring
from worker.audit.forwarding import Forwarder
from worker.audit.syslog import Receiver
from worker.config import Settings
from worker.database import Database, is_away
from worker.errors import AuditBroken, SchemaOwed
from worker.intake.bell import Bell
from worker.logs import get_logger
from worker.pipeline import Pipeline
from worker.retention.timetable import Timetable
from worker.supervision.told import Told

log = get_logger(__name__)

INTAKE_STARTED = "intake.started"
INTAKE_STOPPED = "intake.stopped"
POLL_SECONDS = 0.05
"""How often an idle intake looks at the spool although no bell rang; a look costs microseconds."""
GATHER_SECONDS = 0.02
"""After a small batch what follows is gathered for so long: a few larger transactions instead of many small ones."""
SMALL_BATCH = 16
AWAY_SECONDS = 1.0
"""How often it is tried again while database or disk are away."""
FORWARDER_SECONDS = 7.0
"""What a forwarder that is sending may take to end."""


class Intake:
    """The loop of an intake process.

    Parameters
    ----------
    settings
        The effective settings.
    app
        The Celery application to publish hints with.
    stop
        Set when the process is to end.
    bell
        Rings when something has come; None: it is looked for.
    """

    def __init__(self, settings: Settings, app: Celery, stop: Told, bell: Bell | None = None) -> None:
        self._settings = settings
        self._app = app
        self._stop = stop
        self._bell = bell
        self._pipeline: Pipeline | None = None
        self._anchoring: Anchoring | None = None
        self._timetable: Timetable | None = None
        self._forwarder: Forwarder | None = None
        self._away = False
        self._next_sweep = 0.0

    def run(self) -> None:
        """Go on until told to stop."""
        while not self._stop.is_set():
            try:
                handled = self._turn(self._pipeline or self._open())
            except (SQLAlchemyError, SchemaOwed, AuditBroken, OSError) as error:
                if isinstance(error, SQLAlchemyError) and not is_away(error):
                    raise
                self._wait(error)
                continue
            if self._away:
                log.info("intake_goes_on")
            self._away = False
            self._rest(handled)
        self._end()

    def _rest(self, handled: int) -> None:
        """Wait for what comes next."""
        if handled:
            if handled < SMALL_BATCH:
                self._stop.wait(GATHER_SECONDS)
        elif self._bell is None:
            self._stop.wait(POLL_SECONDS)
        else:
            self._stop.wait(POLL_SECONDS, self._bell)
            self._bell.hush()

    def _open(self) -> Pipeline:
        actor = f"intake@{socket.gethostname()}"
        database = bootstrap.open_database(self._settings)
        made = bootstrap.build_pipeline(self._settings, database, actor=actor, app=self._app, routes=True)
        made.say(INTAKE_STARTED)
        if self._away:
            made.grace.begin()
        self._anchoring = Anchoring(database, AnchorFile(self._settings.anchors_file), actor=actor)
        finished = bootstrap.finished_work(self._settings, database)
        self._timetable = Timetable(bootstrap.retention(self._settings, made), finished)
        self._forwarder = self._forward(database)
        self._pipeline = made
        log.info("intake_ready", broker=bool(self._settings.broker_url))
        return made

    def _turn(self, pipeline: Pipeline) -> int:
        with pipeline.grace.watch():
            handled = pipeline.register_arrivals()
        if time.monotonic() >= self._next_sweep:
            pipeline.sweep()
            if self._anchoring is not None:
                self._anchoring.follow()
            self._next_sweep = time.monotonic() + self._settings.sweep_seconds
        pipeline.hint_when_due()
        if self._timetable is not None:
            self._timetable.turn()
        return handled

    def _wait(self, error: Exception) -> None:
        if not self._away:
            log.warning(
                "intake_waits", error=str(error)[:300], todo="scans are accepted and kept; intake goes on later"
            )
        self._away = True
        if self._pipeline is not None:
            self._pipeline.grace.begin()  # now, so that it holds in the first sweep that succeeds
        self._stop.wait(AWAY_SECONDS)

    def _forward(self, database: Database) -> Forwarder | None:
        """Start to send audit events to the syslog receiver, where one is set."""
        settings = self._settings
        if not settings.audit_syslog:
            return None
        files = {name: getattr(settings, f"audit_syslog_{name}") for name in ("ca", "certificate", "key")}
        forwarder = Forwarder(database, Receiver.parse(settings.audit_syslog, **files), source=settings.ae_title)
        forwarder.start()
        return forwarder

    def _end(self) -> None:
        """Write that intake stopped, and anchor what was done since the last sweep, if the database is there."""
        if self._pipeline is not None and self._anchoring is not None:
            try:
                self._pipeline.say(INTAKE_STOPPED)
                self._anchoring.follow()
            except SQLAlchemyError as error:
                first = str(error).partition("\n")[0][:200]
                log.warning("audit_not_anchored", error=first, todo="the next start does it")
        if self._pipeline is not None:
            self._pipeline.wakeups.close()
        if self._forwarder is not None:
            self._forwarder.stop(FORWARDER_SECONDS)
