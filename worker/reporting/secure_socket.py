"""The socket of an association that we open: over TLS as well, and it remembers why it failed."""

import logging
import socket
import ssl
from typing import Any

from pynetdicom.transport import AddressInformation, AssociationSocket

from worker.tls import say_goodbye

_AT_ONCE = 1 << 16

logging.getLogger("pynetdicom.transport").setLevel(logging.CRITICAL)  # what it tells, with tracebacks, we raise


class RequestorSocket(AssociationSocket):  # type: ignore[misc]  # pynetdicom has no types
    """The library's socket, with what pynetdicom 3.0.4 leaves out.

    It is closed as well where it never connected. What is written goes out at once: the second of two small messages
    would else wait until the peer's system has acknowledged the first, which may take it 40 ms. Over TLS, only what the
    peer's upper layer has sent counts as readable: a message of TLS itself (the session tickets that follow a
    handshake, part of a record) would have the library wait without end for the rest of a PDU that has not begun. And
    the error of a handshake is kept, also one that shows itself only when the peer, in TLS 1.3, refuses our certificate
    after the handshake.
    """

    def __init__(self, *arguments: Any, **more: Any) -> None:
        self.failure: OSError | None = None
        self._ahead = bytearray()
        super().__init__(*arguments, **more)

    @property
    def tls_args(self) -> tuple[ssl.SSLContext, str] | None:
        """The TLS context, and the host name that the peer's certificate has to have."""
        return self._tls_args

    @tls_args.setter
    def tls_args(self, arguments: tuple[ssl.SSLContext, str] | None) -> None:
        if arguments is not None:
            arguments[0].sslsocket_class = _TellingSocket
        self._tls_args = arguments

    @property
    def ready(self) -> bool:
        """Whether something of a PDU can be read, or the peer has gone."""
        if not isinstance(self.socket, ssl.SSLSocket) or self._ahead:
            return bool(self._ahead or super().ready)
        if not super().ready:
            return False
        timeout = self.socket.gettimeout()
        try:
            self.socket.settimeout(0)
            self._ahead += self.socket.recv(_AT_ONCE)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        except OSError as error:
            self.failure = error
        finally:
            self.socket.settimeout(timeout)
        return True  # the end of the connection too: `recv` finds nothing then

    def recv(self, nr_bytes: int) -> bytearray:
        """Read so many bytes; fewer where the connection ends."""
        ahead, self._ahead = self._ahead[:nr_bytes], self._ahead[nr_bytes:]
        try:
            if self.failure is None and len(ahead) < nr_bytes:
                ahead += super().recv(nr_bytes - len(ahead))
        except (ssl.SSLError, ConnectionError) as error:  # the end of the connection; why is kept
            self.failure = error
        return ahead

    def _create_socket(self, address: AddressInformation) -> socket.socket:
        made: socket.socket = super()._create_socket(address)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made

    def _shutdown_socket(self) -> None:
        ended: socket.socket | None = self.socket
        if isinstance(ended, _TellingSocket):
            self.failure = self.failure or ended.failure
        if self._is_connected:
            say_goodbye(ended)
        super()._shutdown_socket()
        if ended is not None:
            ended.close()


class _TellingSocket(ssl.SSLSocket):
    """A TLS socket that keeps the error with which it did not come to a handshake."""

    failure: OSError | None = None

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except OSError as error:
            self.failure = error
            raise


def explain(failure: OSError) -> str:
    """Say what is wrong with whose certificate, or with the handshake, and what to do."""
    reason = getattr(failure, "reason", None) or ""
    if isinstance(failure, ssl.SSLCertVerificationError):
        return (
            f"its certificate is not accepted: {failure.verify_message.rstrip('.')}; is it the right host and name, "
            "and does FIRSTREAD_TLS_CA hold the CA that signed it?"
        )
    if "ALERT" in reason:
        return (
            f"it refuses our certificate or what we offer ({reason.lower().replace('_', ' ')}); does it know the CA of "
            "FIRSTREAD_TLS_CERTIFICATE, and does it speak TLS 1.2 or 1.3 with ECDHE and AES-GCM?"
        )
    said = (reason or failure.strerror or str(failure)).lower().replace("_", " ")
    return f"no TLS came about ({said}); does it speak TLS at this port? If not, take /tls off it"
