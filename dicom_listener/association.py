"""One association that a peer opened: negotiated, served, and told about in the log."""

import contextlib
import itertools
import socket
import threading
from typing import Protocol

from pynetdicom import AE
from pynetdicom._globals import MODE_ACCEPTOR
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import A_ABORT, A_ASSOCIATE, A_P_ABORT, A_RELEASE
from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import AddressInformation, AssociationSocket

from dicom_listener.handlers import Handlers
from dicom_listener.messages import Messages
from dicom_listener.negotiation import supported
from dicom_listener.places import Places
from dicom_listener.transport import MAX_PDU_LENGTH, ReceivingDul
from worker.logs import get_logger, speak_of

REJECTED_TRANSIENT = 0x02
PRESENTATION_PROVIDER = 0x03
TEMPORARY_CONGESTION = 0x01
LOCAL_LIMIT_EXCEEDED = 0x02
"""Result, source and reasons of an A-ASSOCIATE-RJ (PS3.8 9.3.4)."""

_FIXES = {
    (1, 3): "add the calling AE title to FIRSTREAD_CALLING_AES if it may send here",
    (1, 7): "let the sender call FIRSTREAD_AE_TITLE, or set FIRSTREAD_REQUIRE_CALLED_AE to false",
    (3, 1): "the listener is stopping; the sender has to try again",
    (3, 2): "raise FIRSTREAD_MAX_ASSOCIATIONS if so many senders are expected at once",
}
_numbers = itertools.count(1)


class AcceptingServer(Protocol):
    """What an association needs of the server whose connection it has."""

    ae: AE
    handlers: Handlers
    places: Places
    draining: threading.Event
    server_address: tuple[str, int]

    def shutdown_request(self, request: socket.socket) -> None:
        """Close a connection."""


class ListenerAssociation(Association):  # type: ignore[misc]  # pynetdicom has no types
    """An association as its acceptor sees it, in a thread of its own.

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
        self.number = next(_numbers)
        self.calling_ae = ""
        self.called_ae = ""
        self.address = peer[0]
        self.peer = f"{peer[0]}:{peer[1]}"
        self.log = get_logger(__name__)
        self.name = f"AcceptorThread-{self.number}"  # pynetdicom finds the associations of a server by this
        self._server = server
        self._contexts: dict[int, PresentationContext] = {}
        self.dul = ReceivingDul(self)
        self.dimse = Messages(self, server.handlers)
        self.acse_timeout = server.ae.acse_timeout  # again: they set the timers of the upper layer just made
        self.network_timeout = server.ae.network_timeout
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(self.network_timeout)
        self._connection = connection
        self.set_socket(AssociationSocket(self, client_socket=connection))
        self.requestor.address_info = AddressInformation.from_tuple(peer)
        self.acceptor.address_info = AddressInformation.from_tuple(server.server_address)
        self.acceptor.ae_title = server.ae.ae_title
        self.acceptor.maximum_length = MAX_PDU_LENGTH
        self.acceptor.implementation_class_uid = server.ae.implementation_class_uid
        self.acceptor.implementation_version_name = server.ae.implementation_version_name

    @property
    def quiet_seconds(self) -> float:
        """How long nothing has come from the peer; 0 while a message is half received."""
        return 0.0 if self.dimse.busy else float(self.network_timeout - self.dul.idle_seconds_left)

    @property
    def slow_seconds(self) -> float:
        """How long next to nothing has come from the peer."""
        return self.dul.slow_seconds

    def give_way(self) -> None:
        """Close the connection at once, whatever waits for it; the peer sees a provider abort (PS3.8 9.2.1, Evt17)."""
        with contextlib.suppress(OSError):  # it has gone already
            self._connection.shutdown(socket.SHUT_RDWR)

    def close_unused(self) -> None:
        """Let go of what an association holds that was never started."""
        self.dul.close_wake_up()

    def context(self, context_id: int) -> PresentationContext | None:
        """Return an accepted presentation context."""
        if not self._contexts:
            self._contexts = {context.context_id: context for context in self.accepted_contexts}
        return self._contexts.get(context_id)

    def run_reactor(self) -> None:
        """Wait for the request, answer it, serve until the end; leave nothing open."""
        speak_of(association=self.number, peer=self.peer)
        self.dul.start()
        self._started_dul = True
        self._dul_ready.wait()
        try:
            primitive = self.dul.receive_pdu(wait=True, timeout=self.acse_timeout)
            if isinstance(primitive, A_ASSOCIATE):
                self._answer(primitive)
            else:
                self.log.info("connection_without_request")
                self.give_way()  # the upper layer may sit inside half a request
        except Exception:
            self.log.exception("association_failed")
            self.abort(block=False)
        finally:
            self.kill()
            self._server.places.leave(self)
            self._server.shutdown_request(self._connection)  # pynetdicom leaves it open where the peer reset it

    def _answer(self, request: A_ASSOCIATE) -> None:
        self.requestor.primitive = request
        self.calling_ae = request.calling_ae_title
        self.called_ae = request.called_ae_title
        self.log = self.log.bind(calling_ae=self.calling_ae, called_ae=self.called_ae)
        if self._server.draining.is_set():
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

    def _tell_rejected(self) -> None:
        answer = self.acceptor.primitive
        self.log.warning(
            "association_rejected",
            result=answer.result_str,
            source=answer.source_str,
            reason=answer.reason_str,
            fix=_FIXES.get((answer.result_source, answer.diagnostic), "see the conformance statement"),
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
