"""One of several processes that serve the DICOM ports: `python -m dicom_listener.acceptor`, started by the listener."""

import json
import os
import signal
import socket
import sys
from dataclasses import asdict, dataclass
from typing import Self

from dicom_listener.common_places import AskedPlaces
from dicom_listener.serving import DRAIN_SECONDS, listener_of, prepare_process, serve_until_told, spool_of
from worker.config import load_settings
from worker.errors import SettingsError
from worker.logs import configure_logs, get_logger, tell_withheld
from worker.supervision.processes import Terminal

log = get_logger(__name__)

VARIABLE = "DICOM_ACCEPTOR"
"""The environment variable that carries an `Inheritance`."""
ASSOCIATIONS = 10**9
"""So many numbers has each acceptor for its associations: enough that no two ever give the same."""


@dataclass(frozen=True, slots=True)
class Inheritance:
    """What an acceptor has from the listener that started it.

    Attributes
    ----------
    run
        How many acceptors this listener has started before: names its partial files, and numbers its associations.
    sockets
        Descriptors of the listening sockets.
    places
        Descriptor of its end of the channel over which it asks for places.
    """

    run: int
    sockets: tuple[int, ...]
    places: int

    @property
    def writer(self) -> str:
        """What tells its partial files from others."""
        return f"acceptor{self.run}"

    def to_environment(self) -> dict[str, str]:
        """Return the environment variable that says it."""
        return {VARIABLE: json.dumps(asdict(self))}

    @classmethod
    def taken(cls) -> Self:
        """Return what our environment says, and have it say so no longer."""
        given = json.loads(os.environ.pop(VARIABLE))
        return cls(given["run"], tuple(given["sockets"]), given["places"])


def door() -> int:
    """Serve until SIGTERM; read the certificates again at SIGHUP.

    Returns
    -------
    int
        Exit code: 0 stopped as asked, 1 the ports could not be served on, 2 a setting is wrong.
    """
    signals = prepare_process()
    inherited = Inheritance.taken()
    try:
        settings = load_settings()
        configure_logs("listener", settings.log_format)
        spool = spool_of(settings, inherited.writer)
        places = AskedPlaces(socket.socket(fileno=inherited.places), lambda: signals.put(signal.SIGTERM))
        sockets = [socket.socket(fileno=number) for number in inherited.sockets]
        first = inherited.run * ASSOCIATIONS + 1
        listener = listener_of(settings, spool, sockets=sockets, places=places, first_association=first)
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    listener.start()
    places.ready()
    failed = serve_until_told(listener, spool, signals, Terminal())
    listener.drain(DRAIN_SECONDS)
    tell_withheld(at_the_end=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(door())
