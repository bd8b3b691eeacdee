"""The Application Entity: where it listens, who may call, how many, how long, and how it ends."""

import contextlib
import errno
import itertools
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from socketserver import BaseServer
from typing import Any, Self

from pynetdicom import AE, _config
from pynetdicom.transport import AssociationServer as PynetdicomServer

from dicom_listener.admission import FIXES, Admission
from dicom_listener.association import ListenerAssociation
from dicom_listener.file_meta import IMPLEMENTATION_VERSION_NAME
from dicom_listener.handlers import Handlers
from dicom_listener.inflow import MAX_PDU_LENGTH
from dicom_listener.places import FrontDesk, Places
from dicom_listener.sockets import bind
from dicom_listener.tls import ServerTls
from worker.config import Caller
from worker.intake.spool import Spool
from worker.logs import get_logger
from worker.metrics import associations_refused
from worker.uids import IMPLEMENTATION_CLASS_UID

log = get_logger(__name__)

_config.LOG_HANDLER_LEVEL = "none"  # its loggers would format every PDU, and print data sets

UNASSOCIATED = 32
"""Connections beyond the associations: those that negotiate, are rejected, or say nothing."""
QUIET_SECONDS = 2.0
"""While draining, an association that has been quiet for so long is aborted."""
LAST_SECONDS = 4.0
"""What is aborted at the end of a drain gets so long: an aborted peer has two seconds to close before we do."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long the listener waits, in seconds.

    Attributes
    ----------
    request
        For an A-ASSOCIATE-RQ after the connection (the ARTIM timer, PS3.8 9.1.5).
    network
        For the next PDU, for the whole of one PDU, and for a peer to take our answer.
    handshake
        For the whole of the TLS handshake.
    """

    request: float = 30.0
    network: float = 60.0
    handshake: float = 10.0


@dataclass(frozen=True, slots=True)
class Shared:
    """What the ports of one listener have in common.

    Attributes
    ----------
    handlers
        What is done for peers.
    admission
        Who may call.
    places
        Connections and associations at once.
    draining
        Set when the listener stops.
    handshake_seconds
        How long a TLS handshake may take.
    numbers
        The numbers of the associations, in turn.
    """

    handlers: Handlers
    admission: Admission
    places: FrontDesk
    draining: threading.Event
    handshake_seconds: float
    numbers: Iterator[int]


class AssociationServer(PynetdicomServer):  # type: ignore[misc]  # pynetdicom has no types
    """One listening socket and the associations that came through it; over TLS, or plain."""

    def __init__(self, ae: AE, listening: socket.socket, shared: Shared, tls: ServerTls | None) -> None:
        self.handlers, self.admission = shared.handlers, shared.admission
        self.places, self.draining = shared.places, shared.draining
        self.handshake_seconds, self.numbers = shared.handshake_seconds, shared.numbers
        self.tls = tls
        self._listening = listening
        super().__init__(ae, listening.getsockname(), ae.ae_title, [])

    def server_bind(self) -> None:
        """Take the socket that is bound already in place of the one that the library made."""
        self.socket.close()
        self.socket: socket.socket = self._listening

    def server_activate(self) -> None:
        """Leave it: it listens already."""

    def server_close(self) -> None:
        """Close the socket, without shutting it down: other processes may listen on it too."""
        self.socket.close()

    def verify_request(self, _request: Any, client_address: Any) -> bool:
        """Refuse addresses that may not call before a thread is spent on them."""
        if self.admission.admits_address(client_address[0]):
            return True
        associations_refused.labels(reason="address").inc()
        log.warning("address_refused", peer=f"{client_address[0]}:{client_address[1]}", fix=FIXES["address"])
        return False

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Give the connection its association, which runs in threads of its own, where there is a place for it."""
        association = ListenerAssociation(self, request, client_address)
        if not self.places.enter(association):
            associations_refused.labels(reason="limit").inc()
            log.warning("connection_refused", peer=f"{client_address[0]}:{client_address[1]}")
            self.shutdown_request(request)
            return
        try:
            association.start()
        except RuntimeError:  # no thread can be started
            self.places.leave(association)
            raise

    def handle_error(self, _request: Any, client_address: Any) -> None:
        """Say what went wrong with one connection; the others do not notice."""
        peer = f"{client_address[0]}:{client_address[1]}"
        log.exception("connection_failed", peer=peer)  # noqa: LOG004 - socketserver calls this while it handles one

    def get_request(self) -> Any:
        """Accept a connection; wait a moment where the process has no file descriptor left for it."""
        try:
            return super().get_request()
        except OSError as error:
            if error.errno in {errno.EMFILE, errno.ENFILE}:
                log.warning("no_file_descriptors", fix="raise ulimit -n, or lower FIRSTREAD_MAX_ASSOCIATIONS")
                time.sleep(0.2)
            raise

    def stop_accepting(self) -> None:
        """Close the listening socket; the associations go on."""
        BaseServer.shutdown(self)
        self.server_close()


class Listener:
    """The storage and verification SCP.

    The address is bound on construction, where no sockets are given; connections wait in the backlog until `start`.

    Parameters
    ----------
    spool
        Where accepted objects go.
    ae_title
        Our AE title.
    host, port
        Address to bind; port 0 takes a free one.
    require_called_ae
        Reject associations that call another AE title.
    callers
        Who may call; empty: anybody.
    max_associations
        Associations served at once.
    max_object_bytes
        Largest data set accepted, bytes.
    timeouts
        How long to wait for a peer.
    tls
        What the port speaks; None: it is plain.
    plain_port
        A second port, without TLS.
    sockets
        Those of `dicom_listener.sockets.bind`, shared with other processes; None: they are bound here.
    places
        Who may be here at once, counted for all processes together; None: it is counted here.
    first_association
        Number of the first association.

    Raises
    ------
    StartError
        An address cannot be bound.
    """

    def __init__(
        self,
        spool: Spool,
        *,
        ae_title: str,
        host: str,
        port: int,
        require_called_ae: bool = False,
        callers: Sequence[Caller] = (),
        max_associations: int,
        max_object_bytes: int,
        timeouts: Timeouts | None = None,
        tls: ServerTls | None = None,
        plain_port: int | None = None,
        sockets: Sequence[socket.socket] | None = None,
        places: FrontDesk | None = None,
        first_association: int = 1,
    ) -> None:
        timeouts = timeouts or Timeouts()
        ae = AE(ae_title)
        ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        ae.maximum_pdu_size = MAX_PDU_LENGTH
        ae.maximum_associations = sys.maxsize  # counted in `places`, which knows who is leaving
        ae.acse_timeout = timeouts.request
        ae.dimse_timeout = ae.network_timeout = timeouts.network
        ae.require_called_aet = require_called_ae
        if not callers:
            log.warning("any_calling_ae_is_served", fix="list the senders' AE titles in FIRSTREAD_CALLING_AES")
        if plain_port is not None and not all(caller.addresses or caller.certificate for caller in callers):
            log.warning("plain_port_asks_for_a_title_alone", fix="give those that call it an address: AE@ADDRESS")
        shared = Shared(
            handlers=Handlers(spool, max_object_bytes=max_object_bytes),
            admission=Admission(callers),
            places=places or Places(max_associations, max_associations + UNASSOCIATED),
            draining=threading.Event(),
            handshake_seconds=timeouts.handshake,
            numbers=itertools.count(first_association),
        )
        self._draining, self._tls = shared.draining, tls
        self._threads: list[threading.Thread] = []
        self._servers = [
            AssociationServer(ae, listening, shared, security)
            for listening, security in zip(sockets or bind(host, port, plain_port), (tls, None), strict=False)
        ]

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that are bound; the port that speaks TLS, where one does."""
        return self._servers[0].server_address[0], self._servers[0].server_address[1]

    @property
    def plain_port(self) -> int | None:
        """The second port, without TLS, where there is one."""
        return self._servers[1].server_address[1] if len(self._servers) > 1 else None

    def reload(self) -> None:
        """Read the certificates again; associations go on with those that they began with."""
        if self._tls is None:
            log.info("nothing_to_reload", why="there is no TLS here; other settings are read at the start")
        else:
            self._tls.reload()

    def start(self) -> None:
        """Accept from now on, in a thread a port."""
        for server in self._servers:
            thread = threading.Thread(target=server.serve_forever, args=(0.1,), name="accept", daemon=True)
            thread.start()
            self._threads.append(thread)

    def alive(self) -> bool:
        """Whether connections are being accepted."""
        return bool(self._threads) and all(thread.is_alive() for thread in self._threads)

    def drain(self, seconds: float) -> None:
        """Refuse what is new, let running transfers finish, abort what is quiet, and after `seconds` everything."""
        if not self._threads:
            self._close()
            return
        self._draining.set()
        for server, thread in zip(self._servers, self._threads, strict=True):
            server.stop_accepting()
            thread.join()
        deadline = time.monotonic() + seconds
        while associations := self._associations():
            late = time.monotonic() > deadline
            for association in filter(lambda association: association.opened, associations):
                if late or association.quiet_seconds > min(QUIET_SECONDS, seconds):
                    association.abort(block=False)
            if time.monotonic() > deadline + LAST_SECONDS:
                log.warning("associations_cut_off", count=len(associations))
                return
            time.sleep(0.05)

    def _associations(self) -> list[ListenerAssociation]:
        return [association for server in self._servers for association in server.active_associations]

    def _close(self) -> None:
        for server in self._servers:
            server.server_close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self.drain(0)
