"""What the campaign sends: small films as data sets of bytes, and the senders, who write down every answer."""

import hashlib
import itertools
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import pydicom
from pydicom.uid import generate_uid

from tests.support.objects import film
from tests.support.raw_store import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    AssociationAborted,
    AssociationRejected,
    RawAssociation,
)

BROKEN = (AssociationAborted, AssociationRejected, OSError)
"""How an association ends when the listener dies, or is not there."""


@dataclass(frozen=True)
class Scan:
    """An object as it goes over the network; `digest` is the SHA-256 of its data set."""

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    data: bytes

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


@dataclass(frozen=True)
class Answered:
    """One attempt to send one object: the DIMSE status, None where the association broke before there was one."""

    scan: Scan
    status: int | None
    at: float


def scan(**attributes: Any) -> Scan:
    """A film; `attributes` replace, and `rows` makes it larger."""
    rows = attributes.pop("rows", 64)
    image = np.linspace(0, 4095, rows * 48).reshape(rows, 48).astype(np.uint16)
    ds = film(image, **attributes)
    buffer = BytesIO()
    pydicom.dcmwrite(buffer, ds, implicit_vr=False, little_endian=True)
    return Scan(ds.SOPClassUID, ds.SOPInstanceUID, ds.StudyInstanceUID, buffer.getvalue())


def films(count: int, **attributes: Any) -> list[Scan]:
    """Films, each a study of its own with a patient of its own."""
    return [scan(**{"PatientID": f"F{number}"} | attributes) for number in range(count)]


def study(count: int, **attributes: Any) -> list[Scan]:
    """Films of one study."""
    shared = {"StudyInstanceUID": generate_uid(prefix=None), "SeriesInstanceUID": generate_uid(prefix=None)}
    return [scan(**shared | attributes) for _ in range(count)]


class Modality:
    """A Storage SCU that writes down what it was answered, and knows nothing of what is behind the port."""

    def __init__(self, port: int, name: str = "MODALITY") -> None:
        self.port, self.name = port, name
        self.log: list[Answered] = []
        self._lock = threading.Lock()

    def _note(self, scan: Scan, status: int | None) -> None:
        with self._lock:
            self.log.append(Answered(scan, status, time.monotonic()))

    def push(self, scans: Sequence[Scan]) -> list[Scan]:
        """Send over one association; return what was not answered with success."""
        left = list(scans)
        refused: list[Scan] = []
        contexts = [(name, [EXPLICIT_VR_LITTLE_ENDIAN]) for name in dict.fromkeys(s.sop_class_uid for s in scans)]
        places = {name: 2 * index + 1 for index, (name, _) in enumerate(contexts)}
        try:
            with RawAssociation("127.0.0.1", self.port, contexts, calling=self.name, timeout=60) as association:
                while left:
                    one = left[0]
                    try:
                        status = association.store(
                            one.sop_class_uid, one.sop_instance_uid, one.data, context_id=places[one.sop_class_uid]
                        )
                    except BROKEN:
                        self._note(one, None)
                        raise
                    self._note(one, status)
                    left.pop(0)
                    if status != 0:
                        refused.append(one)
        except BROKEN:
            time.sleep(0.2)
        return [*left, *refused]

    def push_until_accepted(self, scans: Sequence[Scan], seconds: float) -> list[Scan]:
        """Send as a modality does: what was not answered with success is sent again; return what never was."""
        deadline = time.monotonic() + seconds
        left = list(scans)
        while left and time.monotonic() < deadline:
            left = self.push(left)
        return left

    def push_in_parallel(self, scans: Sequence[Scan], associations: int, seconds: float) -> None:
        """Send over several associations at once."""
        shares = [scans[start::associations] for start in range(associations)]
        threads = [
            threading.Thread(target=self.push_until_accepted, args=(share, seconds), daemon=True) for share in shares
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def acknowledged(logs: Iterable[Modality]) -> dict[tuple[str, str], Scan]:
    """What was answered with 0x0000, each SOP instance with the bytes it had, once."""
    answers = itertools.chain.from_iterable(modality.log for modality in logs)
    return {(a.scan.sop_instance_uid, a.scan.digest): a.scan for a in answers if a.status == 0}
