"""What a process that serves the ports does, alone or as one of several: from the settings to the signal to stop."""

import contextlib
import logging
import os
import signal
import socket
from collections.abc import Sequence
from queue import Empty, SimpleQueue
from typing import Protocol

import pydicom.config

from dicom_listener.places import FrontDesk
from dicom_listener.server import Listener
from dicom_listener.tls import ServerTls
from worker.config import Settings
from worker.intake import bell
from worker.intake.spool import Spool
from worker.logs import get_logger, tell_withheld
from worker.metrics import spool_free_bytes
from worker.supervision.processes import Terminal

log = get_logger(__name__)

Signals = SimpleQueue[int]

DRAIN_SECONDS = 25.0
"""How long running transfers may take after SIGTERM; container platforms kill after 30 s."""
GAUGE_SECONDS = 5.0


class Server(Protocol):
    """What is served: a `Listener`, or several processes that have one each."""

    def alive(self) -> bool:
        """Say whether connections are being accepted."""

    def reload(self) -> None:
        """Read the certificates again."""


def prepare_process() -> Signals:
    """Make the process ours: its umask (077), its signals, what libraries say; return the signals that will come."""
    signals = _collected_signals()
    os.umask(0o077)
    # What peers send in place of a UID is judged by us. pydicom would warn of each, pynetdicom log it, with the words
    # that came, and the interpreter remember every warning for ever.
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)
    return signals


def spool_of(settings: Settings, writer: str = "") -> Spool:
    """Return the spool that received objects go to; `writer` tells this process's partial files from others'."""
    rope = settings.data_dir / "run" / bell.NAME
    return Spool(settings.spool_dir, min_free_bytes=settings.min_free_bytes, writer=writer, bell=rope)


def listener_of(
    settings: Settings,
    spool: Spool,
    *,
    sockets: Sequence[socket.socket] | None = None,
    places: FrontDesk | None = None,
    first_association: int = 1,
) -> Listener:
    """Return the listener that the settings ask for; `sockets`, `places` and `first_association` are those of it."""
    return Listener(
        spool,
        ae_title=settings.ae_title,
        host=settings.dicom_host,
        port=settings.dicom_port,
        require_called_ae=settings.require_called_ae,
        callers=settings.callers,
        max_associations=settings.max_associations,
        max_object_bytes=settings.max_object_bytes,
        tls=tls_of(settings),
        plain_port=settings.dicom_plain_port,
        sockets=sockets,
        places=places,
        first_association=first_association,
    )


def tls_of(settings: Settings) -> ServerTls | None:
    """Return what the settings say of TLS; `SettingsError` where the files are not as they have to be."""
    if settings.tls_certificate is None:
        return None
    return ServerTls(settings.credentials, verify_peer=settings.tls_verify_peer)


def serve_until_told(server: Server, spool: Spool, signals: Signals, terminal: Terminal) -> bool:
    """Measure and reload until a signal ends it; say whether it ended by itself."""
    while server.alive():
        measure(spool)
        tell_withheld()
        match next_of(signals):
            case None:
                continue
            case signal.SIGHUP if not terminal.lost():
                server.reload()
            case _:
                break
    return not server.alive()


def measure(spool: Spool) -> None:
    """Set the gauge of free space."""
    try:
        spool_free_bytes.set(spool.free_bytes())
    except OSError as error:
        log.warning("free_space_unknown", error=str(error), fix="check the disk and the mount of FIRSTREAD_DATA_DIR")


def next_of(signals: Signals) -> int | None:
    """Return the next signal; None where there was none for a while."""
    with contextlib.suppress(Empty):
        return signals.get(timeout=GAUGE_SECONDS)
    return None


def _collected_signals() -> Signals:
    """Have SIGTERM, SIGINT and SIGHUP (but under `nohup`) put into a queue, as a handler may whatever it interrupts."""
    collected: Signals = SimpleQueue()
    wanted = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        wanted.append(signal.SIGHUP)
    for number in wanted:
        signal.signal(number, lambda number, _frame: collected.put(number))
    return collected
