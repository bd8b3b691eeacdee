"""A syslog receiver on a real socket: it takes frames apart as RFC 5424, 5425, 5426 and 6587 say, and can go away."""

import contextlib
import re
import socket
import ssl
import threading
from base64 import b64decode
from dataclasses import dataclass
from typing import Self
from xml.etree import ElementTree as ET

from tests.support.audit_schema import breaches

FRAME = re.compile(
    rb"<(\d{1,3})>1 (\S+) (\S{1,255}) (\S{1,48}) (\S{1,128}) (\S{1,32}) (-|(?:\[.*?\])+) \xef\xbb\xbf(.*)", re.DOTALL
)


@dataclass(frozen=True)
class Message:
    """What was received."""

    priority: int
    at: str
    host: str
    application: str
    msgid: str
    xml: ET.Element

    @property
    def details(self) -> dict[str, bytes]:
        """What goes along of the event itself."""
        return {one.attrib["type"]: b64decode(one.attrib["value"]) for one in self.xml.iter("ParticipantObjectDetail")}

    @property
    def number(self) -> int:
        """The event's number in the chain."""
        objects = self.xml.findall("ParticipantObjectIdentification")
        return int(objects[-1].attrib["ParticipantObjectID"])


def parse(frame: bytes) -> Message:
    """Take a message apart (RFC 5424 6); what breaks a rule raises."""
    found = FRAME.fullmatch(frame)
    assert found, frame[:200]
    priority, at, host, application, _procid, msgid, _data, text = found.groups()
    xml = ET.fromstring(text.decode("utf-8"))  # noqa: S314 - our own
    assert breaches(xml) == []
    return Message(int(priority), at.decode(), host.decode(), application.decode(), msgid.decode(), xml)


class SyslogReceiver:
    """Receives until it is stopped; a new one may take its port."""

    def __init__(self, scheme: str, port: int = 0, context: ssl.SSLContext | None = None) -> None:
        self.scheme = scheme
        self.messages: list[Message] = []
        self.errors: list[BaseException] = []
        self.enough = threading.Condition()
        self._context = context
        self._stop = threading.Event()
        kind = socket.SOCK_DGRAM if scheme == "udp" else socket.SOCK_STREAM
        self._socket = socket.socket(socket.AF_INET, kind)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", port))
        if scheme != "udp":
            self._socket.listen()
        self._socket.settimeout(0.1)
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._udp if scheme == "udp" else self._streams)
        self._thread.start()

    @property
    def url(self) -> str:
        """What the setting says."""
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @property
    def numbers(self) -> list[int]:
        """Numbers of the events, as they came."""
        return [message.number for message in self.messages]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._socket.close()
        assert self.errors == []

    def wait(self, number: int) -> None:
        """Wait until the event of this number is here."""
        with self.enough:
            assert self.enough.wait_for(lambda: number in self.numbers, 60), self.numbers

    def _take(self, frame: bytes) -> None:
        try:
            message = parse(frame)
        except BaseException as error:  # noqa: BLE001 - the test is told when it ends
            self.errors.append(error)
            return
        with self.enough:
            self.messages.append(message)
            self.enough.notify_all()

    def _udp(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                self._take(self._socket.recv(65536))

    def _streams(self) -> None:
        while not self._stop.is_set():
            try:
                stream, _ = self._socket.accept()
                stream.settimeout(5)
                if self._context is not None:
                    stream = self._context.wrap_socket(stream, server_side=True)
            except (TimeoutError, OSError):
                continue
            with stream:
                self._stream(stream)

    def _stream(self, stream: socket.socket) -> None:
        stream.settimeout(0.1)
        buffer = b""
        while not self._stop.is_set():
            try:
                received = stream.recv(65536)
            except TimeoutError:
                continue
            except OSError:
                return
            if not received:
                return
            buffer += received
            while (found := re.match(rb"([1-9]\d{0,9}) ", buffer)) and len(buffer) >= found.end() + int(found[1]):
                self._take(buffer[found.end() : found.end() + int(found[1])])
                buffer = buffer[found.end() + int(found[1]) :]
