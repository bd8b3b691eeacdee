"""Storage SCU for any DICOM files: each goes as it is stored, byte for byte, never decoded."""

import shutil
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from pydicom import dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomFileLike
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import _config, build_context
from pynetdicom.dsutils import split_dataset

from worker.config import Peer
from worker.errors import PeerUnreachable
from worker.reporting import storage_status
from worker.reporting.association import CONNECT_SECONDS, DIMSE_SECONDS, NothingAccepted, association
from worker.reporting.storage_status import Answer

CONTEXTS_AT_MOST = 128
"""Presentation context IDs are the odd numbers of one byte (PS3.8 9.3.2.2)."""

_config.STORE_SEND_CHUNKED_DATASET = True  # of a path that is sent, the bytes are read from the file as they go out


@dataclass(frozen=True)
class SendOutcome:
    """What became of one file: the status the peer answered, and why it did not arrive if it did not."""

    path: Path
    sop_instance_uid: str | None
    status: int | None
    error: str | None


_NO_PREAMBLE = bytes(128) + b"DICM"
_NEEDED = ("MediaStorageSOPClassUID", "MediaStorageSOPInstanceUID", "TransferSyntaxUID")


@dataclass(frozen=True)
class _Item:
    """A file to send. `source` is what is read: the file itself, or a copy with the file meta information it lacks."""

    path: Path
    source: Path
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str


def send_files(
    paths: Iterable[Path],
    peer: Peer,
    calling_ae: str,
    *,
    max_associations: int = 1,
    connect_seconds: float = CONNECT_SECONDS,
    dimse_seconds: float = DIMSE_SECONDS,
) -> Iterator[SendOutcome]:
    """Send files, whatever their SOP Class and transfer syntax; yield an outcome for each as it is known.

    Parameters
    ----------
    paths
        Files; one that is no DICOM gets an outcome with an error.
    peer, calling_ae
        Whom to, and our AE title.
    max_associations
        How many associations may be open at a time.
    connect_seconds, dimse_seconds
        Longest waits: for connection and association, for the answer to a C-STORE.
    """
    with tempfile.TemporaryDirectory(prefix="firstread-send-") as scratch:
        items = []
        for number, path in enumerate(paths):
            try:
                items.append(_inspect(path, Path(scratch) / f"{number}.dcm"))
            except Exception as error:  # noqa: BLE001 - pydicom raises anything over hostile bytes; it is the outcome
                yield SendOutcome(path, None, None, str(error) or type(error).__name__)
        limits = {"connect_seconds": connect_seconds, "dimse_seconds": dimse_seconds}
        batches = _batches(items)
        if max_associations > 1:
            yield from _send_in_parallel(batches, peer, calling_ae, limits, max_associations)
        else:
            for batch in batches:
                yield from _send_batch(batch, peer, calling_ae, limits)


def _inspect(path: Path, copy: Path) -> _Item:
    """Find out what a file is; one without sound file meta information is copied behind one that is made for it."""
    with warnings.catch_warnings(record=True) as doubts:
        warnings.simplefilter("always")
        meta, offset, has_preamble = _stored_meta(path)
        is_sound = has_preamble and not doubts and all(meta.get(keyword) for keyword in _NEEDED)
        if not is_sound:
            meta = _made_meta(path, meta)
    if not is_sound:
        with path.open("rb") as file, copy.open("wb") as out:
            out.write(_NO_PREAMBLE)
            write_file_meta_info(DicomFileLike(out), meta)
            file.seek(offset)
            shutil.copyfileobj(file, out)
    return _Item(path, path if is_sound else copy, *(str(meta[keyword].value) for keyword in _NEEDED))


def _stored_meta(path: Path) -> tuple[FileMetaDataset, int, bool]:
    """Return the file meta information, empty if there is none, where the data set begins, if there is a preamble."""
    meta = FileMetaDataset()
    with path.open("rb") as file:
        start = file.read(134)
        if start[128:132] == b"DICM":
            found, offset = split_dataset(path)
        elif start.startswith(b"\2\0"):  # file meta information without a preamble before it
            file.seek(0)
            found = read_dataset(file, False, True, stop_when=lambda tag, _vr, _length: tag.group != 2)
            offset = file.tell()
        else:
            return meta, 0, False
    meta.update(found)
    return meta, offset, start[128:132] == b"DICM"


def _made_meta(path: Path, meta: FileMetaDataset) -> FileMetaDataset:
    """Return file meta information with what is missing taken from the data set.

    Raises
    ------
    ValueError
        When the file is no DICOM object: nothing in it says which SOP instance it is.
    """
    header = dcmread(path, force=True, stop_before_pixels=True, specific_tags=["SOPClassUID", "SOPInstanceUID"])
    made = FileMetaDataset()
    made.MediaStorageSOPClassUID = header.get("SOPClassUID", meta.get("MediaStorageSOPClassUID"))
    made.MediaStorageSOPInstanceUID = header.get("SOPInstanceUID", meta.get("MediaStorageSOPInstanceUID"))
    if not (made.MediaStorageSOPClassUID and made.MediaStorageSOPInstanceUID):
        raise ValueError("no DICOM object: it says no SOP Class and SOP Instance UID")
    implicit, little = header.original_encoding
    guess = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
    made.TransferSyntaxUID = meta.get("TransferSyntaxUID") or guess
    return made


def _batches(items: Iterable[_Item]) -> list[list[_Item]]:
    """Group files so that each group needs no more presentation contexts than an association can have.

    A transfer syntax that the library does not know stands alone: it cannot be told from others among the contexts.
    """
    batches: list[tuple[set[tuple[str, str]], list[_Item]]] = []
    unknown: dict[str, list[_Item]] = {}
    for item in items:
        if not UID(item.transfer_syntax_uid).is_transfer_syntax:
            unknown.setdefault(item.transfer_syntax_uid, []).append(item)
            continue
        context = (item.sop_class_uid, item.transfer_syntax_uid)
        if not batches or len(batches[-1][0] | {context}) > CONTEXTS_AT_MOST:
            batches.append((set(), []))
        batches[-1][0].add(context)
        batches[-1][1].append(item)
    return [batch for _, batch in batches] + list(unknown.values())


def _send_in_parallel(
    batches: Sequence[list[_Item]], peer: Peer, calling_ae: str, limits: dict[str, float], associations: int
) -> Iterator[SendOutcome]:
    done: SimpleQueue[SendOutcome | None] = SimpleQueue()

    def send(share: list[_Item]) -> None:
        try:
            for outcome in _send_batch(share, peer, calling_ae, limits):
                done.put(outcome)
        finally:
            done.put(None)

    shares = [share for batch in batches for start in range(associations) if (share := batch[start::associations])]
    with ThreadPoolExecutor(associations, thread_name_prefix="send") as pool:
        sent = [pool.submit(send, share) for share in shares]
        running = len(sent)
        while running:
            if (outcome := done.get()) is None:
                running -= 1
            else:
                yield outcome
        for future in sent:
            future.result()


def _send_batch(batch: list[_Item], peer: Peer, calling_ae: str, limits: dict[str, float]) -> Iterator[SendOutcome]:
    """Send files over one association, and over another for the rest when the peer breaks it off."""
    left = list(batch)
    while left:
        contexts = [
            build_context(*pair) for pair in dict.fromkeys((i.sop_class_uid, i.transfer_syntax_uid) for i in left)
        ]
        try:
            seconds, answer_seconds = limits["connect_seconds"], limits["dimse_seconds"]
            with association(
                peer, calling_ae, contexts, connect_seconds=seconds, dimse_seconds=answer_seconds
            ) as opened:
                while left:
                    item = left.pop(0)
                    try:
                        yield _send(item, opened, peer, message_id=len(batch) - len(left))
                    except PeerUnreachable as error:
                        yield _failed(item, str(error))
                        opened.abort()
                        break
        except NothingAccepted:
            yield from (_failed(item, _not_accepted(item, peer)) for item in left)
            return
        except PeerUnreachable as error:
            yield from (_failed(item, str(error)) for item in left)
            return


def _send(item: _Item, opened: Any, peer: Peer, message_id: int) -> SendOutcome:
    accepted = {(context.abstract_syntax, context.transfer_syntax[0]) for context in opened.accepted_contexts}
    if (item.sop_class_uid, item.transfer_syntax_uid) not in accepted:
        return _failed(item, _not_accepted(item, peer))
    try:
        answer = opened.send_c_store(item.source, msg_id=message_id % 65535 + 1)
    except RuntimeError as error:
        raise PeerUnreachable(f"{peer}: the association was broken off ({error})") from error
    except (AttributeError, OSError, ValueError) as error:  # no longer readable, a UID that cannot be sent
        return _failed(item, str(error) or type(error).__name__)
    if "Status" not in answer:
        raise PeerUnreachable(f"{peer}: no answer to the C-STORE in time, or broken off")
    status = int(answer.Status)
    if storage_status.answer(status) in (Answer.STORED, Answer.STORED_WITH_WARNING):
        return SendOutcome(item.path, item.sop_instance_uid, status, None)
    comment = str(answer.get("ErrorComment") or "")
    said = "; ".join(filter(None, [storage_status.meaning(status), comment]))
    return SendOutcome(item.path, item.sop_instance_uid, status, f"{peer}: answered {said}")


def _failed(item: _Item, error: str) -> SendOutcome:
    return SendOutcome(item.path, item.sop_instance_uid, None, error)


def _not_accepted(item: _Item, peer: Peer) -> str:
    return f"{peer}: does not accept {UID(item.sop_class_uid).name} in {UID(item.transfer_syntax_uid).name}"
