"""Whether the process has been told to stop: for signal handlers to say, and for its main loop to wait for."""

import select
import socket
from typing import Protocol


class Readable(Protocol):
    """A file, a socket, a pipe."""

    def fileno(self) -> int:
        """Return its descriptor."""


class Told:
    """A flag that a signal handler may set whatever it interrupts, a wait for it included.

    `threading.Event` is none: a wait holds its lock for moments, and a handler, which runs in the thread that it
    interrupts, would wait for that lock for ever.
    """

    def __init__(self) -> None:
        self._told = False
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)

    def set(self) -> None:
        """Say it."""
        if not self._told:
            self._told = True
            self._writer.send(b"\0")  # never read: whoever waits from now on is woken up at once

    def is_set(self) -> bool:
        """Whether it has been said."""
        return self._told

    def wait(self, timeout: float, *others: Readable) -> bool:
        """Wait until it is said or one of `others` is readable, at most `timeout` seconds; say whether it was said."""
        if not self._told:
            select.select([self._reader, *others], [], [], timeout)
        return self._told

    def close(self) -> None:
        """Let the sockets go."""
        self._reader.close()
        self._writer.close()
