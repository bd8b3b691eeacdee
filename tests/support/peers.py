"""PACS that no one here wrote: dcmtk's storescp and Orthanc, started and stopped by the test."""

import json
import os
import socket
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any, Self

from tests.support.stack import free_port


class _Peer:
    """A server process with an AE title and a port."""

    ae_title = "PACS"

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        folder.mkdir(parents=True, exist_ok=True)
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def command(self) -> list[str]:
        raise NotImplementedError

    def start(self) -> None:
        self.process = subprocess.Popen(self.command(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(20)
            self.process = None

    @property
    def peer(self) -> str:
        return f"{self.ae_title}@127.0.0.1:{self.port}"


class Storescp(_Peer):
    """dcmtk's storescp; it names files by SOP Instance UID, so the same object twice is one file."""

    def command(self) -> list[str]:
        return ["storescp", "-od", str(self.folder), "-aet", self.ae_title, str(self.port)]

    def held(self) -> list[Path]:
        """The files it has."""
        return sorted(self.folder.iterdir())


class Orthanc(_Peer):
    """Orthanc with its REST interface on a port of its own; it keeps everything it is sent."""

    ae_title = "ORTHANC"

    def command(self) -> list[str]:
        self.http_port = free_port()
        configuration = {
            "Name": "test", "StorageDirectory": str(self.folder / "db"), "DicomAet": self.ae_title,
            "DicomPort": self.port, "HttpPort": self.http_port, "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False, "DicomCheckCalledAet": False, "Plugins": [],
            "OverwriteInstances": False,
        }  # fmt: skip
        path = self.folder / "orthanc.json"
        path.write_text(json.dumps(configuration))
        return ["Orthanc", str(path)]

    def start(self) -> None:
        super().start()
        deadline = time.monotonic() + 30
        while not self._answers():
            assert time.monotonic() < deadline, "Orthanc did not start"
            time.sleep(0.1)

    def _answers(self) -> bool:
        try:
            self.get("system")
        except OSError:
            return False
        return True

    def get(self, path: str) -> Any:
        """Ask its REST interface."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}/{path}", timeout=10) as answer:
            return json.load(answer)

    def instances(self) -> list[str]:
        """The SOP Instance UIDs it holds."""
        found = self.get("instances?expand")
        return sorted(instance["MainDicomTags"]["SOPInstanceUID"] for instance in found)


class RabbitMq(_Peer):
    """A RabbitMQ broker of the test's own, with a port mapper of its own that ends with it."""

    def command(self) -> list[str]:
        plugins = self.folder / "plugins"
        plugins.write_text("[].")
        self.environment = {
            **os.environ,
            "HOME": str(self.folder),
            "RABBITMQ_NODENAME": f"firstread{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "db"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "none"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(plugins),
            "ERL_EPMD_PORT": str(free_port()),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }
        return ["/usr/lib/rabbitmq/bin/rabbitmq-server"]

    def start(self) -> None:
        command = self.command()
        self.process = subprocess.Popen(
            command,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + 60
        while not self._listens():
            assert time.monotonic() < deadline, "RabbitMQ did not start"
            time.sleep(0.2)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        super().stop()
        subprocess.run(["epmd", "-port", self.environment["ERL_EPMD_PORT"], "-kill"], capture_output=True, check=False)

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"
