"""Parsing a data set down to its pixels, for the guarded child: the sender wrote it, and nothing in it is trusted.

Nothing may cost more than a bounded amount of memory and of steps: pixels and other large values are not read, a
deflated data set is inflated up to a limit, nesting ends where Python's stack does.
"""

import contextlib
import warnings
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from io import SEEK_END, BytesIO
from typing import BinaryIO

from pydicom.charset import convert_encodings
from pydicom.datadict import dictionary_has_tag, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.filereader import data_element_generator, read_dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from worker.guarded.frugal import frugal
from worker.intake.header_text import VALUE_CHARACTERS, VALUES, clean

HEADER_LIMIT = 8 << 20
"""Bytes of a data set read, or inflated, to find its header: a real one is far smaller, a hostile one ends here."""

ELEMENT_LIMIT = 20_000
"""Elements of a data set at its top level."""

DEEP_LIMIT = 200_000
"""Elements of a data set at any depth; each item of a sequence counts as one more."""

LARGE_VALUE = 1 << 16
"""Values longer than this, bytes, are left in the file."""

PIXEL_GROUP = 0x7FE0
PIXEL_TAGS = frozenset({Tag(0x7FE00008), Tag(0x7FE00009), Tag(0x7FE00010)})
_CHARACTER_SET = Tag("SpecificCharacterSet")


@dataclass
class Parsed:
    """What was found; `defect` says in words why not all of it, and is empty where nothing is wrong.

    Attributes
    ----------
    header
        Attributes that were asked for and are there: keyword → values as clean text.
    has_pixels
        Whether there is a Pixel Data element.
    """

    header: dict[str, list[str]] = field(default_factory=dict)
    has_pixels: bool = False
    defect: str = ""


def parse(file: BinaryIO, start: int, transfer_syntax: str, keywords: Iterable[str]) -> Parsed:
    """Parse a data set.

    Parameters
    ----------
    file
        The object.
    start
        Where its data set begins, bytes.
    keywords
        Of the attributes that are wanted.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's remarks about single values; what matters ends as a defect
        size = file.seek(0, SEEK_END)
        if size <= start:
            return Parsed(defect="the data set is empty")
        try:
            source, whole = _opened(file, start, transfer_syntax)
        except zlib.error as error:
            return Parsed(defect=f"the data set cannot be inflated ({error})")
        walk = _Walk(source, whole, transfer_syntax, keywords)
        raw = walk.read()
        found = Parsed(texts_of(_converted(raw), keywords), walk.has_pixels, walk.defect)
        if not walk.known and not walk.failed:
            found.defect = f"the data set holds no DICOM element that can be read as {UID(transfer_syntax).name}"
        return found


def texts_of(header: Dataset, keywords: Iterable[str]) -> dict[str, list[str]]:
    """Return the values of attributes as clean text: one line each, printable, bounded in number and length.

    What is absent, a sequence where text belongs, or cannot be decoded is no value at all.
    """
    found: dict[str, list[str]] = {}
    for keyword in keywords:
        try:
            value = header.get(keyword)
            if value is None or isinstance(value, Sequence):
                continue
            several = value if isinstance(value, MultiValue) else [value]
            left, texts = VALUE_CHARACTERS, []
            for item in several[:VALUES]:
                texts.append(clean(str(item))[:left].strip())
                left -= len(texts[-1])
        except Exception:  # noqa: BLE001, S112 - pydicom raises anything over a hostile value; it counts as absent
            continue
        found[keyword] = texts
    return found


def _opened(file: BinaryIO, start: int, transfer_syntax: str) -> tuple[BinaryIO, bool]:
    """Return the data set at its beginning, and whether it is all there: a deflated one is inflated up to the limit."""
    file.seek(start)
    if transfer_syntax != DeflatedExplicitVRLittleEndian:
        return file, True
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    out = bytearray()
    while len(out) < HEADER_LIMIT and not inflater.eof and (block := file.read(1 << 16)):
        out += inflater.decompress(block, HEADER_LIMIT - len(out))
    return BytesIO(bytes(out)), len(out) < HEADER_LIMIT


class _Walk:
    """One reading of a data set, element by element, up to its pixels."""

    def __init__(self, source: BinaryIO, whole: bool, transfer_syntax: str, keywords: Iterable[str]) -> None:
        self.source = source
        self.whole = whole
        self.implicit = transfer_syntax == ImplicitVRLittleEndian
        self.little = transfer_syntax != ExplicitVRBigEndian
        self.tags: list[BaseTag | int] = [Tag(tag) for word in keywords if (tag := tag_for_keyword(word)) is not None]
        self.has_pixels = False
        self.defect = ""
        self.failed = False
        self.known = self.count = 0
        self.last = ELEMENT_LIMIT + 2  # none

    def read(self) -> dict[BaseTag, RawDataElement | DataElement]:
        """Read what is wanted; what was read before a defect is kept."""
        raw: dict[BaseTag, RawDataElement | DataElement] = {}
        start = self.source.tell()
        source, spent = frugal(self.source, max_bytes=HEADER_LIMIT, max_elements=DEEP_LIMIT)
        try:
            found = read_dataset(
                source, self.implicit, self.little, None, self._stop, LARGE_VALUE, specific_tags=self.tags
            )
            raw = dict(found.items())
            end = self.source.tell()
            if end > self.source.seek(0, SEEK_END):
                missing = "is cut off" if self.whole else f"has a header longer than {HEADER_LIMIT >> 20} MiB"
                self.defect = f"the data set {missing}: an element is longer than what is there"
        except Exception as error:  # noqa: BLE001 - pydicom raises anything over hostile bytes; each is the sender's defect
            self.failed = True
            why = spent.exceeded or f"{type(error).__name__}: {_short(error)}"
            self.defect = f"the data set cannot be read to its end ({why})"
            self.source.seek(start)
            if spent.exceeded:
                self.last = self.count  # not once more into what cost so much
            self.count = 0
            source, _ = frugal(self.source, max_bytes=HEADER_LIMIT, max_elements=DEEP_LIMIT)
            with contextlib.suppress(Exception):  # the same again; what comes before it counts
                for element in data_element_generator(
                    source, self.implicit, self.little, self._stop, LARGE_VALUE, specific_tags=self.tags
                ):
                    raw[element.tag] = element
        return raw

    def _stop(self, tag: BaseTag, _vr: str | None, _length: int) -> bool:
        self.count += 1
        if self.count >= self.last:
            return True
        if self.count > ELEMENT_LIMIT:
            raise ValueError(f"more than {ELEMENT_LIMIT} elements")
        self.known += dictionary_has_tag(tag)
        self.has_pixels |= tag in PIXEL_TAGS
        return self.has_pixels or tag.group > PIXEL_GROUP


def _converted(raw: dict[BaseTag, RawDataElement | DataElement]) -> Dataset:
    """Convert what can be converted, so that a later look cannot fail; a single bad value counts as absent."""
    lazy, header = Dataset(raw), Dataset()
    if _CHARACTER_SET in raw:
        with contextlib.suppress(Exception):
            lazy.set_original_encoding(False, True, convert_encodings(lazy.SpecificCharacterSet))
    for tag, element in raw.items():
        if isinstance(element, RawDataElement) and element.value is None and element.length:
            continue  # too large to be of interest; left in the file
        with contextlib.suppress(Exception):
            header.add(lazy[tag])
    return header


def _short(error: BaseException) -> str:
    return clean(" ".join(str(error).split()))[:200]
