"""The Application Entity: where it listens, who may call, how many, how long, and how it ends."""

import contextlib
import errno
import socket
import sys
import threading
import time
from dataclasses import dataclass
from socketserver import BaseServer
from typing import Any, Self

from pynetdicom import AE, _config
from pynetdicom.transport import AssociationServer as PynetdicomServer

from dicom_listener.association import ListenerAssociation
from dicom_listener.file_meta import IMPLEMENTATION_VERSION_NAME
from dicom_listener.handlers import Handlers
from dicom_listener.places import Places
from dicom_listener.transport import MAX_PDU_LENGTH
from worker.errors import SettingsError, StartError
from worker.intake.spool import Spool
from worker.logs import get_logger
from worker.uids import IMPLEMENTATION_CLASS_UID

log = get_logger(__name__)

_config.LOG_HANDLER_LEVEL = "none"  # its loggers would format every PDU, and print data sets

UNASSOCIATED = 32
"""Connections beyond the associations: those that negotiate, are rejected, or say nothing."""
QUIET_SECONDS = 2.0
"""While draining, an association that has been quiet for so long is aborted."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long the listener waits, in seconds.

    Attributes
    ----------
    request
        For an A-ASSOCIATE-RQ after the connection (the ARTIM timer, PS3.8 9.1.5).
    network
        For the next PDU, for the whole of one PDU, and for a peer to take our answer.
    """

    request: float = 30.0
    network: float = 60.0


class AssociationServer(PynetdicomServer):  # type: ignore[misc]  # pynetdicom has no types
    """The listening socket and the associations that came through it."""

    request_queue_size = 128

    def __init__(self, ae: AE, address: tuple[str, int], handlers: Handlers, max_associations: int) -> None:
        self.handlers = handlers
        self.places = Places(max_associations, max_associations + UNASSOCIATED)
        self.draining = threading.Event()
        super().__init__(ae, address, ae.ae_title, [])

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Give the connection its association, which runs in threads of its own, where there is a place for it."""
        association = ListenerAssociation(self, request, client_address)
        if not self.places.enter(association):
            log.warning("connection_refused", peer=f"{client_address[0]}:{client_address[1]}")
            association.close_unused()
            self.shutdown_request(request)
            return
        try:
            association.start()
        except RuntimeError:  # no thread can be started
            self.places.leave(association)
            association.close_unused()
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
        self.draining.set()
        BaseServer.shutdown(self)
        self.server_close()


class Listener:
    """The storage and verification SCP.

    The address is bound on construction, connections wait in the backlog until `start`.

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
    calling_aes
        AE titles that may call; empty: any.
    max_associations
        Associations served at once.
    max_object_bytes
        Largest data set accepted, bytes.
    timeouts
        How long to wait for a peer.

    Raises
    ------
    StartError
        The address cannot be bound.
    SettingsError
        A calling AE title is none.
    """

    def __init__(
        self,
        spool: Spool,
        *,
        ae_title: str,
        host: str,
        port: int,
        require_called_ae: bool = False,
        calling_aes: tuple[str, ...] = (),
        max_associations: int,
        max_object_bytes: int,
        timeouts: Timeouts | None = None,
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
        try:
            ae.require_calling_aet = list(calling_aes)
        except ValueError as error:
            raise SettingsError(f"FIRSTREAD_CALLING_AES={','.join(calling_aes)!r}: {error}") from None
        if not calling_aes:
            log.warning("any_calling_ae_is_served", fix="list the senders' AE titles in FIRSTREAD_CALLING_AES")
        handlers = Handlers(spool, max_object_bytes=max_object_bytes)
        try:
            address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][4]
            self._server = AssociationServer(ae, (str(address[0]), port), handlers, max_associations)
        except OSError as error:
            raise StartError(_cannot_bind(host, port, error)) from error
        self._thread: threading.Thread | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that are bound."""
        return self._server.server_address[0], self._server.server_address[1]

    def start(self) -> None:
        """Accept from now on, in a thread."""
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="accept", daemon=True)
        self._thread.start()

    def alive(self) -> bool:
        """Whether connections are being accepted."""
        return self._thread is not None and self._thread.is_alive()

    def drain(self, seconds: float) -> None:
        """Refuse what is new, let running transfers finish, abort what is quiet, and after `seconds` everything."""
        if self._thread is None:
            self._server.server_close()
            return
        self._server.stop_accepting()
        self._thread.join()
        deadline = time.monotonic() + seconds
        while associations := self._server.active_associations:
            late = time.monotonic() > deadline
            for association in associations:
                if late or association.quiet_seconds > min(QUIET_SECONDS, seconds):
                    association.abort(block=False)
            if time.monotonic() > deadline + QUIET_SECONDS:
                log.warning("associations_cut_off", count=len(associations))
                return
            time.sleep(0.05)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self.drain(0)


def _cannot_bind(host: str, port: int, error: OSError) -> str:
    fix = {
        errno.EADDRINUSE: "another program listens there: stop it, or set FIRSTREAD_DICOM_PORT (0 takes a free port)",
        errno.EACCES: "ports below 1024 need a privilege: grant CAP_NET_BIND_SERVICE, or set FIRSTREAD_DICOM_PORT",
        errno.EADDRNOTAVAIL: "this machine does not have that address: correct FIRSTREAD_DICOM_HOST",
    }.get(error.errno or 0, "correct FIRSTREAD_DICOM_HOST and FIRSTREAD_DICOM_PORT")
    return f"cannot listen on {host} port {port} ({error.strerror or error}): {fix}"
