"""Storage SCUs: dcmtk's storescu for what is compared, a lean one of our own where a steady rate is wanted."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.bench.loads import Load, Sendable
from tests.support.raw_store import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    P_DATA,
    RawAssociation,
    fragments,
    pdu,
    pdv,
    store_request,
)
from worker.errors import FirstreadError

ROOM = 131072 - 6
"""Bytes of a fragment: every receiver here takes PDUs of 128 KiB."""
PATIENCE_SECONDS = 300.0
LOG_CONFIG = Path(__file__).with_name("storescu_log.cfg")
BEGIN, SUCCESS = "Sending file", "Received Store Response (Success)"


class NotSent(FirstreadError):
    """A sender did not get success for all it sent: a figure of such a round would be none."""


@dataclass(frozen=True)
class Storescu:
    """dcmtk's storescu.

    Attributes
    ----------
    nagle
        Leave Nagle's algorithm on, as modalities do that never heard of TCP_NODELAY.
    """

    nagle: bool = False

    @staticmethod
    def missing() -> str:
        """Say why it cannot be used; empty where it can."""
        return "" if shutil.which("storescu") else "dcmtk is not installed (Debian: dcmtk)"

    def push(self, port: int, called: str, files: Sequence[Path], count: int, associations: int) -> float:
        """Send `count` objects over each of several associations at once; return the seconds it took.

        The time runs from the moment the first object is read to the last answer, as the senders write it down: how
        long they need to start and to associate does not count. Each object goes out under a SOP Instance UID of its
        own, the files in turn.

        Raises
        ------
        NotSent
            Not all were answered with success.
        """
        environment = {name: value for name, value in os.environ.items() if name != "TCP_NODELAY"}
        if not self.nagle:
            environment["TCP_NODELAY"] = "1"
        turns, left = divmod(count, len(files))
        if left:
            raise ValueError(f"{count} objects are no whole number of turns of {len(files)} files")
        options = ["-R", "+II", "--repeat", str(turns), "-aec", called, "-aet", "BENCH", "--max-pdu", "131072"]
        address = ["127.0.0.1", str(port)]
        command = ["storescu", "--log-config", str(LOG_CONFIG), *options, *address, *map(str, files)]
        pushes = [
            subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            for _ in range(associations)
        ]
        try:
            with ThreadPoolExecutor(associations) as readers:  # a pipe that nobody reads would hold its sender up
                said = list(readers.map(lambda push: push.communicate(timeout=PATIENCE_SECONDS)[1], pushes))
        finally:
            for push in pushes:
                if push.poll() is None:
                    push.kill()
                    push.communicate()
        for push, words in zip(pushes, said, strict=True):
            if push.returncode or words.count(SUCCESS) != count:
                raise NotSent(f"storescu, exit {push.returncode}, {words.count(SUCCESS)} of {count}: {words[-500:]}")
        moments = [_moment(line) for words in said for line in words.splitlines() if BEGIN in line or SUCCESS in line]
        return max(moments) - min(moments)


def _moment(line: str) -> float:
    """Return the time that a line of storescu's begins with, seconds: `1795626886.104.394 …`."""
    seconds, milliseconds, microseconds = line.partition(" ")[0].split(".")
    return int(seconds) + int(milliseconds) / 1e3 + int(microseconds) / 1e6


class LeanSender:
    """One association that costs next to nothing: what all objects of a load share is made ready once."""

    def __init__(self, port: int, load: Load, *, called: str = "FIRSTREAD") -> None:
        self.load = load
        self._pixels = b"".join(
            pdu(P_DATA, pdv(1, control, fragment)) for control, fragment in fragments(load.pixels, ROOM)
        )
        contexts = [(load.sop_class_uid, [EXPLICIT_VR_LITTLE_ENDIAN])]
        self._association = RawAssociation("127.0.0.1", port, contexts, calling="BENCH", called=called, timeout=60)

    def __enter__(self) -> Self:
        self._association.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._association.__exit__(kind)

    def send(self, one: Sendable) -> None:
        """Send an object and wait for its answer.

        Raises
        ------
        NotSent
            It was not success.
        """
        request = pdv(1, 3, store_request(self.load.sop_class_uid, one.sop_instance_uid))
        self._association.send_pdvs(request, pdv(1, 0, one.head))
        self._association.socket.sendall(self._pixels)
        if status := self._association.status():
            raise NotSent(f"the answer to {one.sop_instance_uid} was {status:04X}")
