"""Peers that crawl: many connections, each sending a byte a second, from an address of their own.

What is dropped connects again. One thread serves all, without ever waiting for the listener.
"""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Self

from tests.support.raw_store import (
    ASSOCIATE_AC,
    CT_IMAGE_STORAGE,
    EXPLICIT_VR_LITTLE_ENDIAN,
    P_DATA,
    associate_request,
    pdu,
    pdv,
    store_request,
)

REQUEST = associate_request([(CT_IMAGE_STORAGE, [EXPLICIT_VR_LITTLE_ENDIAN])], calling="CRAWLER")
COMMAND = pdu(P_DATA, pdv(1, 3, store_request(CT_IMAGE_STORAGE, "1.2.66")))

SILENT, REQUESTING, IN_PDU, IN_DATA_SET = "silent", "in the request", "in a PDU", "in a data set"
PLACES = (SILENT, REQUESTING, IN_PDU, IN_DATA_SET)


class Crawler:
    """One connection that crawls at a place of the protocol."""

    def __init__(self, address: tuple[str, int], source: str, place: str) -> None:
        self._address, self._source, self._place = address, source, place
        self._socket: socket.socket | None = None
        self._bytes: Iterator[bytes] = iter(())
        self.opened = 0

    def step(self) -> None:
        """Send the next byte; open the connection where there is none."""
        try:
            if self._socket is None:
                self._open()
            elif self._lives():
                self._socket.send(next(self._bytes))
        except (BlockingIOError, StopIteration):
            pass
        except OSError:
            self.close()

    def close(self) -> None:
        """Let the connection go."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _open(self) -> None:
        self._socket = socket.create_connection(self._address, timeout=2, source_address=(self._source, 0))
        self._socket.setblocking(False)
        self.opened += 1
        if self._place in {IN_PDU, IN_DATA_SET}:
            self._socket.send(REQUEST)
            self._bytes = iter(())
        else:
            self._bytes = iter([bytes((byte,)) for byte in REQUEST]) if self._place == REQUESTING else iter(())

    def _lives(self) -> bool:
        """Look whether we were dropped; begin to crawl once we are accepted."""
        assert self._socket is not None
        try:
            answer = self._socket.recv(4096)
        except BlockingIOError:
            return True
        if not answer or answer[0] != ASSOCIATE_AC:
            self.close()
            return False
        if self._place == IN_PDU:
            stream = struct.pack(">BBL", P_DATA, 0, 100_000)
        else:
            stream = COMMAND + pdu(P_DATA, pdv(1, 0, b"\0"))
        self._socket.send(stream)
        one = pdu(P_DATA, pdv(1, 0, b"\0")) if self._place == IN_DATA_SET else b"\0"
        self._bytes = iter(lambda: one, None)
        return True


class Crawlers:
    """Many of them, at all places alike, for as long as the block runs."""

    def __init__(self, host: str, port: int, count: int, *, source: str, places: tuple[str, ...] = PLACES) -> None:
        self.all = [Crawler((host, port), source, places[number % len(places)]) for number in range(count)]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="crawlers")

    @property
    def opened(self) -> int:
        """How many connections were opened so far, those opened again counted."""
        return sum(crawler.opened for crawler in self.all)

    def _run(self) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            for crawler in self.all:
                crawler.step()
            self._stop.wait(max(0.0, 1.0 - (time.monotonic() - began)))
        for crawler in self.all:
            with contextlib.suppress(OSError):
                crawler.close()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
