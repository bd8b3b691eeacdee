"""Storage SCU: reports to a PACS, and whether it is there at all.

A report is sent as it is stored. Where the peer does not take its SOP Class, the same document goes as another kind of
SR, under the same SOP Instance UID: our documents use nothing (no 3D coordinates, no relationships by reference) that
Comprehensive SR lacks. Enhanced SR is never fallen back to: it is no superset of the others, and a document is made for
it from the start or not at all.
"""

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import (
    UID,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    EnhancedSRStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pynetdicom import build_context
from pynetdicom.sop_class import Verification

from worker.config import Credentials, Peer
from worker.errors import PeerUnreachable, ReportError, ReportRefused
from worker.reporting import storage_status
from worker.reporting.association import CONNECT_SECONDS, DIMSE_SECONDS, BrokenOff, NothingAccepted, association
from worker.reporting.kept_associations import KeptAssociations
from worker.reporting.sending import SendOutcome, send_files
from worker.reporting.storage_status import Answer

__all__ = ["Delivered", "KeptAssociations", "SendOutcome", "deliver", "echo", "send_files"]

FALLBACKS: dict[str, tuple[str, ...]] = {
    Comprehensive3DSRStorage: (ComprehensiveSRStorage,),
    ComprehensiveSRStorage: (Comprehensive3DSRStorage,),
    EnhancedSRStorage: (ComprehensiveSRStorage, Comprehensive3DSRStorage),
}
"""SOP Class of a stored report → what it may be sent as instead, in this order."""


@dataclass(frozen=True)
class Delivered:
    """What the peer said yes to: the SOP Class it went as, the DIMSE status, and a remark if there is one."""

    sop_class_uid: str
    status: int
    warning: str | None


def deliver(
    path: Path,
    peer: Peer,
    calling_ae: str,
    *,
    credentials: Credentials | None = None,
    connect_seconds: float = CONNECT_SECONDS,
    dimse_seconds: float = DIMSE_SECONDS,
    kept: KeptAssociations | None = None,
) -> Delivered:
    """Deliver one report.

    Parameters
    ----------
    path
        The stored report.
    peer, calling_ae
        Whom to, and our AE title.
    credentials
        The files of TLS, for a peer that is reached over it.
    connect_seconds, dimse_seconds
        Longest waits: for connection and association, for the answer to the C-STORE.
    kept
        What is open already, and stays open for other reports; None: an association for this one.

    Raises
    ------
    PeerUnreachable
        The peer cannot be reached, rejects the association, breaks off, or is out of resources (A7xx): later.
    ReportRefused
        The peer accepts no kind of SR that the report can go as, or answers with a failure status.
    ReportError
        The stored report cannot be read.
    """
    report = _read(path)
    candidates = (report.SOPClassUID, *FALLBACKS.get(report.SOPClassUID, ()))
    contexts = [build_context(name, [ExplicitVRLittleEndian, ImplicitVRLittleEndian]) for name in candidates]
    with KeptAssociations() if kept is None else nullcontext(kept) as associations:
        try:
            return associations.send(
                peer,
                calling_ae,
                contexts,
                lambda opened: _send(report, candidates, peer, opened),
                credentials=credentials,
                connect_seconds=connect_seconds,
                dimse_seconds=dimse_seconds,
            )
        except NothingAccepted as error:
            raise _not_accepted(peer, candidates) from error


def echo(
    peer: Peer,
    calling_ae: str,
    *,
    credentials: Credentials | None = None,
    connect_seconds: float = CONNECT_SECONDS,
    dimse_seconds: float = DIMSE_SECONDS,
) -> float:
    """Ask a peer whether it is there (C-ECHO); return the seconds from connection to answer.

    Raises
    ------
    PeerUnreachable
        It is not, or does not say yes.
    """
    begun = time.perf_counter()
    with association(
        peer,
        calling_ae,
        [build_context(Verification)],
        credentials=credentials,
        connect_seconds=connect_seconds,
        dimse_seconds=dimse_seconds,
    ) as opened:
        answer = opened.send_c_echo()
        seconds = time.perf_counter() - begun
        if "Status" not in answer:
            raise PeerUnreachable(f"{peer}: no answer to the C-ECHO within {dimse_seconds:g} s, or broken off")
        if answer.Status != storage_status.SUCCESS:
            raise PeerUnreachable(f"{peer}: answered the C-ECHO with 0x{answer.Status:04X}")
    return seconds


def _read(path: Path) -> Dataset:
    try:
        return dcmread(path)
    except (OSError, InvalidDicomError) as error:
        raise ReportError(f"{path}: the stored report cannot be read ({error})") from error


def _send(report: Dataset, candidates: Sequence[str], peer: Peer, opened: Any) -> Delivered:
    """Send a report as the first of the candidates that is accepted; the first of all is what it is stored as."""
    accepted = {context.abstract_syntax for context in opened.accepted_contexts}
    sent_as = next((name for name in candidates if name in accepted), None)
    if sent_as is None:
        raise _not_accepted(peer, candidates)
    stored_as = candidates[0]
    report.SOPClassUID = report.file_meta.MediaStorageSOPClassUID = UID(sent_as)
    try:
        answer = opened.send_c_store(report)
    except RuntimeError as error:  # the peer broke off before the request
        raise BrokenOff(f"{peer}: the association was broken off ({error})") from error
    if "Status" not in answer:
        raise BrokenOff(f"{peer}: no answer to the C-STORE in time, or broken off")
    status = int(answer.Status)
    said = storage_status.meaning(status)  # not the Error Comment: free text of the peer's, it may name the patient
    match storage_status.answer(status):
        case Answer.LATER:
            raise PeerUnreachable(f"{peer}: answered {said}: out of resources, sent again later")
        case Answer.REFUSED:
            raise ReportRefused(f"{peer}: refused {report.SOPInstanceUID}: {said}; {storage_status.advice(status)}")
        case Answer.STORED:
            warning = []
        case Answer.STORED_WITH_WARNING:
            warning = [said]
    if sent_as != stored_as:
        warning.insert(0, f"sent as {UID(sent_as).name}: the peer does not accept {UID(stored_as).name}")
    return Delivered(str(sent_as), status, "; ".join(warning) or None)


def _not_accepted(peer: Peer, candidates: Sequence[str]) -> ReportRefused:
    tried = ", ".join(UID(name).name for name in candidates)
    return ReportRefused(
        f"{peer}: does not accept {tried}; let it store one of them, or, if Enhanced SR is all it takes, set "
        "FIRSTREAD_REPORT_IOD=enhanced (no other kind of SR can be sent as that), and reprocess the study"
    )
