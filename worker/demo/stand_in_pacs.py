"""A stand-in PACS: it takes every object that is sent to it and keeps it in a folder, so that delivery is seen."""

import re
from pathlib import Path
from types import TracebackType
from typing import Self

from pynetdicom import AE, evt
from pynetdicom.events import Event
from pynetdicom.presentation import AllStoragePresentationContexts
from pynetdicom.sop_class import Verification

from worker.config import Peer
from worker.files import make_private

SUCCESS, OUT_OF_RESOURCES, INVALID_INSTANCE = 0x0000, 0xA700, 0x0117
"""DIMSE status (DICOM PS3.4 B.2.3, PS3.7 C.5)."""


class StandInPacs:
    """A Storage SCP on a free port of this machine, in threads of this process.

    Parameters
    ----------
    directory
        Where the objects are kept, each `<SOP Instance UID>.dcm` (made 0700).
    ae_title
        Its AE title; it answers to any.
    """

    def __init__(self, directory: Path, *, ae_title: str = "STANDINPACS") -> None:
        self.directory = make_private(directory)
        self._ae = AE(ae_title=ae_title)
        self._ae.maximum_associations = 100
        self._ae.supported_contexts = AllStoragePresentationContexts
        self._ae.add_supported_context(Verification)
        self._server = self._ae.start_server(
            ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store), (evt.EVT_C_ECHO, _echo)]
        )
        self.peer = Peer(ae_title=ae_title, host="127.0.0.1", port=self._server.server_address[1])

    def received(self) -> list[Path]:
        """Return the objects that have come."""
        return sorted(self.directory.glob("*.dcm"))

    def stop(self) -> None:
        """Close the port and end the associations."""
        self._ae.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _store(self, event: Event) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        if not re.fullmatch(r"[0-9.]{1,64}", uid):
            return INVALID_INSTANCE
        part = self.directory / f"{uid}.part"
        try:
            part.write_bytes(event.encoded_dataset())
            part.rename(part.with_suffix(".dcm"))
        except OSError:
            return OUT_OF_RESOURCES
        return SUCCESS


def _echo(_event: Event) -> int:
    return SUCCESS
