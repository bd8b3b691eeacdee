"""PACS that no one here wrote: dcmtk's storescp and Orthanc, started and stopped by the test."""

import contextlib
import http.client
import json
import math
import os
import socket
import subprocess
import threading
import time
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from tests.support.stack import answers, free_port


class _Peer(ABC):
    """A server process with an AE title and a port."""

    ae_title = "PACS"
    environment: Mapping[str, str] | None = None
    """Of its process; None: ours."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        folder.mkdir(parents=True, exist_ok=True)
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @abstractmethod
    def command(self) -> list[str]:
        """Program and arguments."""

    def start(self) -> None:
        self.process = subprocess.Popen(
            self.command(), env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def is_alive(self) -> bool:
        """Whether its process runs."""
        return self.process is not None and self.process.poll() is None

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(20)
            self.process = None

    @property
    def peer(self) -> str:
        return f"{self.ae_title}@127.0.0.1:{self.port}"


class Storescp(_Peer):
    """dcmtk's storescp.

    It names files by SOP Instance UID, so the same object twice is one file; with `every_arrival` it is two.
    """

    def __init__(self, folder: Path, *options: str, every_arrival: bool = False) -> None:
        super().__init__(folder)
        self.options = [*options, *(["--unique-filenames"] if every_arrival else [])]

    def command(self) -> list[str]:
        return ["storescp", *self.options, "-od", str(self.folder), "-aet", self.ae_title, str(self.port)]

    def held(self) -> list[Path]:
        """The files it has."""
        return sorted(self.folder.iterdir())


class Orthanc(_Peer):
    """Orthanc with its REST interface on a port of its own; it keeps everything it is sent."""

    ae_title = "ORTHANC"

    def __init__(
        self, folder: Path, configuration: Mapping[str, Any] | None = None, **modalities: tuple[str, str, int]
    ) -> None:
        """Start knowing `modalities`: its own name of each → AE title, host, port; `configuration` replaces."""
        super().__init__(folder)
        self.configuration = configuration or {}
        self.log = folder / "log"
        self.modalities = {name: list(address) for name, address in modalities.items()}

    def command(self) -> list[str]:
        self.http_port = free_port()
        configuration = {
            "Name": "test", "StorageDirectory": str(self.folder / "db"), "DicomAet": self.ae_title,
            "DicomPort": self.port, "HttpPort": self.http_port, "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False, "DicomCheckCalledAet": False, "Plugins": [],
            "OverwriteInstances": False, "DicomModalities": self.modalities, **self.configuration,
        }  # fmt: skip
        path = self.folder / "orthanc.json"
        path.write_text(json.dumps(configuration))
        return ["Orthanc", str(path)]

    def start(self, seconds: float = 90) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command(), env=self.environment, stdout=log, stderr=log)
        deadline = time.monotonic() + seconds
        while not self._answers():
            if time.monotonic() > deadline or not self.is_alive():
                self.stop()
                raise AssertionError(f"Orthanc did not start within {seconds:g} s: {self.log.read_text()[-1500:]}")
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

    def post(self, path: str, body: Any) -> Any:
        """Tell its REST interface something: JSON, or bytes as they are."""
        return json.loads(self._ask("POST", path, body if isinstance(body, bytes) else json.dumps(body).encode()))

    def delete(self, path: str) -> None:
        """Remove something from it."""
        self._ask("DELETE", path)

    def clear(self) -> None:
        """Remove all it holds."""
        for patient in self.get("patients"):
            self.delete(f"patients/{patient}")

    def _ask(self, method: str, path: str, data: bytes | None = None) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=30)
        with contextlib.closing(connection):
            connection.request(method, f"/{path}", data)
            answer = connection.getresponse()
            assert answer.status == http.HTTPStatus.OK, f"{method} {path}: {answer.status} {answer.read()!r}"
            return answer.read()

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
        while not answers(self.port):
            assert time.monotonic() < deadline, "RabbitMQ did not start"
            time.sleep(0.2)

    def stop(self) -> None:
        super().stop()
        subprocess.run(["epmd", "-port", self.environment["ERL_EPMD_PORT"], "-kill"], capture_output=True, check=False)

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"


class Valve:
    """A TCP forwarder before a port, for one connection, that stands still after as many bytes as it is told."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self._let = 0.0
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._serve, name="valve", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.open()
        with contextlib.suppress(OSError):  # it wakes `accept`, where nobody has come
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(10)

    def open(self, byte_count: float = math.inf) -> None:
        """Let so many bytes more through from the sender."""
        with self._changed:
            self._let = byte_count
            self._changed.notify_all()

    def wait_shut(self, seconds: float = 60) -> None:
        """Wait until all that was let through is through."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._let <= 0, seconds), "the sender sent less"

    def _serve(self) -> None:
        with contextlib.suppress(OSError):  # nobody came, or one of the two has gone
            sender, _ = self._server.accept()
            with sender, socket.create_connection(("127.0.0.1", self._target)) as receiver:
                back = threading.Thread(target=self._answers, args=(receiver, sender), name="valve-back", daemon=True)
                back.start()
                self._requests(sender, receiver)
                back.join(10)

    def _requests(self, sender: socket.socket, receiver: socket.socket) -> None:
        while data := sender.recv(1024):
            with self._changed:
                self._changed.wait_for(lambda: self._let > 0)
            receiver.sendall(data)
            with self._changed:
                self._let -= len(data)
                self._changed.notify_all()
        receiver.shutdown(socket.SHUT_WR)

    @staticmethod
    def _answers(receiver: socket.socket, sender: socket.socket) -> None:
        with contextlib.suppress(OSError):  # the sender has gone
            while data := receiver.recv(65536):
                sender.sendall(data)
