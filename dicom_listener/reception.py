"""One data set on its way from the network into the spool, never held in memory.

Whatever goes wrong is remembered as the answer, and the rest of the data set is drained: a peer that sends gets its
status at the end, and its association lives on.
"""

from dicom_listener.dimse_status import ACCEPTED, Answer, no_room, not_writable, too_large
from worker.intake.spool import Incoming, Spool
from worker.logs import get_logger

log = get_logger(__name__)

CHECK_BYTES = 16 << 20
"""The free space is looked at again each time so much of one object has arrived."""


class Reception:
    """Write fragments as they come, then `finish` (durable, or refused) or `abandon`.

    Parameters
    ----------
    spool
        Where the object goes.
    head
        What stands before the data set in the file.
    max_object_bytes
        Largest data set accepted, bytes.
    refusal
        Given when the request was refused already: then nothing is written and the data set is only drained.
    """

    def __init__(self, spool: Spool, head: bytes, *, max_object_bytes: int, refusal: Answer | None = None) -> None:
        self.data_set_bytes = 0
        self.name = ""
        self._spool = spool
        self._max_object_bytes = max_object_bytes
        self._next_check = 0
        self._refusal = refusal
        self._incoming: Incoming | None = None
        if refusal is None:
            self._open(head)

    @property
    def refused(self) -> bool:
        """Whether the object will be refused, as far as is known by now."""
        return self._refusal is not None

    def write(self, *fragments: memoryview) -> None:
        """Take the next fragments of the data set."""
        self.data_set_bytes += sum(map(len, fragments))
        if self._incoming is None:
            return
        if self.data_set_bytes > self._max_object_bytes:
            self.refuse(too_large(self._max_object_bytes))
            return
        try:
            if self.data_set_bytes >= self._next_check and not self._has_room():
                return
            self._incoming.write(*fragments)
        except OSError as error:
            self.refuse(not_writable(error))

    def finish(self) -> Answer:
        """Make the object durable and return the answer to it: success only when bytes and name are on the disk."""
        if self._incoming is not None:
            try:
                self._incoming.commit()
            except OSError as error:
                self.refuse(not_writable(error))
            else:
                self.name = self._incoming.name
                self._discard()
        return self._refusal or ACCEPTED

    def refuse(self, answer: Answer) -> None:
        """Give the object up: its partial file goes at once, what still comes is drained."""
        self._refusal = answer
        self._discard()

    def abandon(self) -> None:
        """Remove the partial file: the sender is gone."""
        self._discard()

    def _open(self, head: bytes) -> None:
        try:
            if self._has_room():
                self._incoming = self._spool.receive()
                self._incoming.write(head)
        except OSError as error:
            self.refuse(not_writable(error))

    def _has_room(self) -> bool:
        self._next_check = self.data_set_bytes + CHECK_BYTES
        if self._spool.has_room():
            return True
        self.refuse(no_room(self._spool.free_bytes(), self._spool.min_free_bytes))
        return False

    def _discard(self) -> None:
        incoming, self._incoming = self._incoming, None
        if incoming is None:
            return
        try:
            incoming.close()
        except OSError as error:
            log.warning("partial_file_left", name=incoming.name, error=str(error), fix="it is swept at the next start")
