"""What comes in over a connection: read ahead into one buffer, and handed out from there PDU by PDU, uncopied."""

import mmap
import os
import socket
import ssl
import struct
import time

MAX_PDU_LENGTH = 131072
"""What we offer as maximum length (PS3.8 D.1), bytes."""
PACE_BYTES = 4096
"""A peer that moves less than this in a while is slow (`places`)."""

HEAD = struct.Struct(">BBL")
"""PDU type, reserved, length of what follows (PS3.8 9.3.1)."""
_HEAD_BYTES = HEAD.size
AHEAD = 8 * (HEAD.size + MAX_PDU_LENGTH)
"""Eight of the longest PDUs that we offer to take, bytes: a sender that uses all of it is read without a byte being
moved, and what is written at once is long enough for the file system to take in large pieces."""


class Pace:
    """How fast the peer moves; the time that we take for our own part does not count."""

    def __init__(self) -> None:
        self._bytes = 0
        self._since = time.monotonic()
        self._at_work_since: float | None = None

    @property
    def slow_seconds(self) -> float:
        """How long ago the peer had last moved `PACE_BYTES`."""
        until = self._at_work_since  # once: another thread asks
        return (time.monotonic() if until is None else until) - self._since

    def moved(self, count: int) -> None:
        """Count bytes that have come."""
        self._bytes += count
        if self._bytes >= PACE_BYTES:
            self._bytes, self._since = 0, time.monotonic()

    def work_begins(self) -> None:
        """Stop the clock: from now on it is us whom the peer waits for."""
        self._at_work_since = time.monotonic()

    def work_ends(self) -> None:
        """Start the clock again, if it stands."""
        began, self._at_work_since = self._at_work_since, None
        if began is not None:
            self._since += time.monotonic() - began


class Inflow:
    """The bytes of one connection, read without ever waiting for them.

    The buffer is anonymous memory, of which the system gives only the pages that something was read into: a connection
    that says next to nothing costs next to nothing.

    Parameters
    ----------
    connection
        The connected socket, plain or over TLS, with a timeout.

    Attributes
    ----------
    pace
        How fast the peer moves.
    begun_at
        When the first byte of the PDU came that is not whole yet (`time.monotonic`); None: there is none.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.pace = Pace()
        self.begun_at: float | None = None
        self._connection = connection
        self._buffer = mmap.mmap(-1, AHEAD)
        self._view = memoryview(self._buffer)
        self._start = self._end = 0
        self._wanted = _HEAD_BYTES
        """How much of the next PDU there has to be room for, bytes."""

    def head(self) -> tuple[int, int] | None:
        """Return the type of the next PDU and the length of what follows its head, bytes; None where less is there."""
        if self._end - self._start < _HEAD_BYTES:
            return None
        kind, _, length = HEAD.unpack_from(self._view, self._start)
        return kind, length

    def ready(self) -> bool:
        """Say whether the next PDU is here, all of it."""
        head = self.head()
        return head is not None and self._end - self._start >= _HEAD_BYTES + head[1]

    def body(self, length: int) -> memoryview | None:
        """Return what follows the head of the next PDU, valid until the next `fill`; None where not all is there.

        The next `fill` makes room for it then: in the buffer, or in a longer one.
        """
        begins = self._start + _HEAD_BYTES
        ends = begins + length
        if ends <= self._end:
            return self._view[begins:ends]
        self._wanted = _HEAD_BYTES + length
        return None

    def drop(self, length: int) -> None:
        """Let the next PDU go, its head and the `length` bytes that follow."""
        self._start += _HEAD_BYTES + length
        if self._start == self._end:
            self._start = self._end = 0
            self.begun_at = None
        else:
            self.begun_at = time.monotonic()

    def fill(self) -> int | None:
        """Read what has come and has room; return how many bytes, 0 at the end of the connection, None for nothing.

        Over TLS, what has come may be part of a record, or a message of TLS itself: that is nothing.

        Raises
        ------
        OSError
            The connection is broken.
        """
        if self._start + self._wanted > len(self._view):
            self._make_room(self._wanted)
        self._wanted = _HEAD_BYTES
        room = self._view[self._end :]
        if isinstance(self._connection, ssl.SSLSocket):
            count = self._decrypt(self._connection, room)
        else:
            try:
                count = os.readv(self._connection.fileno(), [room])
            except BlockingIOError:
                return None
        if count:
            self._end += count
            self.pace.moved(count)
            if self.begun_at is None:
                self.begun_at = time.monotonic()
        return count

    def discard(self) -> bool:
        """Read past something that has come; say whether the connection goes on."""
        self._start = self._end = 0
        try:
            return self.fill() != 0
        except OSError:
            return False

    def hurry(self) -> None:
        """Acknowledge what has come without the usual delay of 40 ms (tcp(7); to be asked for each time).

        Many senders write a PDU's header and body apart and leave Nagle's algorithm on: their kernel holds the body
        back until ours has acknowledged the header.
        """
        if hasattr(socket, "TCP_QUICKACK"):
            self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def close(self) -> None:
        """Give the memory back."""
        self._view = memoryview(b"")
        self._buffer = mmap.mmap(-1, 1)
        self._start = self._end = 0

    def _decrypt(self, connection: ssl.SSLSocket, room: memoryview) -> int | None:
        """Read record after record, a call each, until nothing more is there."""
        count = 0
        timeout = connection.gettimeout()
        connection.settimeout(0)
        try:
            while count < len(room) and (received := connection.recv_into(room[count:])):
                count += received
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return count or None
        finally:
            connection.settimeout(timeout)
        return count  # the buffer is full, or this is the end; what came before the end counts first

    def _make_room(self, size: int) -> None:
        """Move what is there to the front, of a longer buffer where this one cannot hold `size` bytes."""
        kept = self._end - self._start
        if size > len(self._view):
            longer = mmap.mmap(-1, size)
            longer[:kept] = self._view[self._start : self._end]
            self._buffer, self._view = longer, memoryview(longer)
        else:
            self._buffer.move(0, self._start, kept)
        self._start, self._end = 0, kept
