"""SCPs of pynetdicom in the test's own process."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

from pynetdicom import AE
from pynetdicom.transport import AssociationServer, ThreadedAssociationServer

POLL_SECONDS = 0.02


def start_scp(ae: AE, handlers: Sequence[tuple[Any, Callable[..., Any]]] = (), *, port: int = 0) -> AssociationServer:
    """Serve an AE on a port of this machine, a free one unless given, from a thread; `shutdown()` ends it.

    As `ae.start_server(block=False)` does, but for how often it is looked whether to end: by default it is twice a
    second, for which every test that has such a server would wait.
    """
    server = ae.make_server(("127.0.0.1", port), evt_handlers=list(handlers), server_class=ThreadedAssociationServer)
    ae._servers.append(server)  # from where `shutdown` takes it
    threading.Thread(target=server.serve_forever, args=(POLL_SECONDS,), name="scp", daemon=True).start()
    return server
