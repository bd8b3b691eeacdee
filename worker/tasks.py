"""Thin doors: one Celery task a queue, and a call into the pipeline.

A task takes everything that is due and ends; what fails is written into its row and hinted at again by the sweeper, so
there is no retry here.
"""

import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from models.errors import ModelError
from worker import bootstrap
from worker.celery_app import app, settings, stopping
from worker.database import Database, is_away
from worker.errors import ChildLost, PackageError
from worker.logs import get_logger
from worker.pipeline import Pipeline

if TYPE_CHECKING:
    from models.classifier import Classifier
    from worker.inference.readers import PixelReaders

log = get_logger(__name__)


class Runtime:
    """What this process keeps warm: the pipeline, the classifiers, the decoding children."""

    def __init__(self) -> None:
        self._classifiers: dict[str, Classifier] = {}
        self._lock = threading.Lock()

    @cached_property
    def database(self) -> Database:
        """The database, opened once."""
        return bootstrap.open_database(settings)

    @cached_property
    def pipeline(self) -> Pipeline:
        """The pipeline, wired once."""
        actor = f"worker@{socket.gethostname()}"
        return bootstrap.build_pipeline(settings, self.database, actor=actor, app=app, stopping=stopping.is_set)

    @cached_property
    def reader(self) -> "PixelReaders":
        """The guarded decoding children, made once; started by `warm_up`, or with their first objects."""
        return bootstrap.pixel_readers(settings)

    def warm_up(self, models: Iterable[str]) -> None:
        """Have the classifiers (`name@version`) and the decoding children ready; they get ready side by side."""
        with _child_may_be_lost():
            self.reader.start()
        for model in models:
            self.classifier(model)
        with _child_may_be_lost():
            self.reader.wait_until_ready()

    def classifier(self, model: str) -> "Classifier":
        """Return the classifier `name@version`, verified and warmed when it is first asked for."""
        with self._lock:
            if model not in self._classifiers:
                from models.classifier import Classifier
                from models.engines.choice import choose

                package = bootstrap.model_registry(settings).find(model)
                choice = choose(package, settings.engine, settings.precision)
                if choice.refused:
                    log.warning("computed_in_float32", model=model, engine=choice.engine, because=choice.refused)
                classifier = Classifier.load(package, engine=choice.engine, threads=settings.engine_threads)
                classifier.warm_up()
                self._classifiers[model] = classifier
                log.info("model_ready", model=model, engine=classifier.engine, device=classifier.device)
            return self._classifiers[model]

    @property
    def turn_seconds(self) -> float:
        """How long one model may keep this process from the others: no limit where there are none."""
        return TURN_SECONDS if len(self._classifiers) > 1 else float("inf")


TURN_SECONDS = 2.0
"""A stack of a thousand slices takes a minute: a film that has come meanwhile waits no longer than this."""

runtime = Runtime()


@app.task(name="firstread.inference")  # type: ignore[untyped-decorator]
def inference(model: str) -> None:
    """Classify what is owed to `model` (`name@version`), for a turn where the process serves several."""
    with _database_may_be_away():
        try:
            classifier = runtime.classifier(model)
            runtime.pipeline.infer(model, classifier, runtime.reader, turn_seconds=runtime.turn_seconds)
        except (ModelError, PackageError) as error:  # its work waits, and the worklist says that nobody takes it
            log.error("model_not_usable", model=model, error=str(error), todo="`firstread models verify`")


@app.task(name="firstread.delivery")  # type: ignore[untyped-decorator]
def delivery() -> None:
    """Make the reports that are due and deliver what is owed."""
    with _database_may_be_away():
        runtime.pipeline.report()
        runtime.pipeline.deliver()


@contextmanager
def _database_may_be_away() -> Iterator[None]:
    """End a task quietly when the database is away: what it held is owed again when its lease ends."""
    try:
        yield
    except SQLAlchemyError as error:
        if not is_away(error):
            raise
        log.warning("database_away", error=str(error).partition("\n")[0][:200], todo="work goes on when it is back")


@contextmanager
def _child_may_be_lost() -> Iterator[None]:
    """Go on without a child that does not start: the next object tries it again, and waits if it fails again."""
    try:
        yield
    except ChildLost as error:
        log.warning("child_not_warm", error=str(error), todo="none: it is started again with the next object")
