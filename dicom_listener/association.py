"""One association that a peer opened: negotiated, served, and told about in the log."""

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from typing import Protocol

from pynetdicom import AE
from pynetdicom._globals import MODE_ACCEPTOR
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import A_ABORT, A_ASSOCIATE, A_P_ABORT, A_RELEASE
from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import AddressInformation, AssociationSocket

from dicom_listener.admission import FIXES, Admission, Unwelcome
from dicom_listener.handlers import Handlers
from dicom_listener.inflow import MAX_PDU_LENGTH
from dicom_listener.messages import Messages
from dicom_listener.negotiation import supported
from dicom_listener.places import FrontDesk
from dicom_listener.tls import ServerTls
from dicom_listener.transport import ReceivingDul
from worker.errors import HandshakeFailed
from worker.logs import get_logger, speak_of
from worker.metrics import associations_refused
from worker.tls import names_of, say_goodbye

REJECTED_PERMANENT = 0x01
SERVICE_USER = 0x01
CALLING_AE_NOT_RECOGNIZED = 0x03
REJECTED_TRANSIENT = 0x02
PRESENTATION_PROVIDER = 0x03
TEMPORARY_CONGESTION = 0x01
LOCAL_LIMIT_EXCEEDED = 0x02
"""Result, source and reasons of an A-ASSOCIATE-RJ (PS3.8 9.3.4)."""

_FIXES = {
    (1, 3): FIXES["calling_ae"],
    (1, 7): "let the sender call FIRSTREAD_AE_TITLE, or set FIRSTREAD_REQUIRE_CALLED_AE to false",
    (3, 1): "the listener is stopping; the sender has to try again",
    (3, 2): "raise FIRSTREAD_MAX_ASSOCIATIONS if so many senders are expected at once",
}
_REASONS = {(1, 3): "calling_ae", (1, 7): "called_ae", (3, 1): "stopping", (3, 2): "limit"}
"""Source and reason of a rejection → label of the metric."""


class AcceptingServer(Protocol):
    """What an association needs of the server whose connection it has."""

    ae: AE
    handlers: Handlers
    places: FrontDesk
    draining: threading.Event
    server_address: tuple[str, int]
    admission: Admission
    tls: ServerTls | None
    handshake_seconds: float
    numbers: Iterator[int]

    def shutdown_request(self, request: socket.socket) -> None:
        """Close a connection."""


class _Connection(AssociationSocket):  # type: ignore[misc]
    """The library's socket; over TLS the peer is told that the connection ends as intended."""

    def _shutdown_socket(self) -> None:
        say_goodbye(self.socket)
        super()._shutdown_socket()


class ListenerAssociation(Association):  # type: ignore[misc]  # pynetdicom has no types
    """An association as its acceptor sees it, in a thread of its own, which does the TLS handshake too.

    Parameters
    ----------
    server
        The server that took the connection.
    connection
        The accepted socket.
    peer
        The peer's address, as the socket module gives it.
    """

    def __init__(self, server: AcceptingServer, connection: socket.socket, peer: tuple[str, int]) -> None:
        super().__init__(server.ae, MODE_ACCEPTOR)
        self.number = next(server.numbers)
        self.calling_ae = ""
        self.called_ae = ""
        self.opened = False
        """Whether the upper layer is set up: before that there is nothing to abort, and a handshake ends by itself."""
        self.address = peer[0]
        self.peer = f"{peer[0]}:{peer[1]}"
        self.log = get_logger(__name__)
        self.name = f"AcceptorThread-{self.number}"  # pynetdicom finds the associations of a server by this
        self._server = server
        self._connection = connection
        self._began = time.monotonic()
        self._told_to_go = threading.Event()
        self._peer = peer
        self._contexts: dict[int, PresentationContext] = {}
        self._certificate_names: tuple[str, ...] = ()

    def _open(self, connection: socket.socket) -> None:
        """Set up the upper layer on a connection over which both can speak."""
        self.dul = ReceivingDul(self, connection)
        self.dimse = Messages(self, self._server.handlers)
        self.acse_timeout = self.ae.acse_timeout  # again: they set the timers of the upper layer just made
        self.network_timeout = self.ae.network_timeout
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(self.network_timeout)
        self.set_socket(_Connection(self, client_socket=connection))
        self.requestor.address_info = AddressInformation.from_tuple(self._peer)
        self.acceptor.address_info = AddressInformation.from_tuple(self._server.server_address)
        self.acceptor.ae_title = self.ae.ae_title
        self.acceptor.maximum_length = MAX_PDU_LENGTH
        self.acceptor.implementation_class_uid = self.ae.implementation_class_uid
        self.acceptor.implementation_version_name = self.ae.implementation_version_name
        self.opened = True

    @property
    def quiet_seconds(self) -> float:
        """How long nothing has come from the peer; 0 while a message is half received."""
        return 0.0 if self.dimse.busy else float(self.network_timeout - self.dul.idle_seconds_left)

    @property
    def slow_seconds(self) -> float:
        """How long next to nothing has come from the peer."""
        return self.dul.slow_seconds if self.opened else time.monotonic() - self._began

    def give_way(self) -> None:
        """Close the connection at once, whatever waits for it; the peer sees a provider abort (PS3.8 9.2.1, Evt17)."""
        self._told_to_go.set()  # for a handshake, which has the connection in other hands
        with contextlib.suppress(OSError):  # it has gone already
            self._connection.shutdown(socket.SHUT_RDWR)

    def context(self, context_id: int) -> PresentationContext | None:
        """Return an accepted presentation context."""
        if not self._contexts:
            self._contexts = {context.context_id: context for context in self.accepted_contexts}
        return self._contexts.get(context_id)

    def run_reactor(self) -> None:
        """Do the handshake, wait for the request, answer it, serve until the end; leave nothing open."""
        speak_of(association=self.number, peer=self.peer)
        try:
            connection = self._secured(self._connection)
            if connection is not None:
                self._open(connection)
                self._converse()
        except Exception:
            self.log.exception("association_failed")
            self.abort(block=False)
        finally:
            self.kill()
            self._server.places.leave(self)
            self._server.shutdown_request(self._connection)  # pynetdicom leaves it open where the peer reset it

    def _secured(self, connection: socket.socket) -> socket.socket | None:
        """Return the connection, over TLS where this port has it; None where that did not come about."""
        tls = self._server.tls
        if tls is None:
            return connection
        try:
            wrapped = tls.wrap(connection, self._server.handshake_seconds, self._is_over)
        except HandshakeFailed as error:
            associations_refused.labels(reason=error.kind).inc()
            self.log.warning("tls_failed", why=str(error), fix=error.fix)
            return None
        self._connection = wrapped
        if self._told_to_go.is_set():
            return None
        self._certificate_names = self._shown_by(wrapped)
        self.log = self.log.bind(tls=wrapped.version(), certificate=next(iter(self._certificate_names), None))
        return wrapped

    def _is_over(self) -> bool:
        return self._server.draining.is_set() or self._told_to_go.is_set()

    def _shown_by(self, connection: ssl.SSLSocket) -> tuple[str, ...]:
        """Return the names of the peer's certificate; none where it showed none, or one that names nobody."""
        shown = connection.getpeercert(binary_form=True)
        try:
            return names_of(shown) if shown else ()
        except ValueError as error:
            self.log.warning("certificate_unreadable", error=str(error), fix="have it issued again, in conforming form")
            return ()

    def _converse(self) -> None:
        self.dul.start()
        self._started_dul = True
        self._dul_ready.wait()
        primitive = self.dul.receive_pdu(wait=True, timeout=self.acse_timeout)
        if isinstance(primitive, A_ASSOCIATE):
            self._answer(primitive)
        else:
            self.log.info("connection_without_request")
            self.give_way()  # the upper layer may sit inside half a request

    def _answer(self, request: A_ASSOCIATE) -> None:
        self.requestor.primitive = request
        self.calling_ae = request.calling_ae_title
        self.called_ae = request.called_ae_title
        self.log = self.log.bind(calling_ae=self.calling_ae, called_ae=self.called_ae)
        objection = self._server.admission.objection(self.calling_ae, self._peer[0], self._certificate_names)
        if objection is not None:
            self.acse.send_reject(REJECTED_PERMANENT, SERVICE_USER, CALLING_AE_NOT_RECOGNIZED)
            self._tell_rejected(objection)
        elif self._server.draining.is_set():
            self._reject(TEMPORARY_CONGESTION)
        elif not self._server.places.associate(self):
            self._reject(LOCAL_LIMIT_EXCEEDED)
        else:
            try:
                self._negotiate_and_serve(request)
            finally:
                self._server.places.dissociate(self)

    def _negotiate_and_serve(self, request: A_ASSOCIATE) -> None:
        self.acceptor.supported_contexts = supported(request.presentation_context_definition_list)
        self.acse.negotiate_association()
        if self.is_rejected:
            self._tell_rejected()
        if self.is_established:
            accepted, rejected = len(self.accepted_contexts), len(self.rejected_contexts)
            self.log.info("association_accepted", contexts_accepted=accepted, contexts_rejected=rejected)
            self._serve()

    def _reject(self, reason: int) -> None:
        self.acse.send_reject(REJECTED_TRANSIENT, PRESENTATION_PROVIDER, reason)
        self._tell_rejected()

    def _tell_rejected(self, objection: Unwelcome | None = None) -> None:
        answer = self.acceptor.primitive
        why = (answer.result_source, answer.diagnostic)
        associations_refused.labels(reason=objection or _REASONS.get(why, "other")).inc()
        self.log.warning(
            "association_rejected",
            result=answer.result_str,
            source=answer.source_str,
            reason=answer.reason_str,
            **({"objection": objection} if objection else {}),
            fix=FIXES[objection] if objection else _FIXES.get(why, "see the conformance statement"),
        )

    def _serve(self) -> None:
        """Watch for the end; the messages are dealt with in the thread of the upper layer."""
        while True:
            primitive = self.dul.receive_pdu(wait=True, timeout=1.0)
            if isinstance(primitive, A_RELEASE) and primitive.result is None:
                self.acse.send_release(is_response=True)
                self.is_released, self.is_established = True, False
                self.log.info("association_released")
                return
            if isinstance(primitive, A_ABORT | A_P_ABORT):
                self.is_aborted, self.is_established = True, False
                by = "peer" if isinstance(primitive, A_ABORT) else "us, or the connection was lost"
                self.log.warning("association_aborted", by=by)
                return
            if self.dul.idle_timer_expired() and not self._sent_abort:
                self.log.warning("association_idle", seconds=self.network_timeout)
                self.abort(block=False)
