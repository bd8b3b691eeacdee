"""A PACS that can be told how to behave, and writes down every object that reached it, byte by byte."""

import hashlib
import logging
import threading
import time
from dataclasses import dataclass
from typing import Any, Self

from pydicom import dcmread
from pydicom.filebase import DicomBytesIO
from pydicom.uid import Comprehensive3DSRStorage, ComprehensiveSRStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.sop_class import Verification

from tests.support.stack import free_port

logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)


@dataclass(frozen=True)
class Arrival:
    """A report that the PACS has kept. `evidence`: the SOP Instance UIDs it says it is about."""

    sop_instance_uid: str
    study_instance_uid: str
    digest: str
    evidence: frozenset[str]


class MannerlyPacs:
    """A Storage SCP for Structured Reports.

    `manner` is one of: well, refusing (rejects the association), slow, closing (in the middle of the transfer),
    silent (keeps the object and breaks off without an answer), A700 (keeps nothing), B000 (keeps it, with a warning).
    """

    SLOW_SECONDS = 4.0

    def __init__(self) -> None:
        self.port = free_port()
        self.manner = "well"
        self.arrivals: list[Arrival] = []
        self.met: list[str] = []
        """The manner that each request met, so that a scenario can see that its fault struck."""
        self._lock = threading.Lock()
        self._server: Any = None

    @property
    def peer(self) -> str:
        return f"PACS@127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        ae = AE(ae_title="PACS")
        ae.maximum_pdu_size = 2048  # a report comes in several, so that there is a middle
        for name in (Comprehensive3DSRStorage, ComprehensiveSRStorage):
            ae.add_supported_context(name, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
        ae.add_supported_context(Verification)
        handlers = [
            (evt.EVT_REQUESTED, self._requested),
            (evt.EVT_DATA_RECV, self._received),
            (evt.EVT_C_STORE, self._store),
        ]
        self._server = ae.start_server(("127.0.0.1", self.port), block=False, evt_handlers=handlers)

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server = None

    def _meet(self) -> None:
        with self._lock:
            self.met.append(self.manner)

    def _requested(self, event: Any) -> None:
        if self.manner == "refusing":
            self._meet()
            event.assoc.acse.send_reject(0x02, 0x01, 0x02)  # transient, by the user: no reason given
            event.assoc.kill()

    def _received(self, event: Any) -> None:
        if self.manner == "closing" and event.data[:1] == b"\x04" and event.data[11:12] != b"\x03":  # of the data set
            self._meet()
            event.assoc.dul.socket.close()

    def _store(self, event: Any) -> int:
        manner = self.manner
        if manner in {"slow", "silent", "A700", "B000"}:
            self._meet()
        if manner == "slow":
            time.sleep(self.SLOW_SECONDS)
        if manner == "A700":
            return 0xA700
        encoded = event.request.DataSet.getvalue()
        ds = dcmread(DicomBytesIO(event.encoded_dataset()), stop_before_pixels=True)
        arrival = Arrival(
            str(ds.SOPInstanceUID),
            str(ds.StudyInstanceUID),
            hashlib.sha256(encoded).hexdigest(),
            frozenset(
                str(reference.ReferencedSOPInstanceUID)
                for sequence in ("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence")
                for evidence in ds.get(sequence, [])
                for series in evidence.ReferencedSeriesSequence
                for reference in series.ReferencedSOPSequence
            ),
        )
        with self._lock:
            self.arrivals.append(arrival)
        if manner == "silent":
            event.assoc.abort()
        return 0xB000 if manner == "B000" else 0x0000
