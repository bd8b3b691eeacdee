"""Requests in, DIMSE statuses out, judged from the command set alone: the data set is intake's to read."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from dicom_listener.commitment import Commitment
from dicom_listener.dimse_status import ACCEPTED, BAD_INSTANCE_UID, NO_DATA_SET, NO_STORAGE_CLASS, UNEXPECTED, Answer
from dicom_listener.file_meta import encode_head
from dicom_listener.negotiation import is_storage
from dicom_listener.reception import Reception
from dicom_listener.request import Request, shown
from worker.commitment.message import Kind
from worker.intake.spool import Spool
from worker.logs import get_logger
from worker.metrics import store_seconds
from worker.uids import is_uid

log = get_logger(__name__)


class Operation(Protocol):
    """A request under way: its data set, if any, is written fragment by fragment, then it is finished, then told of."""

    def write(self, *fragments: memoryview) -> None:
        """Take the next fragments of the data set; they are looked at no more afterwards."""

    def finish(self) -> Answer | None:
        """Return what to answer; None: nothing."""

    def tell(self) -> None:
        """Log and count what was answered; the answer is on its way, so that the peer does not wait for this."""

    def abandon(self) -> None:
        """Let go of what was kept: the association ended before the data set was complete."""


class Drain:
    """An operation whose data set nobody wants: read past it, then answer."""

    def __init__(self, answer: Answer | None) -> None:
        self._answer = answer

    def write(self, *fragments: memoryview) -> None:
        """Let the fragments go."""

    def finish(self) -> Answer | None:
        """Return the answer that was decided at the start."""
        return self._answer

    def tell(self) -> None:
        """There is nothing to tell."""

    def abandon(self) -> None:
        """Nothing was kept."""


def judge(request: Request) -> Answer | None:
    """Return why a C-STORE request is refused whatever its data set says, or None."""
    if not (is_storage(request.sop_class_uid) and is_storage(request.abstract_syntax_uid)):
        return NO_STORAGE_CLASS
    if not is_uid(request.sop_instance_uid):
        return BAD_INSTANCE_UID
    if not request.has_data_set:
        return NO_DATA_SET
    return None


class Handlers:
    """What the listener does for its peers.

    Parameters
    ----------
    spool
        Where accepted objects go.
    max_object_bytes
        Largest data set accepted, bytes.
    """

    def __init__(self, spool: Spool, *, max_object_bytes: int) -> None:
        self.spool = spool
        self.max_object_bytes = max_object_bytes
        self._log = log.bind()  # once for all objects: to put a logger together takes longer than to log

    def echo(self) -> Operation:
        """Answer a C-ECHO."""
        return Drain(ACCEPTED)

    def store(self, request: Request) -> Operation:
        """Begin a C-STORE; never raises."""
        return Store(self.spool, request, max_object_bytes=self.max_object_bytes, log=self._log)

    def commitment(self, kind: Kind, request: Request, type_id: int) -> Operation:
        """Begin an N-ACTION (a request to commit) or an N-EVENT-REPORT (the result of ours); never raises."""
        return Commitment(self.spool, kind, request, type_id)


class Store:
    """One C-STORE from its command set to its answer; whatever happens inside becomes a status and a log line."""

    def __init__(self, spool: Spool, request: Request, *, max_object_bytes: int, log: Any) -> None:
        self._log = log
        self._spool = spool
        self._request = request
        self._started = time.perf_counter()
        self._reception: Reception | None = None
        self._answer = UNEXPECTED
        self._seconds = 0.0
        with self._guarded():
            refusal = judge(request)
            head = b"" if refusal else _head(request)
            self._reception = Reception(spool, head, max_object_bytes=max_object_bytes, refusal=refusal)

    def write(self, *fragments: memoryview) -> None:
        """Write the fragments to the spool, or let them go when the object is refused."""
        if self._reception is None:
            return
        try:
            self._reception.write(*fragments)
        except Exception:
            with self._guarded():  # here alone: this is done too often for a context each time
                raise

    def finish(self) -> Answer:
        """Make the object durable and say so, or say why not."""
        with self._guarded():
            if self._reception is not None:
                self._answer = self._reception.finish()
        self._seconds = time.perf_counter() - self._started
        return self._answer

    def tell(self) -> None:
        """Wake intake up; log and count the answer, with what it took until it was known."""
        if self._answer is ACCEPTED:
            self._spool.ring()
        store_seconds.observe(self._seconds)
        answer = self._answer
        facts = {
            **self._who(),
            "bytes": self._reception.data_set_bytes if self._reception else 0,
            "ms": round(1000 * self._seconds, 1),
        }
        if answer is ACCEPTED and self._reception is not None:
            self._log.info("object_stored", **facts, spool_name=self._reception.name)
        else:
            status = f"{answer.status:04X}"
            log.warning("object_refused", **facts, status=status, why=answer.comment, fix=answer.fix)

    def abandon(self) -> None:
        """Remove what had arrived of the object: the association ended before it was complete."""
        arrived = self._reception.data_set_bytes if self._reception else 0
        self._let_go()
        log.warning(
            "transfer_abandoned",
            **self._who(),
            bytes=arrived,
            fix="nothing is lost here: the sender had no answer and has to send again",
        )

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Turn what nobody expected into a processing failure: nothing that one object does may end the listener."""
        try:
            yield
        except Exception:
            log.exception("store_failed", **self._who())
            self._let_go()

    def _let_go(self) -> None:
        reception, self._reception = self._reception, None
        if reception is not None:
            reception.abandon()

    def _who(self) -> dict[str, str | int]:
        request = self._request
        return {
            "association": request.association,
            "calling_ae": request.calling_ae,
            "called_ae": request.called_ae,
            "sop_class_uid": shown(request.sop_class_uid),
            "sop_instance_uid": shown(request.sop_instance_uid),
            "transfer_syntax_uid": request.transfer_syntax_uid,
        }


def _head(request: Request) -> bytes:
    return encode_head(
        sop_class_uid=request.sop_class_uid,
        sop_instance_uid=request.sop_instance_uid,
        transfer_syntax_uid=request.transfer_syntax_uid,
        calling_ae=request.calling_ae,
        called_ae=request.called_ae,
    )
