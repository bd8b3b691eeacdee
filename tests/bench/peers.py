"""Storage SCPs of others: dcmtk's storescp, Orthanc, and the storescp application of pynetdicom."""

import os
import shutil
import subprocess
import sys
from abc import abstractmethod
from typing import Any, ClassVar

from tests.bench.receivers import Receiver, empty, files_below
from tests.support import peers
from tests.support.stack import free_port

AT_THEIR_BEST = {**os.environ, "TCP_NODELAY": "1"}
"""What dcmtk's network library, which Orthanc uses too, is to be told."""


class Peer(Receiver):
    """A server of `tests.support.peers`, at its best."""

    _server: peers.Storescp | peers.Orthanc

    @abstractmethod
    def made(self) -> peers.Storescp | peers.Orthanc:
        """Return it, not yet started."""

    def start(self) -> None:
        self._server = self.made()
        self._server.environment = AT_THEIR_BEST
        self._server.start()
        self.port, self.ae_title = self._server.port, self._server.ae_title

    def stop(self) -> None:
        self._server.stop()

    @property
    def pid(self) -> int:
        assert self._server.process is not None
        return self._server.process.pid


class Storescp(Peer):
    """dcmtk's storescp, writing data sets as they come (`+B`), nothing fsynced."""

    name, durable = "dcmtk storescp +B", False
    options: ClassVar[tuple[str, ...]] = ("+B", "--max-pdu", "131072")

    @classmethod
    def missing(cls) -> str:
        return "" if shutil.which("storescp") else "dcmtk is not installed (Debian: dcmtk)"

    def made(self) -> peers.Storescp:
        return peers.Storescp(self.folder, *self.options, every_arrival=True)

    def held(self) -> int:
        return files_below(self.folder)

    def clear(self) -> None:
        empty(self.folder)


class ForkingStorescp(Storescp):
    """The same, a process for each association: what storescp needs to serve several at once."""

    name, grows = "dcmtk storescp +B --fork", False
    options = ("+B", "--fork", "--max-pdu", "131072")


class Orthanc(Peer):
    """Orthanc as it is, which fsyncs what it stores; PDUs of 128 KiB, its best."""

    name, durable = "Orthanc", True
    configuration: ClassVar[dict[str, Any]] = {"MaximumPduLength": 131072, "SyncStorageArea": True}

    @classmethod
    def missing(cls) -> str:
        return "" if shutil.which("Orthanc") else "Orthanc is not installed (Debian: orthanc)"

    _server: peers.Orthanc

    def made(self) -> peers.Orthanc:
        return peers.Orthanc(self.folder, self.configuration)

    def held(self) -> int:
        return int(self._server.get("statistics")["CountInstances"])

    def clear(self) -> None:
        self._server.clear()


class OrthancUnsynced(Orthanc):
    """Orthanc told not to fsync."""

    name, durable = "Orthanc, no fsync", False
    configuration: ClassVar[dict[str, Any]] = {"MaximumPduLength": 131072, "SyncStorageArea": False}


class PynetdicomApp(Receiver):
    """The storescp application that comes with pynetdicom, PDUs of 128 KiB, nothing fsynced."""

    name, durable = "pynetdicom storescp", False

    def start(self) -> None:
        self.port = free_port()
        options = ["-od", str(self.folder), "-ba", "127.0.0.1", "--max-pdu", "131072", "-q"]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pynetdicom", "storescp", str(self.port), *options],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(20)

    @property
    def pid(self) -> int:
        return self._process.pid

    def held(self) -> int:
        return files_below(self.folder)

    def clear(self) -> None:
        empty(self.folder)
