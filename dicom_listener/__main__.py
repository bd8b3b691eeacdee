"""The listener service: `python -m dicom_listener [--no-intake]`, `firstread listener`."""

import argparse
import fcntl
import json
import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue

import pydicom.config

from dicom_listener.intake_process import IntakeProcess
from dicom_listener.server import Listener
from dicom_listener.tls import ServerTls
from worker.config import Peer, Settings, load_settings, unknown_names
from worker.errors import SettingsError, StartError
from worker.files import make_private
from worker.intake import bell
from worker.intake.spool import Spool
from worker.logs import configure_logs, get_logger, tell_withheld
from worker.metrics import serve, spool_free_bytes
from worker.supervision.processes import Terminal

log = get_logger(__name__)

DRAIN_SECONDS = 25.0
"""How long running transfers may take after SIGTERM; container platforms kill after 30 s."""
GAUGE_SECONDS = 5.0


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
    signals = _collected_signals()
    os.umask(0o077)
    # What peers send in place of a UID is judged by us. pydicom would warn of each, pynetdicom log it, with the words
    # that came, and the interpreter remember every warning for ever.
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)
    try:
        with _one_at_a_time(make_private(settings.data_dir / "run")) as run_dir:
            return _serve(settings, run_dir, signals, terminal, with_intake=with_intake)
    except SettingsError as error:
        return _complain(error, 2)
    except StartError as error:
        return _complain(error, 1)
    except OSError as error:
        return _complain(StartError(f"FIRSTREAD_DATA_DIR={settings.data_dir}: {error}; make it writable for us"), 1)


def _serve(
    settings: Settings, run_dir: Path, signals: "SimpleQueue[int]", terminal: Terminal, *, with_intake: bool
) -> int:
    spool = Spool(settings.spool_dir, min_free_bytes=settings.min_free_bytes, bell=run_dir / bell.NAME)
    listener = Listener(
        spool,
        ae_title=settings.ae_title,
        host=settings.dicom_host,
        port=settings.dicom_port,
        require_called_ae=settings.require_called_ae,
        callers=settings.callers,
        max_associations=settings.max_associations,
        max_object_bytes=settings.max_object_bytes,
        tls=_tls(settings),
        plain_port=settings.dicom_plain_port,
    )
    swept = spool.sweep_partials()
    if swept:
        log.warning("partial_files_swept", count=swept, fix="none: their senders had no answer and send again")
    serve(settings.metrics_port)
    intake = IntakeProcess(environment=_intake_environment(settings)) if with_intake else None
    listener.start()
    _announce(run_dir, settings, listener)
    if intake is not None:
        intake.start()
    while listener.alive():
        _measure(spool)
        tell_withheld()
        match _next(signals):
            case None:
                continue
            case signal.SIGHUP if not terminal.lost():
                listener.reload()
            case _:
                break
    failed = not listener.alive()
    log.info("draining", seconds=DRAIN_SECONDS)
    (run_dir / "listener.json").unlink(missing_ok=True)
    if intake is not None:
        intake.ask_to_stop()
    listener.drain(DRAIN_SECONDS)
    if intake is not None:
        intake.wait()
    tell_withheld(at_the_end=True)
    log.info("stopped")
    return 1 if failed else 0


def _measure(spool: Spool) -> None:
    try:
        spool_free_bytes.set(spool.free_bytes())
    except OSError as error:
        log.warning("free_space_unknown", error=str(error), fix="check the disk and the mount of FIRSTREAD_DATA_DIR")


def _tls(settings: Settings) -> ServerTls | None:
    if settings.tls_certificate is None:
        return None
    return ServerTls(settings.credentials, verify_peer=settings.tls_verify_peer)


def _collected_signals() -> "SimpleQueue[int]":
    """Have SIGTERM, SIGINT and SIGHUP (but under `nohup`) put into a queue, as a handler may whatever it interrupts."""
    collected: SimpleQueue[int] = SimpleQueue()
    wanted = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        wanted.append(signal.SIGHUP)
    for number in wanted:
        signal.signal(number, lambda number, _frame: collected.put(number))
    return collected


def _next(signals: "SimpleQueue[int]") -> int | None:
    try:
        return signals.get(timeout=GAUGE_SECONDS)
    except Empty:
        return None


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


def _announce(run_dir: Path, settings: Settings, listener: Listener) -> None:
    host, port = listener.address
    secure, plain_port = settings.tls_certificate is not None, listener.plain_port
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
