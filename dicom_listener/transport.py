"""The receive path: PDUs off the socket, data set fragments straight into the spool.

pynetdicom's own path collects a PDU in pieces of 4 KiB, copies it five times, keeps the whole object in memory and
wakes up a thousand times a second to look for more. Here one buffer a connection is filled by the kernel, each fragment
of a data set is written from it to the file, and a quiet association sleeps until its socket or its user has something
for it. Everything else of the upper layer (PS3.8) stays pynetdicom's.
"""

import select
import socket
import ssl
import struct
import time
from typing import Any

from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.fsm import InvalidEventError
from pynetdicom.pdu_primitives import A_P_ABORT

from dicom_listener.associate_request import check_associate_request
from dicom_listener.command_set import P_DATA_TF
from worker.errors import ProtocolError
from worker.logs import get_logger, speak_of

log = get_logger(__name__)

MAX_PDU_LENGTH = 131072
"""What we offer as maximum length (PS3.8 D.1), bytes."""
PDU_CAP = 1 << 20
"""What is taken of a P-DATA-TF PDU all the same, bytes: some senders overlook our maximum."""
REQUEST_CAP = 1 << 18
"""What is taken of any other PDU, bytes: room for an A-ASSOCIATE-RQ with every context and transfer syntax there is."""

PACE_BYTES = 4096
"""A peer that moves less than this in a while is slow (`places`)."""

A_ASSOCIATE_RQ, A_ABORT_PDU = 0x01, 0x07
_ABORT = b"\x07\0\0\0\0\x04\0\0\0\0"
_HEADER = struct.Struct(">BBL")
_PDU_TYPES = range(0x01, 0x08)
_IDLE_MILLISECONDS = 250
_LINGER_SECONDS = 2.0


class ReceivingDul(DULServiceProvider):  # type: ignore[misc]  # pynetdicom has no types
    """The upper layer of one association, reading within bounds and without spinning."""

    def __init__(self, association: Association) -> None:
        super().__init__(association)
        self.daemon = True
        self._run_loop_delay = 0  # the wait is in `_wait`, for the socket and for `send_pdu`
        self._wake_receiver, self._wake_sender = socket.socketpair()
        self._wake_receiver.setblocking(False)
        self._wake_sender.setblocking(False)
        self._buffer = memoryview(bytearray(MAX_PDU_LENGTH))
        self._head = memoryview(bytearray(_HEADER.size))
        self._closing_since = 0.0
        self._moved = 0
        self._moved_since = time.monotonic()
        self._at_work_since: float | None = None

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
        """How long ago the peer had last moved `PACE_BYTES`; the time that we took for it does not count."""
        until = self._at_work_since  # once: another thread asks
        return (time.monotonic() if until is None else until) - self._moved_since

    def _work_ends(self) -> None:
        began, self._at_work_since = self._at_work_since, None
        if began is not None:
            self._moved_since += time.monotonic() - began

    def send_now(self, pdu: bytes) -> None:
        """Send an encoded PDU from this thread, past the queue; a peer that does not take it is slow."""
        self._work_ends()
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
        if connection is None or connection.fileno() < 0:
            self.event_queue.put("Evt17")
            return False
        if isinstance(connection, ssl.SSLSocket) and connection.pending():
            return True  # decrypted already: the kernel knows nothing of it
        poller = select.poll()
        poller.register(connection, select.POLLIN)
        poller.register(self._wake_receiver, select.POLLIN)
        ready = {descriptor for descriptor, _ in poller.poll(_IDLE_MILLISECONDS)}
        if self._wake_receiver.fileno() in ready:
            self._wake_receiver.recv(4096)
        return connection.fileno() in ready

    def _is_transport_event(self) -> bool:
        if not self.event_queue.empty():
            return False
        if self.state_machine.current_state == "Sta13":
            return self._linger()
        return self._wait() and self._read_pdu_data()

    def _linger(self) -> bool:
        """Let the peer close first, and read past what it still sends: closing now could destroy our last PDU."""
        now = time.monotonic()
        if not self._closing_since:
            self._closing_since = now
            self.socket.socket.settimeout(_LINGER_SECONDS)  # part of a TLS record may be all that comes
        if now - self._closing_since > _LINGER_SECONDS:
            self.socket.close()
        elif self._wait():
            try:
                received = self.socket.socket.recv_into(self._buffer)
            except OSError:
                received = 0
            if not received:
                self.socket.close()
        return True

    def _read_pdu_data(self) -> bool:
        """Read one PDU and act on it; PS3.8 9.2.1 has the events. False: nothing of a PDU has come."""
        try:
            begun = self._begin(self._head)
            if begun is None:
                return False
            event = self._read_pdu(begun)
        except TimeoutError:
            log.warning("peer_stalled_inside_pdu", association=self.assoc.number, seconds=self.network_timeout)
            event = "Evt19"
        except OSError:
            event = "Evt17"
        except ProtocolError as error:
            log.warning("protocol_error", association=self.assoc.number, error=str(error))
            event = "Evt19"
        if event:
            self.event_queue.put(event)
        return True

    def _begin(self, head: memoryview) -> int | None:
        """Read what is there of the head of a PDU, without waiting; return its length, 0 at the end of the connection.

        None: what came over TLS was part of a record, or a message of TLS itself. It is no sign of life of the
        association, and must not keep us from our own user.
        """
        connection = self.socket.socket
        if not isinstance(connection, ssl.SSLSocket):
            return int(connection.recv_into(head))
        connection.settimeout(0)
        try:
            return int(connection.recv_into(head))
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None
        finally:
            connection.settimeout(self.network_timeout)

    def _read_pdu(self, begun: int) -> str:
        """Return the event that the next PDU is for the state machine; none where the PDU is dealt with already.

        Parameters
        ----------
        begun
            How many bytes of its head are there.
        """
        if not begun or not self._receive(self._head[begun:]):
            return "Evt17"
        self._acknowledge()
        kind, _, length = _HEADER.unpack(self._head)
        if kind not in _PDU_TYPES:
            raise ProtocolError(f"PDU type {kind:#04x} is unknown")
        cap = PDU_CAP if kind == P_DATA_TF else REQUEST_CAP
        if length > cap:
            raise ProtocolError(f"a PDU of {length} bytes is announced, {cap} is the limit")
        if kind == P_DATA_TF and self.state_machine.current_state != "Sta6":
            return "Evt10"
        if length > len(self._buffer):
            self._buffer = memoryview(bytearray(length))
        body = self._buffer[:length]
        if not self._receive(body):
            return "Evt17"
        if kind == P_DATA_TF:
            self._at_work_since = time.monotonic()
            self.assoc.dimse.receive(body)
            self._work_ends()
            return ""
        if kind == A_ASSOCIATE_RQ:
            check_associate_request(body)
        if kind == A_ABORT_PDU:  # an abort is an abort, whatever it gives as its source and reason
            return self._decode(_ABORT)
        return self._decode(bytes(self._head) + body)

    def _decode(self, encoded: bytes) -> str:
        try:
            pdu, event = self._decode_pdu(bytearray(encoded))
            pdu.to_primitive()  # the state machine will, and could not cope with what it raises
        except Exception as error:  # pynetdicom raises what it likes; the peer is at fault
            raise ProtocolError(f"a PDU of type {encoded[0]:#04x} cannot be decoded: {type(error).__name__}") from error
        self._recv_pdu.put(pdu)
        return str(event)

    def _acknowledge(self) -> None:
        """Acknowledge what has come without the usual delay of 40 ms (tcp(7); to be asked for each time).

        Many senders write a PDU's header and body apart and leave Nagle's algorithm on: their kernel holds the body
        back until ours has acknowledged the header.
        """
        if hasattr(socket, "TCP_QUICKACK"):
            self.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def _receive(self, view: memoryview) -> bool:
        """Fill `view` from the socket; False when the peer closed the connection. Each recv has a timeout too."""
        deadline = time.monotonic() + self.network_timeout
        connection = self.socket.socket
        while view:
            received = connection.recv_into(view)
            if not received:
                return False
            view = view[received:]
            self._moved += received
            if self._moved >= PACE_BYTES:
                self._moved, self._moved_since = 0, time.monotonic()
            if view and time.monotonic() > deadline:
                raise TimeoutError
        return True
