"""The sockets that we listen on: bound once, with words for a person where that fails, served by whoever has them."""

import contextlib
import errno
import socket
from contextlib import ExitStack

from worker.errors import StartError

BACKLOG = 128


def bind(host: str, port: int, plain_port: int | None = None) -> list[socket.socket]:
    """Bind the DICOM port and, where one is given, the second port without TLS; connections wait until they are served.

    The sockets do not block: where several processes serve one, the first of those that a connection wakes gets it.

    Parameters
    ----------
    host, port
        Address to bind; port 0 takes a free one.
    plain_port
        The second port; None: there is none.

    Raises
    ------
    StartError
        An address cannot be bound.
    """
    wanted = [(port, "FIRSTREAD_DICOM_PORT")]
    if plain_port is not None:
        wanted.append((plain_port, "FIRSTREAD_DICOM_PLAIN_PORT"))
    with ExitStack() as undo:
        bound = []
        for number, setting in wanted:
            try:
                one = undo.enter_context(contextlib.closing(_bound(host, number)))
            except OSError as error:
                raise StartError(_cannot_bind(host, number, setting, error)) from error
            bound.append(one)
        undo.pop_all()
    return bound


def _bound(host: str, port: int) -> socket.socket:
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setblocking(False)
        listening.bind(address)
        listening.listen(BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening


def _cannot_bind(host: str, port: int, setting: str, error: OSError) -> str:
    fix = {
        errno.EADDRINUSE: f"another program listens there: stop it, or set {setting} (0 takes a free port)",
        errno.EACCES: f"ports below 1024 need a privilege: grant CAP_NET_BIND_SERVICE, or set {setting}",
        errno.EADDRNOTAVAIL: "this machine does not have that address: correct FIRSTREAD_DICOM_HOST",
    }.get(error.errno or 0, f"correct FIRSTREAD_DICOM_HOST and {setting}")
    return f"cannot listen on {host} port {port} ({error.strerror or error}): {fix}"
