"""The head of a spooled file: preamble, prefix and File Meta Information (PS3.10 7.1)."""

import struct
from functools import lru_cache
from importlib.metadata import version

from worker.uids import IMPLEMENTATION_CLASS_UID

IMPLEMENTATION_VERSION_NAME = f"FIRSTREAD_{version('firstread')}"[:16]

_PREFIX = b"\0" * 128 + b"DICM"
_LONG = struct.Struct("<HH2sHL")
_SHORT = struct.Struct("<HH2sH")


def encode_head(
    *, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str, calling_ae: str, called_ae: str
) -> bytes:
    """Return everything that stands before the data set in a DICOM file, explicit VR little endian.

    Parameters
    ----------
    sop_class_uid, sop_instance_uid
        Media Storage SOP Class and Instance UID: from the command set, not from the data set.
    transfer_syntax_uid
        The transfer syntax of the presentation context: what the data set is encoded in.
    calling_ae
        Source Application Entity Title (0002,0016).
    called_ae
        Receiving Application Entity Title (0002,0018).
    """
    group = b"".join(
        (
            _VERSION,
            _element(0x0002, b"UI", sop_class_uid),
            _element(0x0003, b"UI", sop_instance_uid),
            _same_for_all(transfer_syntax_uid, calling_ae, called_ae),
        )
    )
    return b"".join((_PREFIX, _GROUP_LENGTH, len(group).to_bytes(4, "little"), group))


@lru_cache(maxsize=256)
def _same_for_all(transfer_syntax_uid: str, calling_ae: str, called_ae: str) -> bytes:
    """Return the elements that all objects of a presentation context share."""
    return b"".join(
        (
            _element(0x0010, b"UI", transfer_syntax_uid),
            _element(0x0012, b"UI", IMPLEMENTATION_CLASS_UID),
            _element(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME),
            _element(0x0016, b"AE", calling_ae),
            _element(0x0018, b"AE", called_ae),
        )
    )


def _element(element: int, vr: bytes, text: str) -> bytes:
    value = text.encode("ascii")
    if len(value) % 2:
        value += b"\0" if vr == b"UI" else b" "
    return _SHORT.pack(0x0002, element, vr, len(value)) + value


_VERSION = _LONG.pack(0x0002, 0x0001, b"OB", 0, 2) + b"\0\x01"
_GROUP_LENGTH = _SHORT.pack(0x0002, 0x0000, b"UL", 4)
