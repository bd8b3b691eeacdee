"""Wiring at the door: settings in, a pipeline out.

Every command and every service comes through here, and most need a part of it: what is wired is imported where it is
wired. A command that only reads the database starts in half the processor time.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from models.engines.choice import choose, usable_gpus
from models.errors import ModelError
from models.registry import Registry
from worker import schema
from worker.backup.layout import RESTORING
from worker.config import Settings, made_data_dir
from worker.database import Database
from worker.errors import SchemaOwed
from worker.supervision.plan import default_services, usable_cores
from worker.supervision.service import Service

if TYPE_CHECKING:
    from celery import Celery

    from worker.commitment.steps import CommitmentPolicy
    from worker.inference.readers import PixelReaders
    from worker.intake.routing import Router
    from worker.intake.work import Work
    from worker.pipeline import Pipeline
    from worker.retention.finished_work import FinishedWork
    from worker.retention.removal import Retention


def open_database(settings: Settings) -> Database:
    """Open the database, its schema the newest.

    Raises
    ------
    SchemaOwed
        On PostgreSQL, where `firstread migrate` has to be run first; and while a backup is being restored.
    SettingsError
        When the data directory, where SQLite keeps it, cannot be made.
    """
    require_restored(settings)
    if not settings.database_url:
        made_data_dir(settings)
    database = Database(settings.effective_database_url)
    schema.ensure(database)
    return database


def require_restored(settings: Settings) -> None:
    """Keep away from a data directory whose restore has not ended: its rows come last.

    Raises
    ------
    SchemaOwed
        Saying what to do.
    """
    if (settings.data_dir / RESTORING).exists():
        raise SchemaOwed(f"{settings.data_dir} is being restored: run `firstread restore` to its end first")


def models_dir(settings: Settings) -> Path:
    """Return where the site's own model packages are kept, beside the shipped ones."""
    return settings.models_dir or settings.data_dir / "models"


def model_registry(settings: Settings) -> Registry:
    """Return the model packages there are: shipped ones and the site's own."""
    return Registry(models_dir(settings))


def model_names(settings: Settings) -> list[str]:
    """Return the names of the installed models."""
    return sorted({package.card.name for package in model_registry(settings).packages()})


def planned_services(settings: Settings) -> tuple[Service, ...]:
    """Return the services of `up`: of inference workers as many as engines, processors and GPUs ask for."""
    devices = usable_gpus()
    engines: set[str] = set()
    for package in [] if devices else model_registry(settings).packages():
        try:
            engines.add(choose(package, settings.engine).engine)
        except ModelError:  # the worker says so, and serves the others
            continue
    return default_services(
        model_names(settings),
        workers=settings.inference_workers,
        single_threaded=engines == {"onnx"} and settings.engine_threads == 1,
        devices=devices,
    )


def inference_workers(settings: Settings) -> int:
    """Return how many inference workers `up` starts."""
    return sum(service.name.startswith("inference") for service in planned_services(settings))


def decoders(settings: Settings) -> int:
    """Return how many decoding children an inference worker has."""
    from worker.inference.readers import decoders_for

    return settings.decoders or decoders_for(usable_cores(), inference_workers(settings))


def pixel_readers(settings: Settings) -> "PixelReaders":
    """Return the decoding children of an inference worker, not yet started."""
    from worker.inference.readers import PixelReaders

    return PixelReaders(
        decoders(settings), seconds=settings.decode_seconds, memory_bytes=settings.decode_bytes, announce=True
    )


def model_router(settings: Settings) -> "Router":
    """Return the routing rules over the installed models."""
    from worker.intake.routing import Router

    installed: dict[str, list[str]] = {}
    for package in model_registry(settings).packages():
        installed.setdefault(package.card.name, []).append(package.card.version)
    return Router(settings.route, installed)


def owed_work(settings: Settings, database: Database) -> "Work":
    """Return the table of owed work."""
    from worker.intake.work import Work

    return Work(database, lease_seconds=settings.lease_seconds, max_attempts=settings.max_attempts)


def retention(settings: Settings, pipeline: "Pipeline") -> "Retention":
    """Return what removes stored bytes that nobody needs."""
    from worker.retention.removal import Retention

    return Retention(
        pipeline.database,
        pipeline.spool,
        pipeline.previews_dir,
        pipeline.record,
        days=settings.retention_days,
        floor_bytes=settings.retention_floor_bytes,
    )


def finished_work(settings: Settings, database: Database) -> "FinishedWork":
    """Return what removes the rows of finished work."""
    from worker.retention.finished_work import FinishedWork

    return FinishedWork(database, days=settings.work_days)


def build_pipeline(
    settings: Settings,
    database: Database,
    *,
    actor: str,
    app: "Celery | None" = None,
    routes: bool = False,
    stopping: Callable[[], bool] = lambda: False,
) -> "Pipeline":
    """Wire a pipeline for one service.

    Parameters
    ----------
    actor
        Who appears in the audit log.
    app
        The Celery application to publish hints with; None: none are published.
    routes
        Whether this service registers arrivals and so needs the routing rules.
    """
    from worker.intake.spool import Spool
    from worker.pipeline import Pipeline
    from worker.wakeups import Wakeups

    return Pipeline(
        database,
        Spool(settings.spool_dir, min_free_bytes=settings.min_free_bytes),
        owed_work(settings, database),
        Wakeups(app if settings.broker_url else None),
        reports_dir=settings.reports_dir,
        previews_dir=settings.previews_dir,
        destinations=settings.pacs,
        credentials=settings.credentials,
        ae_title=settings.ae_title,
        calling_aes=settings.known_calling_aes,
        quiet_seconds=settings.study_quiet_seconds,
        report_iod=settings.report_iod,
        router=model_router(settings) if routes else None,
        actor=actor,
        commitment=commitment_policy(settings),
        batch_seconds=settings.batch_seconds,
        stopping=stopping,
    )


def commitment_policy(settings: Settings) -> "CommitmentPolicy":
    """Return who gets the results of storage commitment where, and who is asked for it."""
    from worker.commitment.steps import CommitmentPolicy

    known = (*reversed(settings.pacs), *reversed(settings.commitment_peers))  # those set for it, and the first, win
    return CommitmentPolicy(
        peers={peer.ae_title: peer for peer in known},
        ask_of=settings.commitment_from,
        answer_seconds=settings.commitment_seconds,
    )
