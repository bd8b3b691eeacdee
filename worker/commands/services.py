"""The services, one command each; `firstread up` runs them all on one machine."""

import fcntl
import os
import signal
from typing import Annotated

import typer

from worker import bootstrap, metrics, schema
from worker.commands.output import say
from worker.config import Settings, load_settings, made_data_dir, unknown_names
from worker.database import Database
from worker.errors import SettingsError
from worker.files import make_private
from worker.intake import bell
from worker.logs import configure_logs, get_logger
from worker.supervision.addresses import SaidAddresses
from worker.supervision.told import Told

log = get_logger(__name__)


def _start(service: str) -> Settings:
    os.umask(0o077)  # whatever a service makes is nobody else's
    settings = load_settings()
    configure_logs(service, settings.log_format)
    made_data_dir(settings)
    if unknown := unknown_names():
        log.warning("unknown_settings", names=unknown, todo="`firstread config` lists those there are")
    return settings


def listener(
    no_intake: Annotated[bool, typer.Option("--no-intake", help="Start no intake beside the listener.")] = False,
) -> None:
    """Receive scans: the DICOM C-STORE listener, with an intake beside it."""
    from dicom_listener.__main__ import main

    raise typer.Exit(main(_start("listener"), with_intake=not no_intake))


def intake() -> None:
    """Register what lies in the spool, create owed work, send wake-ups, sweep."""
    settings = _start("intake")
    from worker.celery_app import app
    from worker.intake_service import Intake

    metrics.serve(settings.metrics_port)
    stop = Told()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    standing_by = False
    lock = os.open(
        make_private(settings.data_dir / "run") / "intake.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
    )
    while not stop.is_set():
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not standing_by:
                log.info("standing_by", why="another intake works on this spool (a listener starts one beside it)")
            standing_by = True
            stop.wait(1.0)
            continue
        Intake(settings, app, stop, _bell(settings)).run()
    os.close(lock)


def _bell(settings: Settings) -> bell.Bell | None:
    try:
        return bell.Bell(settings.data_dir / "run" / bell.NAME)
    except OSError as error:
        log.warning("no_bell", error=str(error), todo="none: intake looks at the spool twenty times a second")
        return None


def worker(
    queues: Annotated[
        str,
        typer.Option(help="Comma-separated: inference (every installed model), inference.NAME[@VERSION], delivery."),
    ] = "inference,delivery",
    concurrency: Annotated[int, typer.Option(min=1, help="Threads of a delivery worker.")] = 4,
    device: Annotated[
        str | None, typer.Option(help="The GPU of this process, as CUDA_VISIBLE_DEVICES names it; without it, all.")
    ] = None,
) -> None:
    """Classify (inference) or report and deliver (delivery): a Celery worker with our flags."""
    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = device  # before TensorFlow is imported, which reads it once
    settings = _start("worker")
    if not settings.broker_url:
        raise SettingsError("FIRSTREAD_BROKER_URL is not set: a worker needs a broker (or use `firstread up`)")
    from worker import tasks
    from worker.celery_app import app, stopping
    from worker.wakeups import DELIVERY, INFERENCE, queue_of

    names: list[str] = []
    models: list[str] = []
    for wanted in filter(None, (part.strip() for part in queues.split(","))):
        head, _, model = wanted.partition(".")
        if wanted == DELIVERY:
            names.append(DELIVERY)
        elif head == INFERENCE:
            served, warmed = _models(settings, model)
            names += [queue_of("infer", one) for one in served]
            models += warmed
        else:
            raise SettingsError(f"--queues {wanted}: it is inference, inference.NAME[@VERSION] or delivery")
    if not names:
        raise SettingsError("--queues names no queue, or no model is installed (`firstread models list`)")
    metrics.serve(settings.metrics_port)
    _ = tasks.runtime.pipeline
    if models:
        tasks.runtime.warm_up(models)  # before the first scan
    # A classifier lives in one process and is used by one thread: `solo`. Deliveries wait for peers: threads.
    pool = ["--pool", "solo"] if models else ["--pool", "threads", "--concurrency", str(concurrency)]
    kind = "inference" if models else "delivery"
    name = ["--queues", ",".join(names), "--hostname", f"{kind}-{os.getpid()}@%h"]
    flags = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "WARNING"]
    app.worker_main(["--quiet", "worker", *pool, *name, *flags])
    if not stopping.is_set():  # Celery gave up on its own, and says 0 all the same
        raise typer.Exit(1)


def _models(settings: Settings, wanted: str) -> tuple[list[str], list[str]]:
    """Return the models to serve, and those to warm: of each name the newest; others are loaded when asked for.

    `wanted` is a name, `name@version`, or empty for every installed model.
    """
    registry = bootstrap.model_registry(settings)
    if "@" in wanted:
        return [wanted], [registry.find(wanted).card.identifier]
    if wanted:
        registry.find(wanted)  # says what is installed where this is not
    packages = [package for package in registry.packages() if wanted in {"", package.card.name}]
    newest = {package.card.name: package.card.identifier for package in packages}
    return [package.card.identifier for package in packages], list(newest.values())


def worklist() -> None:
    """Serve the reading worklist: page, JSON interface, probes, metrics."""
    settings = _start("worklist")
    from worker import front_door
    from worker.check import readiness
    from worker.worklist.app import create_app, serve

    bootstrap.require_restored(settings)
    database = Database(settings.effective_database_url)
    if database.is_sqlite:
        schema.ensure(database)
    app = create_app(
        database,
        previews_dir=settings.previews_dir,
        readiness=lambda: readiness(settings, database),
        version=_version(),
        send_to=_listener_address(settings),
        access=front_door.access(settings, database),
        trusted_proxies=settings.trusted_proxies,
    )
    serve(app, settings.web_host, settings.web_port, run_dir=settings.data_dir / "run")


def _listener_address(settings: Settings) -> str:
    """Return where scans are to be sent: as the running listener says, else as it is set."""
    listener = SaidAddresses(settings.data_dir / "run").listener()
    if listener is not None:
        return str(listener)
    secure = "" if settings.tls_certificate is None else "/tls"
    return f"{settings.ae_title}@{settings.dicom_host}:{settings.dicom_port}{secure}"


def _version() -> str:
    from importlib.metadata import version

    return version("firstread")


def migrate() -> None:
    """Bring the database schema to the newest version."""
    os.umask(0o077)
    settings = load_settings()
    before, after = schema.migrate(Database(settings.effective_database_url))
    if before == after:
        say(f"the schema is {after}: nothing to do")
    else:
        say(f"the schema was {before or 'empty'}, it is now {after}")
