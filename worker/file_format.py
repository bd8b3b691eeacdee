"""Where the data set of a DICOM file begins and how it is encoded, whoever wrote the file (PS3.10 7.1)."""

from io import BytesIO
from typing import BinaryIO

from pydicom.filereader import read_dataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from worker.guarded.frugal import frugal

_GROUP_LENGTH = b"\x02\x00\x00\x00UL\x04\x00"
_META_LIMIT = 1 << 16
"""Bytes of file meta information that are looked at."""
_META_ELEMENTS = 200


def find_data_set(file: BinaryIO) -> str:
    """Return the transfer syntax of a file and leave it at its data set; guessed where no file meta says it.

    Where the file meta information says how long it is, it ends there: what follows belongs to the sender, even where
    it begins with elements of group 0002.

    Raises
    ------
    Exception
        Whatever pydicom raises over file meta information that is damaged, or longer than any.
    """
    start = file.read(132)
    if start[128:] != b"DICM":
        file.seek(0)
        return _guess(start)
    head = file.read(12)
    length = int.from_bytes(head[8:], "little") if head.startswith(_GROUP_LENGTH) else None
    if length is None:
        file.seek(132)
    source = file if length is None else BytesIO(file.read(min(length, _META_LIMIT)))
    source, _ = frugal(source, max_bytes=_META_LIMIT, max_elements=_META_ELEMENTS)
    meta = read_dataset(source, False, True, stop_when=lambda tag, _vr, _length: tag.group != 2)
    if length is not None:
        file.seek(132 + len(head) + length)
    return str(meta.get("TransferSyntaxUID", ImplicitVRLittleEndian))


def _guess(start: bytes) -> str:
    if start.startswith(b"\0"):  # the high byte of the group comes first
        return str(ExplicitVRBigEndian)
    return str(ExplicitVRLittleEndian if start[4:6].isalpha() and start[4:6].isupper() else ImplicitVRLittleEndian)
