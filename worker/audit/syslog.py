"""Syslog (RFC 5424) over UDP (RFC 5426), TCP (RFC 6587, octet counting) or TLS (RFC 5425).

Syslog has no answer: that a receiver keeps what it was sent, nobody says. What can be known is known: whether the other
end of the connection has taken the bytes (`settle`), and whether it is still there.
"""

import fcntl
import select
import socket
import ssl
import struct
import termios
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from worker.audit.event_types import Outcome
from worker.errors import PeerUnreachable

FACILITY = 10
"""Security and authorization messages (RFC 5424 6.2.1)."""

SEVERITY: dict[Outcome, int] = {"0": 5, "4": 4, "8": 3, "12": 2}
"""Notice, warning, error, critical, by EventOutcomeIndicator."""

MSGID = "DICOM+RFC3881"
"""What says that the message is an audit message of PS3.15 A.5 (PS3.15 A.6)."""

BOM = b"\xef\xbb\xbf"
TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True)
class Receiver:
    """Where messages go, and by what the other side is known.

    Attributes
    ----------
    scheme
        `udp`, `tcp` or `tls`.
    ca
        Certificates that the receiver's is checked against; None: those that the system trusts.
    certificate, key
        Ours, where the receiver asks for one.
    """

    scheme: str
    host: str
    port: int
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    @classmethod
    def parse(
        cls, url: str, *, ca: Path | None = None, certificate: Path | None = None, key: Path | None = None
    ) -> "Receiver":
        """Read a URL that the settings have checked."""
        parts = urlsplit(url)
        port = parts.port or (6514 if parts.scheme == "tls" else 514)
        return cls(parts.scheme, parts.hostname or "", port, ca, certificate, key)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def syslog_message(text: bytes, *, outcome: Outcome, at: str, host: str) -> bytes:
    """Put a message into its frame (RFC 5424 6).

    Parameters
    ----------
    text
        UTF-8.
    at
        ISO 8601, with an offset.
    """
    name = "".join(c for c in host if "!" <= c <= "~")[:255] or "-"
    head = f"<{FACILITY * 8 + SEVERITY[outcome]}>1 {at} {name} firstread - {MSGID} - "
    return head.encode("ascii") + BOM + text


class Connection:
    """An open way to a receiver. Every method may raise `PeerUnreachable`; then there is none any more."""

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
        try:
            self._socket = _open(receiver)
        except (OSError, ssl.SSLError) as error:
            raise self._away(error) from None

    def close(self) -> None:
        """Let it go."""
        self._socket.close()

    def send(self, messages: list[bytes]) -> None:
        """Send messages, each in a datagram or after its length."""
        try:
            self._look()
            for message in messages:
                if self.receiver.scheme == "udp":
                    self._socket.send(message)
                else:
                    self._socket.sendall(f"{len(message)} ".encode() + message)
        except OSError as error:
            raise self._away(error) from None

    def settle(self) -> None:
        """Wait until the other end has taken all bytes, and see that it is still there."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        try:
            while self.receiver.scheme != "udp" and self._unacknowledged():
                if time.monotonic() > deadline:
                    raise TimeoutError("it takes nothing")
                time.sleep(0.005)
            self._look()
        except OSError as error:
            raise self._away(error) from None

    def _unacknowledged(self) -> int:
        """Return how many bytes the other end has not acknowledged (tcp(7), SIOCOUTQ)."""
        (count,) = struct.unpack("i", fcntl.ioctl(self._socket, termios.TIOCOUTQ, bytes(4)))
        return int(count)

    def _look(self) -> None:
        """See whether the other end has closed, or refuses datagrams; a receiver says nothing else."""
        if self.receiver.scheme == "udp" or select.select([self._socket], [], [], 0)[0]:
            self._socket.setblocking(False)
            try:
                if not self._socket.recv(4096) and self.receiver.scheme != "udp":
                    raise ConnectionResetError("it has closed the connection")
            except (BlockingIOError, ssl.SSLWantReadError):
                return
            finally:
                self._socket.settimeout(TIMEOUT_SECONDS)

    def _away(self, error: Exception) -> PeerUnreachable:
        return PeerUnreachable(f"the syslog receiver {self.receiver} cannot be reached: {error}")


def _open(receiver: Receiver) -> socket.socket:
    if receiver.scheme == "udp":
        family, _, _, _, address = socket.getaddrinfo(receiver.host, receiver.port, type=socket.SOCK_DGRAM)[0]
        datagrams = socket.socket(family, socket.SOCK_DGRAM)
        datagrams.settimeout(TIMEOUT_SECONDS)
        datagrams.connect(address)
        return datagrams
    stream = socket.create_connection((receiver.host, receiver.port), TIMEOUT_SECONDS)
    if receiver.scheme == "tcp":
        return stream
    try:
        context = ssl.create_default_context(cafile=receiver.ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if receiver.certificate is not None:
            context.load_cert_chain(receiver.certificate, receiver.key)
        return context.wrap_socket(stream, server_hostname=receiver.host)
    except BaseException:
        stream.close()
        raise
