"""Associations that we open, to a PACS or any other Storage SCP."""

import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pynetdicom import AE, evt
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation
from pynetdicom.presentation import PresentationContext

from worker.config import Credentials, Peer
from worker.errors import PeerUnreachable, SettingsError
from worker.reporting.secure_socket import RequestorSocket, explain
from worker.reporting.software import implementation_version_name
from worker.tls import client_context
from worker.uids import IMPLEMENTATION_CLASS_UID

CONNECT_SECONDS = 5.0
DIMSE_SECONDS = 30.0


class _Requestor(AE):  # type: ignore[misc]
    def _create_socket(self, assoc: Any, address: Any, tls_args: Any) -> RequestorSocket:
        opened = RequestorSocket(assoc, address=address)
        opened.tls_args = tls_args
        return opened


class NothingAccepted(PeerUnreachable):
    """The association was accepted, and none of the presentation contexts in it."""


class BrokenOff(PeerUnreachable):
    """The association was open, and broke off or is broken off now: no answer came over it."""


@contextmanager
def association(
    peer: Peer,
    calling_ae: str,
    contexts: Sequence[PresentationContext],
    *,
    credentials: Credentials | None = None,
    connect_seconds: float = CONNECT_SECONDS,
    dimse_seconds: float = DIMSE_SECONDS,
    roles: Sequence[SCP_SCU_RoleSelectionNegotiation] = (),
    handlers: Sequence[Any] = (),
) -> Iterator[Any]:
    """Open an association as requestor; it is released at the end, or aborted when something went wrong.

    Parameters
    ----------
    peer
        Who is called.
    calling_ae
        Our AE title.
    contexts
        What is proposed, at most 128 presentation contexts.
    credentials
        The files of TLS, for a peer that is reached over it; read anew each time, so that renewed ones are used.
    connect_seconds
        Longest wait for the connection (its TLS handshake too), and then for the answer to the association request.
    dimse_seconds
        Longest wait for the answer to a DIMSE request, and for the network.
    roles
        Role selections proposed: where we are the SCP of an association that we open (PS3.7 D.3.3.4).
    handlers
        pynetdicom event handlers: for what the peer asks of us on the same association.

    Raises
    ------
    PeerUnreachable
        The peer cannot be connected to, does not answer, rejects or aborts; over TLS also: one of us does not accept
        the certificate of the other, or ours cannot be used. `NothingAccepted`: it accepts no context.
    """
    ae = _Requestor(ae_title=calling_ae)
    ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    ae.implementation_version_name = implementation_version_name()
    ae.connection_timeout = ae.acse_timeout = connect_seconds
    ae.dimse_timeout = ae.network_timeout = dimse_seconds
    connected: list[bool] = []
    try:
        opened = ae.associate(
            peer.host,
            peer.port,
            contexts=list(contexts),
            ae_title=peer.ae_title,
            tls_args=_tls_arguments(peer, credentials or Credentials()),
            ext_neg=list(roles),
            evt_handlers=[(evt.EVT_CONN_OPEN, lambda _event: connected.append(True)), *handlers],
        )
    except OSError as error:  # a host name that means nothing
        raise PeerUnreachable(f"{peer}: the host cannot be found ({error.strerror or error})") from error
    if not opened.is_established:
        raise _refusal(peer, calling_ae, opened, connected=bool(connected), connect_seconds=connect_seconds)
    try:
        yield opened
    except BaseException:
        opened.abort()
        raise
    if opened.is_established:
        opened.release()


def _tls_arguments(peer: Peer, credentials: Credentials) -> tuple[ssl.SSLContext, str] | None:
    if not peer.tls:
        return None
    try:
        return client_context(credentials), peer.host
    except SettingsError as error:
        raise PeerUnreachable(f"{peer}: no TLS with it: {error}") from error


def _refusal(
    peer: Peer, calling_ae: str, opened: Any, *, connected: bool, connect_seconds: float
) -> PeerUnreachable | NothingAccepted:
    failure = opened.dul.socket.failure
    if failure and peer.tls:
        return PeerUnreachable(f"{peer}: {explain(failure)}")
    if not connected:
        return PeerUnreachable(
            f"{peer}: no connection (nobody listens there, or no answer within {connect_seconds:g} s); is it running, "
            "are host, port and firewall right?"
        )
    answer = opened.acceptor.primitive
    if opened.is_rejected:
        return PeerUnreachable(
            f"{peer}: association rejected ({answer.result_str}; {answer.reason_str}); does it know our AE title "
            f"{calling_ae!r}, and is {peer.ae_title!r} its own?"
        )
    if answer is not None and answer.result == 0:
        return NothingAccepted(f"{peer}: accepts none of what we propose")
    hint = "" if peer.tls else f"; does that port speak TLS? then write {peer}/tls"
    return PeerUnreachable(
        f"{peer}: no answer to the association request within {connect_seconds:g} s, or aborted{hint}"
    )
