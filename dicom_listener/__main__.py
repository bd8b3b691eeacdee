"""The listener service: `python -m dicom_listener [--no-intake]`, `firstread listener`."""

import argparse
import fcntl
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dicom_listener.acceptors import Acceptors, processes
from dicom_listener.intake_process import IntakeProcess
from dicom_listener.server import Listener
from dicom_listener.serving import (
    DRAIN_SECONDS,
    Signals,
    listener_of,
    prepare_process,
    serve_until_told,
    spool_of,
    tls_of,
)
from dicom_listener.sockets import bind
from worker.config import Peer, Settings, load_settings, unknown_names
from worker.errors import SettingsError, StartError
from worker.files import make_private
from worker.intake.spool import Spool
from worker.logs import configure_logs, get_logger, tell_withheld
from worker.metrics import serve, shared_dir
from worker.supervision.processes import Terminal

log = get_logger(__name__)


def main(settings: Settings, *, with_intake: bool = True) -> int:
    """Serve until SIGTERM or SIGINT, read the certificates again at SIGHUP; the logs are the caller's to configure.

    The process is ours from here: its signal handlers and its umask (077) are set.

    Parameters
    ----------
    settings
        The effective settings.
    with_intake
        Whether an intake process is run beside the listener.

    Returns
    -------
    int
        Exit code: 0 stopped as asked, 1 could not start, 2 a setting is wrong.
    """
    terminal = Terminal()
    signals = prepare_process()
    try:
        with _one_at_a_time(make_private(settings.data_dir / "run")) as run_dir:
            return _serve(settings, run_dir, signals, terminal, with_intake=with_intake)
    except SettingsError as error:
        return _complain(error, 2)
    except StartError as error:
        return _complain(error, 1)
    except OSError as error:
        return _complain(StartError(f"FIRSTREAD_DATA_DIR={settings.data_dir}: {error}; make it writable for us"), 1)


def _serve(settings: Settings, run_dir: Path, signals: Signals, terminal: Terminal, *, with_intake: bool) -> int:
    spool = spool_of(settings)
    count = processes(settings.listener_processes)
    metrics_dir = _metrics_dir(settings, run_dir) if count > 1 else None
    server = listener_of(settings, spool) if count == 1 else _acceptors(settings, spool, count, metrics_dir)
    swept = spool.sweep_partials()
    if swept:
        log.warning("partial_files_swept", count=swept, fix="none: their senders had no answer and send again")
    serve(settings.metrics_port, directory=metrics_dir)
    intake = IntakeProcess(environment=_intake_environment(settings)) if with_intake else None
    server.start()
    _announce(run_dir, settings, server)
    if intake is not None:
        intake.start()
    failed = serve_until_told(server, spool, signals, terminal)
    log.info("draining", seconds=DRAIN_SECONDS)
    (run_dir / "listener.json").unlink(missing_ok=True)
    if intake is not None:
        intake.ask_to_stop()
    server.drain(DRAIN_SECONDS)
    if intake is not None:
        intake.wait()
    tell_withheld(at_the_end=True)
    log.info("stopped")
    return 1 if failed else 0


def _acceptors(settings: Settings, spool: Spool, count: int, metrics_dir: Path | None) -> Acceptors:
    """Return several processes that serve what we bind; what they would stumble over is found here."""
    tls_of(settings)
    environment = dict(os.environ)
    if metrics_dir is not None:
        environment["PROMETHEUS_MULTIPROC_DIR"] = str(metrics_dir)
    return Acceptors(
        count,
        bind(settings.dicom_host, settings.dicom_port, settings.dicom_plain_port),
        spool,
        max_associations=settings.max_associations,
        environment=environment,
        metrics_dir=metrics_dir,
    )


def _metrics_dir(settings: Settings, run_dir: Path) -> Path | None:
    """Return where several processes share their metrics: with all of `up`, or among themselves if anybody looks."""
    if (shared := shared_dir()) is not None or not settings.metrics_port:
        return shared
    shutil.rmtree(run_dir / "metrics", ignore_errors=True)
    return make_private(run_dir / "metrics")


@contextmanager
def _one_at_a_time(run_dir: Path) -> Iterator[Path]:
    """Hold the data directory against a second listener, which would sweep our partial files; gives `run_dir`."""
    descriptor = os.open(run_dir / "listener.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StartError(
                f"another listener already runs on {run_dir.parent}: stop it, or set FIRSTREAD_DATA_DIR to another "
                "directory"
            ) from None
        yield run_dir
    finally:
        os.close(descriptor)


def _intake_environment(settings: Settings) -> dict[str, str]:
    """Give intake our environment; its metrics are served at the port after ours, as two cannot have the same."""
    port = settings.metrics_port
    return {**os.environ, "FIRSTREAD_METRICS_PORT": str(port + 1 if 0 < port < 65535 else 0)}


def _announce(run_dir: Path, settings: Settings, server: Listener | Acceptors) -> None:
    host, port = server.address
    secure, plain_port = settings.tls_certificate is not None, server.plain_port
    address = {"pid": os.getpid(), "ae_title": settings.ae_title, "host": host, "port": port}
    addresses = [Peer(ae_title=settings.ae_title, host=host, port=port, tls=secure)]
    if secure:
        address["tls"] = True
    if plain_port is not None:
        address["plain_port"] = plain_port
        addresses.append(Peer(ae_title=settings.ae_title, host=host, port=plain_port))
    fresh = run_dir / "listener.json.new"
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(address, file)
    fresh.replace(run_dir / "listener.json")
    sys.stdout.write(f"listening {', '.join(map(str, addresses))}\n")
    sys.stdout.flush()


def _complain(error: Exception, code: int) -> int:
    sys.stderr.write(f"{error}\n")
    return code


def door(arguments: list[str] | None = None) -> int:
    """Read the command line and the settings, and serve."""
    parser = argparse.ArgumentParser(prog="python -m dicom_listener", description="Receive DICOM objects.")
    parser.add_argument("--no-intake", action="store_true", help="run no intake process beside the listener")
    options = parser.parse_args(arguments)
    try:
        settings = load_settings()
    except SettingsError as error:
        return _complain(error, 2)
    configure_logs("listener", settings.log_format)
    for name in unknown_names():
        log.warning("unknown_setting", name=name, fix="correct or remove it")
    return main(settings, with_intake=not options.no_intake)


if __name__ == "__main__":
    sys.exit(door())
