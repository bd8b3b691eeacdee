"""Thousands of spoiled conversations with the real listener, while a good sender is at work beside them."""

import json
import socket
import struct
import threading
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import psutil

from tests.fuzz_network.mutations import PATIENT, Case, make
from tests.support.good_sender import GoodSender
from tests.support.listener_process import ListenerProcess
from tests.support.raw_store import ABORT, ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA, RELEASE_RP, parse_command_set
from tests.support.spooled import spooled, text

HOSTILE = "127.0.0.66"
MEBIBYTE = 1 << 20
GROWTH = 96 * MEBIBYTE
"""How much the listener may grow while dozens of peers are at it."""
_C_STORE_RSP = 0x8001


@dataclass
class Heard:
    """What the listener said in one conversation."""

    ended: str = "closed"
    stored: list[str] = field(default_factory=list)
    refused: int = 0


@dataclass
class Result:
    """What came of a campaign; `broken` names what should not be."""

    cases: int = 0
    ended: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    acknowledged: int = 0
    good: int = 0
    slowest_good_seconds: float = 0.0
    rss_before: int = 0
    rss_peak: int = 0
    log_lines: int = 0
    seconds: float = 0.0
    broken: list[str] = field(default_factory=list)


class Campaign:
    """Runs cases against a listener that is running.

    Parameters
    ----------
    listener
        With an empty spool.
    seed
        Of all cases.
    peers
        Conversations at once.
    served_within
        How long a good sender may wait, seconds, where that is more than its patience.
    """

    def __init__(self, listener: ListenerProcess, *, seed: int, peers: int = 8, served_within: float = 0.0) -> None:
        self._listener = listener
        self._seed = seed
        self._peers = peers
        self._served_within = served_within
        self._lock = threading.Lock()
        self._told: Counter[str] = Counter()
        self._expected: dict[str, bytes] = {}
        self.result = Result()

    def run(self, first: int, count: int) -> Result:
        """Run so many cases, from number `first`."""
        began = time.monotonic()
        process = psutil.Process(self._listener.pid)
        good = GoodSender(self._listener)
        good.send()
        threads, descriptors = process.num_threads(), process.num_fds()
        self.result.rss_before = self.result.rss_peak = process.memory_info().rss
        stop = threading.Event()
        beside = threading.Thread(target=self._good, args=(good, process, stop))
        beside.start()
        with ThreadPoolExecutor(self._peers) as pool:
            for _ in pool.map(self._case, range(first, first + count)):
                pass
        stop.set()
        beside.join()
        self.result.cases, self.result.good = count, len(good.sent)
        self.result.slowest_good_seconds = max(good.seconds)
        self._look(good, process, threads, descriptors)
        self.result.seconds = time.monotonic() - began
        return self.result

    def _good(self, good: GoodSender, process: psutil.Process, stop: threading.Event) -> None:
        while not stop.wait(0.05):
            try:
                if good.send() > max(good.patience, self._served_within):
                    self._broken(f"a good sender waited {good.seconds[-1]:.1f} s")
            except Exception as error:  # noqa: BLE001 - whatever it is, the good sender was not served
                self._broken(f"a good sender was not served: {error!r}")
                return
            self.result.rss_peak = max(self.result.rss_peak, process.memory_info().rss)

    def _case(self, number: int) -> None:
        kind, case = make(self._seed, number)
        try:
            heard = self._converse(case)
        except TimeoutError:
            heard = Heard("no end")
            self._broken(f"case {number} ({kind}) was left without an end")
        missing = case.stored.keys() - set(heard.stored)
        with self._lock:
            self.result.ended[kind][heard.ended] += 1
            self._told.update(heard.stored)
            self._expected.update(case.stored)
        if missing:
            self._broken(f"case {number} ({kind}) was right, and was not answered with success: {heard}")

    def _converse(self, case: Case) -> Heard:
        address = self._listener.host, self._listener.port
        with socket.create_connection(address, timeout=20, source_address=(HOSTILE, 0)) as connection:
            received = bytearray()
            try:
                self._talk(connection, case, received)
            except TimeoutError:
                raise
            except OSError:
                pass  # they may close at any time; what was received counts
        return understood(bytes(received))

    def _talk(self, connection: socket.socket, case: Case, received: bytearray) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(case.request)
        if case.rest and self._accepted(connection, received, 20.0 if case.stored else 1.0):
            for piece in case.rest:
                connection.sendall(piece)
        if case.end == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if case.end == "half closed":
            connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(65536):
                received += piece

    @staticmethod
    def _accepted(connection: socket.socket, received: bytearray, seconds: float) -> bool:
        """Read the answer to the request; nobody is waited for who announced more than was sent."""
        connection.settimeout(seconds)
        try:
            received += connection.recv(65536)
        except TimeoutError:
            return False
        finally:
            connection.settimeout(20.0)
        return received[:1] == bytes((ASSOCIATE_AC,))

    def _look(self, good: GoodSender, process: psutil.Process, threads: int, descriptors: int) -> None:
        """Look whether everything is as it has to be, once all peers are gone."""
        if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
            self._broken("the listener is dead")
            return
        kept: dict[str, list[bytes]] = defaultdict(list)
        for path in self._listener.arrivals():
            meta, data = spooled(path)
            kept[text(meta[0x0003])].append(data)
        self.result.acknowledged = sum(self._told.values())
        for instance, times in self._told.items():
            if len(kept[instance]) < times:
                self._broken(
                    f"{instance}: {times} times answered with success, {len(kept[instance])} times in the spool"
                )
        for instance, data in self._expected.items():
            if data not in kept[instance]:
                self._broken(f"{instance} is not in the spool as it was sent")
        try:
            good.assert_kept()
        except AssertionError:
            self._broken("what the good sender sent is not in the spool as it was sent")
        deadline = time.monotonic() + 30
        for what, now in {
            "partial files": lambda: len(self._listener.partials()),
            "threads": lambda: max(0, process.num_threads() - threads),
            "descriptors": lambda: max(0, process.num_fds() - descriptors),
        }.items():
            while now() and time.monotonic() < deadline:
                time.sleep(0.05)
            if now():
                self._broken(f"{now()} {what} were left")
        if self.result.rss_peak - self.result.rss_before > GROWTH:
            self._broken(f"the listener grew by {(self.result.rss_peak - self.result.rss_before) // MEBIBYTE} MiB")
        self._look_at_the_log()

    def _look_at_the_log(self) -> None:
        lines = self._listener.log.read_text().splitlines()
        self.result.log_lines = len(lines)
        for line in lines:
            try:
                event = json.loads(line)
            except ValueError:
                self._broken(f"a line of the log is none of ours: {line[:100]!r}")
                continue
            if PATIENT.decode() in line:
                self._broken(f"the log names a patient: {event['event']}")
            if event["level"] in {"error", "critical"}:
                self._broken(f"the log has an error: {event['event']} {str(event.get('exception'))[-150:]!r}")

    def _broken(self, what: str) -> None:
        with self._lock:
            self.result.broken.append(what)


def understood(stream: bytes) -> Heard:
    """Read the PDUs that the listener sent."""
    heard, position, command = Heard(), 0, b""
    while position + 6 <= len(stream):
        kind, _, length = struct.unpack_from(">BBL", stream, position)
        body = stream[position + 6 : position + 6 + length]
        position += 6 + length
        if kind in {ASSOCIATE_RJ, ABORT, RELEASE_RP}:
            heard.ended = {ASSOCIATE_RJ: "rejected", ABORT: "aborted", RELEASE_RP: "released"}[kind]
        elif kind == P_DATA:
            command += body[6:]
            if body[5] & 2:
                _take(parse_command_set(command), heard)
                command = b""
    return heard


def _take(response: dict[int, bytes], heard: Heard) -> None:
    if int.from_bytes(response[0x0100], "little") != _C_STORE_RSP:
        return
    if int.from_bytes(response[0x0900], "little") == 0:
        heard.stored.append(text(response[0x1000]))
    else:
        heard.refused += 1
