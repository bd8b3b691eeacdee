"""The places of several processes together: one of them counts, the others ask it.

A line of JSON each way over a socket pair. A process asks (`enter`, `associate`) and tells (`dissociate`, `leave`) of
its connections by the numbers of their associations, which no other process gives; it is answered, told who has to
`go`, and asked (an `inquiry`, by its number) for the `paces`: how long each of its associations has been moving next to
nothing.
"""

import contextlib
import errno
import itertools
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any

from dicom_listener.places import FrontDesk, Occupant, Places
from worker.logs import get_logger

log = get_logger(__name__)

PACES_SECONDS = 0.5
"""How long a process may take to say how slow its associations are; one that does not has none that are."""
SEND_SECONDS = 5.0
"""How long a process may take to read what it is told; one that does not is given up."""


def channel() -> tuple[socket.socket, socket.socket]:
    """Return the two ends over which a process asks for places: the one of who counts, and its own."""
    ends = socket.socketpair()
    patience = struct.pack("ll", int(SEND_SECONDS), int(SEND_SECONDS % 1 * 1_000_000))
    for end in ends:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, patience)
    return ends


class _Lines:
    """Messages over one end of a channel; sent from any thread, received in one."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._sending = threading.Lock()

    def send(self, **message: Any) -> None:
        """Send a message; `OSError` where nobody takes it: half of it may be on its way, and nothing follows."""
        with self._sending:
            try:
                self._end.sendall(json.dumps(message).encode() + b"\n")
            except OSError:
                self._shut()
                raise

    def received(self) -> Iterator[dict[str, Any]]:
        """Yield what comes, until the other end is closed."""
        with contextlib.suppress(OSError), self._end.makefile("rb") as lines:
            for line in lines:
                if line.endswith(b"\n"):  # a process that was killed may leave half a line
                    yield json.loads(line)

    def close(self) -> None:
        """Close our end, and wake up who receives."""
        self._shut()
        self._end.close()

    def _shut(self) -> None:
        with contextlib.suppress(OSError):
            self._end.shutdown(socket.SHUT_RDWR)


class AskedPlaces:
    """Places that another process counts.

    Parameters
    ----------
    end
        Our end of the channel to it.
    lost
        Called when it is there no more.
    """

    def __init__(self, end: socket.socket, lost: Callable[[], None]) -> None:
        self._lost = lost
        self._lines = _Lines(end)
        self._occupants: dict[int, Occupant] = {}
        self._answers: dict[int, SimpleQueue[bool]] = {}
        self._over = False
        threading.Thread(target=self._listen, name="places", daemon=True).start()

    def ready(self) -> None:
        """Tell that connections are accepted from now on."""
        self._lines.send(ready=True)

    def enter(self, newcomer: Occupant) -> bool:
        """Ask for a place for a connection."""
        self._occupants[newcomer.number] = newcomer
        self._answers[newcomer.number] = SimpleQueue()
        if self._ask("enter", newcomer, address=newcomer.address, peer=newcomer.peer):
            return True
        self.leave(newcomer)
        return False

    def associate(self, newcomer: Occupant) -> bool:
        """Ask for an association for it."""
        return self._ask("associate", newcomer)

    def dissociate(self, occupant: Occupant) -> None:
        """Give the association back."""
        with contextlib.suppress(OSError):
            self._lines.send(tell="dissociate", number=occupant.number)

    def leave(self, occupant: Occupant) -> None:
        """Give the place back."""
        if self._occupants.pop(occupant.number, None) is not None:
            self._answers.pop(occupant.number)
            with contextlib.suppress(OSError):
                self._lines.send(tell="leave", number=occupant.number)

    def _ask(self, what: str, newcomer: Occupant, **facts: str) -> bool:
        answer = self._answers[newcomer.number]
        if self._over:
            return False
        try:
            self._lines.send(ask=what, number=newcomer.number, **facts)
        except OSError:
            return False
        return answer.get()

    def _listen(self) -> None:
        try:
            self._take_all()
        finally:
            self._over = True
            for answer in list(self._answers.values()):
                answer.put(False)
            self._lost()

    def _take_all(self) -> None:
        for message in self._lines.received():
            if "yes" in message:
                if answer := self._answers.get(message["number"]):
                    answer.put(message["yes"])
            elif "go" in message:
                if occupant := self._occupants.get(message["go"]):
                    occupant.give_way()
            else:
                paces = {one: occupant.slow_seconds for one, occupant in list(self._occupants.items())}
                with contextlib.suppress(OSError):
                    self._lines.send(paces=paces, inquiry=message["inquiry"])


class _Remote:
    """A connection of another process, as far as its place is concerned."""

    def __init__(self, lines: _Lines, number: int, address: str, peer: str) -> None:
        self.number, self.address, self.peer = number, address, peer
        self.slow_seconds = 0.0
        """As it was told just now; 0 otherwise."""
        self._lines = lines

    def give_way(self) -> None:
        """Have it closed by its process."""
        with contextlib.suppress(OSError):
            self._lines.send(go=self.number)


class CommonPlaces:
    """Counts the places of all processes.

    Parameters
    ----------
    places
        By whose rules.
    """

    def __init__(self, places: Places) -> None:
        self._places = places
        self._windows: list[Window] = []
        self._asking = threading.Lock()

    def open(self, end: socket.socket) -> "Window":
        """Serve a process over our end of the channel to it, until it closes its own.

        Raises
        ------
        OSError
            No thread can be had to serve it; our end is closed.
        """
        window = Window(end, self._places, self._associate_by_pace, self._windows.remove)
        self._windows.append(window)
        try:
            window.start()
        except RuntimeError as error:
            self._windows.remove(window)
            end.close()
            raise OSError(errno.EAGAIN, str(error)) from error
        return window

    def _associate_by_pace(self, newcomer: _Remote) -> bool:
        """Give an association once it is known who is slow."""
        with self._asking:
            windows = list(self._windows)
            for window in windows:
                window.ask_paces()
            for window in windows:
                window.wait_for_paces(PACES_SECONDS)
            given = self._places.associate(newcomer)
            for window in windows:
                window.forget_paces()
        return given


ByPace = Callable[[_Remote], bool]
Closed = Callable[["Window"], None]


class Window:
    """Where one process asks: answers it in a thread of its own, and gives its places back when it has ended."""

    def __init__(self, end: socket.socket, places: FrontDesk, associate_by_pace: ByPace, closed: Closed) -> None:
        self.accepts = False
        """Whether the process accepts connections: it has said so, and has not ended."""
        self._lines = _Lines(end)
        self._places = places
        self._associate_by_pace = associate_by_pace
        self._closed = closed
        self._remotes: dict[int, _Remote] = {}
        self._inquiries = itertools.count(1)
        self._inquiry: int | None = None
        """The one that is open: an answer to any other comes too late, and what it says holds no more."""
        self._noting = threading.Lock()
        self._told = threading.Event()

    def start(self) -> None:
        """Answer from now on."""
        threading.Thread(target=self._serve, name="places of an acceptor", daemon=True).start()

    def ask_paces(self) -> None:
        """Ask for the paces of all its associations."""
        with self._noting:
            self._inquiry = inquiry = next(self._inquiries)
            self._told.clear()
        try:
            self._lines.send(inquiry=inquiry)
        except OSError:
            self._told.set()

    def wait_for_paces(self, seconds: float) -> None:
        """Wait until they are here, or for so long."""
        self._told.wait(seconds)

    def forget_paces(self) -> None:
        """Take nobody for slow by what was told before, or will be told of the same."""
        with self._noting:
            self._inquiry = None
            for remote in list(self._remotes.values()):
                remote.slow_seconds = 0.0

    def _serve(self) -> None:
        try:
            for message in self._lines.received():
                self._take(message)
        finally:
            self._closed(self)
            self.accepts = False
            self._told.set()
            for remote in self._remotes.values():
                self._places.leave(remote)
            self._lines.close()

    def _take(self, message: dict[str, Any]) -> None:
        if "ready" in message:
            self.accepts = True
        elif "paces" in message:
            self._note_paces(message["inquiry"], message["paces"])
        elif message.get("ask") == "enter":
            remote = _Remote(self._lines, message["number"], message["address"], message["peer"])
            self._remotes[remote.number] = remote
            self._answer(remote, self._places.enter(remote))
        elif message.get("ask") == "associate":
            remote = self._remotes[message["number"]]
            if self._places.associate(remote):
                self._answer(remote, yes=True)
            else:  # in a thread of its own: the paces of this process come through this one
                threading.Thread(target=self._ask_around, args=(remote,), name="paces", daemon=True).start()
        elif message["tell"] == "dissociate":
            self._places.dissociate(self._remotes[message["number"]])
        elif gone := self._remotes.pop(message["number"], None):
            self._places.leave(gone)

    def _note_paces(self, inquiry: int, paces: dict[str, float]) -> None:
        with self._noting:
            if inquiry != self._inquiry:
                return
            for number, seconds in paces.items():
                if remote := self._remotes.get(int(number)):
                    remote.slow_seconds = seconds
            self._told.set()

    def _ask_around(self, remote: _Remote) -> None:
        self._answer(remote, self._associate_by_pace(remote))

    def _answer(self, remote: _Remote, yes: bool) -> None:
        with contextlib.suppress(OSError):
            self._lines.send(number=remote.number, yes=yes)
