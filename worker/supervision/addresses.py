"""Where the services of a data directory are reached: what each wrote of itself, and whether it answers."""

import http.client
import json
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from worker.config import Peer

ANSWER_SECONDS = 2.0


@dataclass(frozen=True)
class Addresses:
    """Where the running services are reached."""

    listener: Peer
    worklist_url: str


class SaidAddresses:
    """The files in which the listener and the worklist say where they listen: `listener.json`, `worklist.json`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def forget(self) -> None:
        """Remove what an earlier run said."""
        for name in ("listener", "worklist"):
            self._file(name).unlink(missing_ok=True)

    def listener(self) -> Peer | None:
        """Return where scans are sent; None while it has not been said."""
        said = self._said("listener")
        if said is None:
            return None
        secure = said.get("tls", False)
        return Peer(ae_title=said["ae_title"], host=said["host"], port=said["port"], tls=secure)

    def plain_port(self) -> int | None:
        """Return the second port of the listener, without TLS, where there is one."""
        return (self._said("listener") or {}).get("plain_port")

    def worklist_url(self) -> str | None:
        """Return where the worklist is; None while it has not been said."""
        said = self._said("worklist")
        return None if said is None else str(said["url"])

    def readiness(self) -> Addresses | str:
        """Return the addresses once both are said and the worklist answers `/readyz` with 200; else what is missing."""
        listener, url = self.listener(), self.worklist_url()
        if listener is None:
            return "the listener has not said its address"
        if url is None:
            return "the worklist has not said its address"
        if (problem := _not_ready(url)) is not None:
            return f"the worklist: {problem}"
        return Addresses(listener, url)

    def known_port(self, service: str) -> dict[str, str]:
        """Return the setting by which a service that is started again keeps the port it had, if it had one.

        Where the setting says "a free one", modalities and bookmarks would otherwise lose it.
        """
        if service == "listener" and (listener := self.listener()) is not None:
            plain = self.plain_port()
            second = {} if plain is None else {"FIRSTREAD_DICOM_PLAIN_PORT": str(plain)}
            return {"FIRSTREAD_DICOM_PORT": str(listener.port), **second}
        if service == "worklist" and (url := self.worklist_url()) is not None:
            return {"FIRSTREAD_WEB_PORT": str(urlsplit(url).port)}
        return {}

    def _file(self, name: str) -> Path:
        return self._directory / f"{name}.json"

    def _said(self, name: str) -> dict[str, Any] | None:
        """Read what a service said of itself; None while it has not, or is just writing it."""
        with suppress(FileNotFoundError, json.JSONDecodeError):
            return dict(json.loads(self._file(name).read_text()))
        return None


def port_is_free(host: str, port: int) -> bool:
    """Say whether a service could listen there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _not_ready(url: str) -> str | None:
    """Ask `/readyz`; return None when it says yes, else what it says."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port or 80, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        body = response.read(2000).decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return f"/readyz does not answer ({error})"
    finally:
        connection.close()
    return None if response.status == 200 else f"/readyz answers {response.status}: {body}"
