"""Headers: what registration needs of an object, read without its pixels and without trusting it.

The file was written by our listener: the file meta information is ours, the data set is the sender's. We read the first
and the digests; the second is parsed by a guarded child (`worker.intake.header_child`), of which no more comes back
than a few attributes as text, and not even that is believed before it is checked.
"""

import hashlib
import os
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from worker.errors import UnreadableObject
from worker.guarded.child import GuardedChild
from worker.guarded.door import Door
from worker.guarded.warm import JobFailed, Trade, WarmChild
from worker.intake.file_meta import FileMeta, read_file_meta
from worker.intake.header_text import VALUE_CHARACTERS, VALUES, Header, clean

HEADER_SECONDS = 20.0
"""Wall-clock and CPU time that one header may take: a real one takes milliseconds."""

HEADER_BYTES = 512 << 20
"""Address space of the child that reads headers."""

_DEFECT_CHARACTERS = 300
_BLOCK = 1 << 20

READING = Trade("reading its header", "the process that reads headers", "read this header", "it is damaged")


@dataclass(frozen=True)
class StoredObject:
    """One object of the spool: the file meta information, the digests, and the header if it could be read.

    Attributes
    ----------
    sop_class_uid, sop_instance_uid, transfer_syntax_uid, calling_ae
        As the C-STORE request said.
    sha256, dataset_sha256
        Hexadecimal digests of the file and of the data set bytes alone.
    header
        The attributes that were asked for; empty when the data set could not be read.
    has_pixels
        Whether there is a Pixel Data element.
    defect
        Why the header could not be read, in words; empty when it could.
    """

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    calling_ae: str
    sha256: str
    dataset_sha256: str
    size_bytes: int
    header: Header = field(default_factory=dict)
    has_pixels: bool = False
    defect: str = ""


class HeaderReader(Door[GuardedChild]):
    """Reads objects of the spool with a guarded child, warm and replaced when it dies.

    Parameters
    ----------
    seconds, memory_bytes
        What a header may take.
    announce
        Log once what the child has given up (`worker.guarded.confinement`).
    """

    def __init__(
        self, *, seconds: float = HEADER_SECONDS, memory_bytes: int = HEADER_BYTES, announce: bool = False
    ) -> None:
        def start() -> GuardedChild:
            return GuardedChild("worker.intake.header_child", seconds=seconds, memory_bytes=memory_bytes)

        super().__init__(WarmChild(READING, start, seconds=seconds, memory_bytes=memory_bytes, announce=announce))

    def read(self, path: Path, keywords: Collection[str], *, side_by_side: bool = False) -> StoredObject:
        """Read digests and header of an object in the spool; what is wrong with it is said in `defect`.

        Parameters
        ----------
        keywords
            Of the attributes that are wanted.
        side_by_side
            Compute the two digests at the same time: sooner done where a core is free, but dearer.

        Raises
        ------
        OSError
            When the file cannot be read.
        ChildLost
            When no child can be started; the object may be fine.
        """
        identity: list[StoredObject] = []
        with path.open("rb") as file:
            try:
                meta = read_file_meta(file)
            except UnreadableObject:
                return identify(path)
            request = {
                "start": meta.start,
                "transfer_syntax": meta.transfer_syntax_uid,
                "keywords": sorted(keywords),
            }

            def digest() -> None:
                identity.append(_identity(file.fileno(), meta, side_by_side=side_by_side))

            try:
                header, has_pixels, defect = self.child.do(
                    request, file.fileno(), lambda _, answer: _checked(answer, keywords), digest
                )
            except JobFailed as failed:
                header, has_pixels, defect = {}, False, str(failed)
            if not identity:  # the child failed before it was handed the object
                digest()
        return replace(identity[0], header=header, has_pixels=has_pixels, defect=defect)


def identify(path: Path) -> StoredObject:
    """Read the file meta information and the digests alone: nothing that the sender wrote is parsed.

    Raises
    ------
    OSError
        When the file cannot be read.
    """
    with path.open("rb") as file:
        try:
            return _identity(file.fileno(), read_file_meta(file))
        except UnreadableObject as error:
            return replace(_identity(file.fileno(), FileMeta(start=0)), defect=str(error))


def _identity(file: int, meta: FileMeta, *, side_by_side: bool = False) -> StoredObject:
    """Compute the digests, without moving the position in the file: the child shares it."""
    whole, dataset = hashlib.sha256(os.pread(file, meta.start, 0)), hashlib.sha256()
    if side_by_side:
        with ThreadPoolExecutor(1, "digest") as other:
            digesting = other.submit(_digest, file, meta.start, dataset)
            _digest(file, meta.start, whole)
            digesting.result()
    else:
        _digest(file, meta.start, whole, dataset)
    return StoredObject(
        sop_class_uid=meta.sop_class_uid,
        sop_instance_uid=meta.sop_instance_uid,
        transfer_syntax_uid=meta.transfer_syntax_uid,
        calling_ae=meta.calling_ae,
        sha256=whole.hexdigest(),
        dataset_sha256=dataset.hexdigest(),
        size_bytes=os.fstat(file).st_size,
    )


def _digest(file: int, at: int, *digests: "hashlib._Hash") -> None:
    """Put a file, from a position on, through digests."""
    while block := os.pread(file, _BLOCK, at):
        for digest in digests:
            digest.update(block)
        at += len(block)


def _checked(answer: dict[str, Any], keywords: Collection[str]) -> tuple[Header, bool, str]:
    """Return what the child says of a header, if it is no more than it may say.

    Raises
    ------
    ValueError, KeyError, TypeError
        It is more, or something else.
    """
    header, has_pixels, defect = answer["header"], answer["has_pixels"], answer["defect"]
    if not (isinstance(header, dict) and isinstance(has_pixels, bool) and isinstance(defect, str)):
        raise TypeError("not a header")
    for keyword, values in header.items():
        if keyword not in keywords or not isinstance(values, list) or len(values) > VALUES:
            raise ValueError("attributes that nobody asked for")
        if not all(isinstance(value, str) and value == clean(value)[:VALUE_CHARACTERS] for value in values):
            raise ValueError("values that are no clean text")
    return header, has_pixels, clean(defect)[:_DEFECT_CHARACTERS]
