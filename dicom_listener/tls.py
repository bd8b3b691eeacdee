"""The server's side of TLS: handshakes that hold nobody up, certificates that can be exchanged while we run."""

import contextlib
import select
import socket
import ssl
import time
from collections.abc import Callable

from worker.config import Credentials
from worker.errors import HandshakeFailed, SettingsError
from worker.logs import get_logger
from worker.metrics import certificate_expiry_timestamp
from worker.tls import WARN_DAYS, inspect, server_context

log = get_logger(__name__)

_POLL_MILLISECONDS = 250

_PORT = "switch TLS on at the sender; one that cannot has to call FIRSTREAD_DICOM_PLAIN_PORT"
_PLAIN = ("it speaks no TLS", _PORT, "tls")
_OUTDATED = (
    "it offers no version or suite that is safe",
    "let it speak TLS 1.2 or 1.3 with a suite of the BCP 195 profile (ECDHE with AES-GCM)",
    "tls",
)
_NAMELESS = (
    "it shows no certificate",
    "give the sender a certificate of a CA in FIRSTREAD_TLS_CA, or set FIRSTREAD_TLS_VERIFY_PEER to false",
    "certificate",
)
_FAILURES = {
    "WRONG_VERSION_NUMBER": _PLAIN,
    "HTTP_REQUEST": _PLAIN,
    "HTTPS_PROXY_REQUEST": _PLAIN,
    "UNKNOWN_PROTOCOL": _PLAIN,
    "BAD_RECORD_TYPE": _PLAIN,
    "UNSUPPORTED_PROTOCOL": _OUTDATED,
    "NO_SHARED_CIPHER": _OUTDATED,
    "VERSION_TOO_LOW": _OUTDATED,
    "NO_PROTOCOLS_AVAILABLE": _OUTDATED,
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": _NAMELESS,
}
"""Reason of OpenSSL → what it means, what to do, label of the metric."""


class ServerTls:
    """What the connections of the TLS port are wrapped in.

    Parameters
    ----------
    credentials
        Our certificate and key, and the CA of the callers.
    verify_peer
        Whether callers have to show a certificate.

    Raises
    ------
    SettingsError
        The files are not as they have to be.
    """

    def __init__(self, credentials: Credentials, *, verify_peer: bool) -> None:
        self._credentials, self._verify_peer = credentials, verify_peer
        if not verify_peer:
            log.warning("callers_show_no_certificate", fix="set FIRSTREAD_TLS_VERIFY_PEER to true where they can")
        self._context = self._read()

    def reload(self) -> bool:
        """Read the files again, for the associations to come; what cannot be used leaves the old ones in force.

        Returns
        -------
        bool
            Whether the new ones are in force.
        """
        try:
            self._context = self._read()
        except SettingsError as error:
            log.error(
                "certificates_not_reloaded", why=str(error), fix="the old ones stay in force; mend it, SIGHUP again"
            )
            return False
        return True

    def wrap(self, connection: socket.socket, seconds: float, stopping: Callable[[], bool]) -> ssl.SSLSocket:
        """Do the handshake; the connection is closed where it fails.

        Parameters
        ----------
        connection
            The accepted socket.
        seconds
            How long all of it may take, however the peer spreads its bytes.
        stopping
            Asked again and again: whether to give up.

        Raises
        ------
        HandshakeFailed
            The peer speaks no TLS, too old a TLS, shows no certificate or the wrong one, or is silent or gone.
        """
        try:
            connection.settimeout(0)
            wrapped = self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        except (OSError, ValueError) as error:
            connection.close()
            raise _failure(error) from error
        try:
            _shake_hands(wrapped, time.monotonic() + seconds, stopping)
        except OSError as error:
            with contextlib.suppress(OSError):
                wrapped.close()
            raise _failure(error) from error
        return wrapped

    def _read(self) -> ssl.SSLContext:
        context = server_context(self._credentials, verify_peer=self._verify_peer)
        ours = inspect(self._credentials)
        facts = {"subject": ours.subject, "not_after": ours.not_after.isoformat(), "days_left": ours.days_left}
        log.info("certificate_in_force", **facts)
        certificate_expiry_timestamp.labels(service="listener").set(ours.not_after.timestamp())
        if ours.days_left < WARN_DAYS:
            log.warning("certificate_ends_soon", **facts, fix="renew it, then send SIGHUP: nothing is interrupted")
        return context


def _shake_hands(connection: ssl.SSLSocket, deadline: float, stopping: Callable[[], bool]) -> None:
    poller = select.poll()
    poller.register(connection, select.POLLIN)
    while True:
        try:
            connection.do_handshake()
        except ssl.SSLWantReadError:
            poller.modify(connection, select.POLLIN)
        except ssl.SSLWantWriteError:
            poller.modify(connection, select.POLLOUT)
        else:
            return
        if time.monotonic() > deadline or stopping():
            raise TimeoutError
        poller.poll(_POLL_MILLISECONDS)


def _failure(error: Exception) -> HandshakeFailed:
    reason = getattr(error, "reason", None) or ""
    if isinstance(error, ssl.SSLCertVerificationError):
        why = f"its certificate is not accepted: {error.verify_message}"
        fix, kind = "let it show a certificate that is valid and signed by a CA in FIRSTREAD_TLS_CA", "certificate"
    elif "ALERT" in reason:
        why = f"it refuses us: {reason.lower().replace('_', ' ')}"
        fix = "let the sender trust the CA of FIRSTREAD_TLS_CERTIFICATE and call us by a name that is in it"
        kind = "tls"
    elif isinstance(error, TimeoutError):
        why, fix, kind = "it did not complete the handshake in time", _PORT, "tls"
    else:
        why, fix, kind = _FAILURES.get(reason, ("it broke the handshake off", _PORT, "tls"))
    return HandshakeFailed(why, fix=fix, kind=kind)
