"""Headers: what registration needs of an object, read without its pixels and without trusting it.

The file was written by our listener: the file meta information is ours, the data set is the sender's. Nothing in the
data set may cost more than a bounded amount of memory: pixels and other large values are not read, a deflated data set
is inflated up to a limit, nesting ends where Python's stack does.
"""

import contextlib
import hashlib
import warnings
import zlib
from dataclasses import dataclass, field
from io import BufferedIOBase, BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from pydicom.charset import convert_encodings
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.filereader import data_element_generator, read_dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from worker.errors import UnreadableObject

HEADER_LIMIT = 8 << 20
"""Bytes of a data set read, or inflated, to find its header: a real one is far smaller, a hostile one ends here."""

ELEMENT_LIMIT = 20_000
"""Elements of a data set at its top level."""

LARGE_VALUE = 1 << 20
"""Values longer than this, bytes, are left in the file."""

PIXEL_GROUP = 0x7FE0
PIXEL_TAGS = frozenset({Tag(0x7FE00008), Tag(0x7FE00009), Tag(0x7FE00010)})
META_LIMIT = 1 << 16

PREFIX_BYTES = 128 + 4 + 12
"""Preamble, `DICM` and the element that says how long the file meta information is (PS3.10 7.1)."""


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
        The data set without pixels; empty when it could not be read.
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
    header: Dataset = field(default_factory=Dataset)
    has_pixels: bool = False
    defect: str = ""


def read_object(path: Path) -> StoredObject:
    """Read digests and header of an object in the spool; what is wrong with it is said in `defect`.

    Raises
    ------
    OSError
        When the file cannot be read.
    """
    try:
        meta, start = _own_meta(path)
    except UnreadableObject as error:
        with path.open("rb") as file:
            sha256, _ = _digests(file, 0)
            return StoredObject("", "", "", "", sha256, sha256, file.tell(), defect=str(error))
    transfer_syntax = str(meta.get("TransferSyntaxUID", ""))
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's remarks about single values; what matters ends as a defect
        sha256, dataset_sha256 = _digests(file, start)
        size = file.tell()
        file.seek(start)
        header, has_pixels, defect = _read_header(file, transfer_syntax)
    return StoredObject(
        sop_class_uid=str(meta.get("MediaStorageSOPClassUID", "")),
        sop_instance_uid=str(meta.get("MediaStorageSOPInstanceUID", "")),
        transfer_syntax_uid=transfer_syntax,
        calling_ae=text(meta, "SourceApplicationEntityTitle", 16),
        sha256=sha256,
        dataset_sha256=dataset_sha256,
        size_bytes=size,
        header=header,
        has_pixels=has_pixels,
        defect=defect or _emptiness(header, size - start, transfer_syntax),
    )


def read_header(path: Path) -> Dataset:
    """Read the header alone, as `read_object` does."""
    meta, start = _own_meta(path)
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file.seek(start)
        return _read_header(file, str(meta.get("TransferSyntaxUID", "")))[0]


def texts(header: Dataset, keyword: str, limit: int = 1024) -> list[str]:
    """Return the values of an attribute as clean text: one line each, printable, never longer than `limit`.

    What is absent, a sequence where text belongs, or cannot be decoded is no value at all.
    """
    try:
        value = header.get(keyword)
        if value is None or isinstance(value, Sequence):
            return []
        several = value if isinstance(value, MultiValue) else [value]
        return [clean(str(item))[:limit] for item in several]
    except Exception:  # noqa: BLE001 - pydicom raises anything over a hostile value; it counts as absent
        return []


def text(header: Dataset, keyword: str, limit: int = 1024) -> str:
    """Return an attribute as one clean text, its values joined by backslashes as in the data set; empty when absent."""
    return "\\".join(texts(header, keyword, limit))[:limit]


def clean(words: str) -> str:
    """Drop what is not printable: control characters, NUL, lone surrogates."""
    return "".join(character for character in words if character.isprintable()).strip()


def _own_meta(path: Path) -> tuple[Dataset, int]:
    """Return our file meta information and where the data set begins, by the group length that we wrote.

    What follows belongs to the sender, even where it begins with elements of group 0002.
    """
    with path.open("rb") as file:
        head = file.read(PREFIX_BYTES)
        if head[128:140] != b"DICM\x02\x00\x00\x00UL\x04\x00" or len(head) != PREFIX_BYTES:
            raise UnreadableObject("it was not written by the listener: no file meta information")
        length = int.from_bytes(head[140:], "little")
        meta = read_dataset(BytesIO(file.read(min(length, META_LIMIT))), is_implicit_VR=False, is_little_endian=True)
    return meta, PREFIX_BYTES + length


def _digests(file: BinaryIO, start: int) -> tuple[str, str]:
    whole, dataset = hashlib.sha256(), hashlib.sha256()
    file.seek(0)
    whole.update(file.read(start))
    while block := file.read(1 << 20):
        whole.update(block)
        dataset.update(block)
    return whole.hexdigest(), dataset.hexdigest()


def _read_header(file: BinaryIO, transfer_syntax: str) -> tuple[Dataset, bool, str]:
    """Return the header, whether pixels follow, and what is wrong; what was read before the defect is kept."""
    found: list[BaseTag] = []

    count = 0

    def at_pixels(tag: BaseTag, _vr: str | None, _length: int) -> bool:
        nonlocal count
        count += 1
        if count > ELEMENT_LIMIT:
            raise ValueError(f"more than {ELEMENT_LIMIT} elements")
        if tag in PIXEL_TAGS:
            found.append(tag)
        return bool(found) or tag.group > PIXEL_GROUP

    raw: dict[BaseTag, RawDataElement | DataElement] = {}
    defect = ""
    try:
        source: Any = _Frugal(file)
        limit: int | None = LARGE_VALUE
        if transfer_syntax == DeflatedExplicitVRLittleEndian:
            source, limit = BytesIO(_inflate(file)), None
        implicit = transfer_syntax == ImplicitVRLittleEndian
        little = transfer_syntax != ExplicitVRBigEndian
        start = source.tell()
        try:
            raw = dict(read_dataset(source, implicit, little, stop_when=at_pixels, defer_size=limit).items())
        except Exception as error:  # noqa: BLE001 - pydicom raises anything over hostile bytes; each is the sender's defect
            defect = f"the data set cannot be read to its end ({type(error).__name__}: {_short(error)})"
            source.seek(start)
            count = 0
            for element in data_element_generator(source, implicit, little, at_pixels, limit):
                raw[element.tag] = element
    except Exception as error:  # noqa: BLE001 - as above; what was read before it counts
        defect = defect or f"the data set cannot be read ({type(error).__name__}: {_short(error)})"
    return _converted(raw), bool(found), defect


class _Frugal(BufferedIOBase):
    """A file of which no more than `HEADER_LIMIT` bytes are read, wherever they lie; skipping is free."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.name = "the data set"
        self.left = HEADER_LIMIT

    def read(self, size: int | None = -1, /) -> bytes:
        data = self.file.read(self.left + 1 if size is None or size < 0 else min(size, self.left + 1))
        self.left -= len(data)
        if self.left < 0:
            raise ValueError(f"its header is longer than {HEADER_LIMIT >> 20} MiB")
        return data

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        return self.file.tell()


def _converted(raw: dict[BaseTag, RawDataElement | DataElement]) -> Dataset:
    """Convert what can be converted, so that a later look cannot fail; a single bad value counts as absent."""
    lazy, header = Dataset(raw), Dataset()
    character_set = raw.get(Tag("SpecificCharacterSet"))
    if character_set is not None:
        with contextlib.suppress(Exception):
            lazy.set_original_encoding(False, True, convert_encodings(lazy.SpecificCharacterSet))
    for tag, element in raw.items():
        if isinstance(element, RawDataElement) and element.value is None and element.length:
            continue  # too large to be of interest; left in the file
        with contextlib.suppress(Exception):
            header.add(lazy[tag])
    return header


def _inflate(file: BinaryIO) -> bytes:
    """Inflate the start of a deflated data set, at most `HEADER_LIMIT` bytes (a bomb stays small)."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    out = bytearray()
    while len(out) < HEADER_LIMIT and not inflater.eof and (block := file.read(1 << 16)):
        out += inflater.decompress(block, HEADER_LIMIT - len(out))
    return bytes(out)


def _emptiness(header: Dataset, size: int, transfer_syntax: str) -> str:
    if size == 0:
        return "the data set is empty"
    known = sum(1 for element in header if element.keyword)
    return "" if known else f"the data set holds no DICOM element that can be read as {UID(transfer_syntax).name}"


def _short(error: BaseException) -> str:
    return clean(" ".join(str(error).split()))[:200]
