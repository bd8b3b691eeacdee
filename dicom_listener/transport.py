"""The receive path: PDUs off the socket, data set fragments straight into the spool.

pynetdicom's own path collects a PDU in pieces of 4 KiB, copies it five times, keeps the whole object in memory and
wakes up a thousand times a second to look for more. Here one buffer a connection is filled by the kernel, each fragment
of a data set is written from it to the file, and a quiet association sleeps until its socket or its user has something
for it. Everything else of the upper layer (PS3.8) stays pynetdicom's.
"""

import select
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any

from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.fsm import InvalidEventError
from pynetdicom.pdu_primitives import A_P_ABORT

from dicom_listener.associate_request import check_associate_request
from dicom_listener.command_set import P_DATA_TF
from dicom_listener.inflow import HEAD, Inflow
from worker.errors import ProtocolError
from worker.logs import get_logger, speak_of

log = get_logger(__name__)

PDU_CAP = 1 << 20
"""What is taken of a P-DATA-TF PDU although we offer less, bytes: some senders overlook our maximum."""
REQUEST_CAP = 1 << 18
"""What is taken of any other PDU, bytes: room for an A-ASSOCIATE-RQ with every context and transfer syntax there is."""

A_ASSOCIATE_RQ, A_ABORT_PDU = 0x01, 0x07
_ABORT = b"\x07\0\0\0\0\x04\0\0\0\0"
_CAPS = {kind: PDU_CAP if kind == P_DATA_TF else REQUEST_CAP for kind in range(0x01, 0x08)}
"""What is taken of each type of PDU, bytes."""
_IDLE_MILLISECONDS = 250
_LINGER_SECONDS = 2.0


class ReceivingDul(DULServiceProvider):  # type: ignore[misc]  # pynetdicom has no types
    """The upper layer of one association, reading within bounds and without spinning."""

    def __init__(self, association: Association, connection: socket.socket) -> None:
        super().__init__(association)
        self.daemon = True
        self._run_loop_delay = 0  # the wait is in `_wait`, for the socket and for `send_pdu`
        self._wake_receiver, self._wake_sender = socket.socketpair()
        self._wake_receiver.setblocking(False)
        self._wake_sender.setblocking(False)
        self._poller = select.poll()
        for waited_for in (self._wake_receiver, connection):
            self._poller.register(waited_for, select.POLLIN)
        self._inflow = Inflow(connection)
        self._closing_since = 0.0

    def send_pdu(self, primitive: Any) -> None:
        """Queue a primitive of the user, and wake up for it."""
        super().send_pdu(primitive)
        self._wake()

    def kill_dul(self) -> None:
        """End, and wake up for it."""
        super().kill_dul()
        self._wake()

    def stop_dul(self) -> bool:
        """End when idle (Sta1); say whether that was so."""
        if self.state_machine.current_state != "Sta1":
            return False
        self.kill_dul()
        self.join()
        return True

    @property
    def idle_seconds_left(self) -> float:
        """How long until the peer has been silent for too long."""
        return float(self._idle_timer.remaining)

    @property
    def slow_seconds(self) -> float:
        """How long ago the peer had last moved something worth the name."""
        return self._inflow.pace.slow_seconds

    def send_now(self, pdu: bytes) -> None:
        """Send an encoded PDU from this thread, past the queue; a peer that does not take it is slow."""
        self._inflow.pace.work_ends()
        self.socket.send(pdu)

    def run_reactor(self) -> None:
        """Run until the connection is closed; leave no partial file, no open socket and nobody waiting."""
        speak_of(association=self.assoc.number, peer=self.assoc.peer)
        try:
            super().run_reactor()
        except InvalidEventError as error:  # for instance an abort of ours that crosses the peer's
            log.info("upper_layer_event_ignored", event_in_state=str(error))
        except Exception:
            log.exception("upper_layer_failed")
        finally:
            self.assoc.dimse.abandon()
            self.state_machine.current_state = "Sta1"
            self.socket.close()
            self._inflow.close()
            self.to_user_queue.put(A_P_ABORT())
            self.close_wake_up()

    def close_wake_up(self) -> None:
        """Close what wakes this thread up: it has ended, or was never started."""
        self._wake_receiver.close()
        self._wake_sender.close()

    def _wake(self) -> None:
        try:
            self._wake_sender.send(b"\0")
        except OSError:  # a wake-up is waiting already, or the thread has ended
            return

    def _wait(self) -> bool:
        """Wait for the peer or the user; say whether the peer has sent something or has gone."""
        connection = self.socket.socket
        descriptor = -1 if connection is None else connection.fileno()
        if descriptor < 0:
            self.event_queue.put("Evt17")
            return False
        if isinstance(connection, ssl.SSLSocket) and connection.pending():
            return True  # decrypted already: the kernel knows nothing of it
        ready = {found for found, _ in self._poller.poll(_IDLE_MILLISECONDS)}
        if self._wake_receiver.fileno() in ready:
            self._wake_receiver.recv(4096)
        return descriptor in ready

    def _is_transport_event(self) -> bool:
        if not self.event_queue.empty():
            return False
        if self.state_machine.current_state == "Sta13":
            return self._linger()
        here = self._inflow.ready() or self._wait()
        return (here and self._take()) or self._stalled()

    def _linger(self) -> bool:
        """Let the peer close first, and read past what it still sends: closing now could destroy our last PDU."""
        now = time.monotonic()
        if not self._closing_since:
            self._closing_since = now
        if now - self._closing_since > _LINGER_SECONDS or (self._wait() and not self._inflow.discard()):
            self.socket.close()
        return True

    def _stalled(self) -> bool:
        """Say whether the PDU that has begun has been on its way for too long; then the association ends."""
        begun = self._inflow.begun_at
        if begun is None or time.monotonic() - begun < self.network_timeout or not self.event_queue.empty():
            return False
        log.warning("peer_stalled_inside_pdu", association=self.assoc.number, seconds=self.network_timeout)
        self.event_queue.put("Evt19")
        return True

    def _take(self) -> bool:
        """Read what has come and act on it, PDU by PDU; PS3.8 9.2.1 has the events. False: it was nothing.

        What has come over TLS may be nothing: part of a record, or a message of TLS itself. That is no sign of life of
        the association, and must not keep us from our own user.
        """
        came, event = False, None
        try:
            while not event:
                event = self._next_pdu()
                if event is None:
                    self._work(self.assoc.dimse.settle)
                    count = self._inflow.fill()
                    if count is None:
                        self._hurry()
                        break
                    self._idle_timer.restart()
                    came, event = True, None if count else "Evt17"
                else:
                    came = True
                    if self.to_provider_queue.queue or self._kill_thread:
                        break
        except OSError:
            event = "Evt17"
        except ProtocolError as error:
            log.warning("protocol_error", association=self.assoc.number, error=str(error))
            event = "Evt19"
        if event:
            self.event_queue.put(event)
        return came or bool(event)

    def _hurry(self) -> None:
        """Have the rest of what is half here sent at once."""
        if self._inflow.begun_at is not None or self.assoc.dimse.busy:
            self._inflow.hurry()

    def _next_pdu(self) -> str | None:
        """Return the event that the next PDU is for the state machine.

        Empty where the PDU is dealt with already; None where it is not all here.
        """
        head = self._inflow.head()
        if head is None:
            return None
        kind, length = head
        cap = _CAPS.get(kind)
        if cap is None:
            raise ProtocolError(f"PDU type {kind:#04x} is unknown")
        if length > cap:
            raise ProtocolError(f"a PDU of {length} bytes is announced, {cap} is the limit")
        if kind == P_DATA_TF and self.state_machine.current_state != "Sta6":
            return "Evt10"
        body = self._inflow.body(length)
        if body is None:
            return None
        event = self._act(kind, body)
        self._inflow.drop(length)
        return event

    def _act(self, kind: int, body: memoryview) -> str:
        if kind == P_DATA_TF:
            self._work(self.assoc.dimse.receive, body)
            return ""
        if kind == A_ASSOCIATE_RQ:
            check_associate_request(body)
        if kind == A_ABORT_PDU:  # an abort is an abort, whatever it gives as its source and reason
            return self._decode(_ABORT)
        return self._decode(HEAD.pack(kind, 0, len(body)) + body)

    def _work(self, call: Callable[..., None], *arguments: memoryview) -> None:
        """Do what it is us whom the peer waits for."""
        self._inflow.pace.work_begins()
        call(*arguments)
        self._inflow.pace.work_ends()

    def _decode(self, encoded: bytes) -> str:
        try:
            pdu, event = self._decode_pdu(bytearray(encoded))
            pdu.to_primitive()  # the state machine will, and could not cope with what it raises
        except Exception as error:  # pynetdicom raises what it likes; the peer is at fault
            raise ProtocolError(f"a PDU of type {encoded[0]:#04x} cannot be decoded: {type(error).__name__}") from error
        self._recv_pdu.put(pdu)
        return str(event)
