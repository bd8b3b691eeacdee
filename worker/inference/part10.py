"""Open a DICOM file (PS3.10) down to its pixel data: transfer syntax, the attributes that pixels need, where they lie.

Values that pixels do not need are skipped, so names of patients are never read here.
"""

import mmap
import re
import struct
import zlib
from io import BytesIO
from typing import BinaryIO, cast

from pydicom import Dataset
from pydicom.filereader import read_dataset, read_preamble
from pydicom.pixels.decoders.base import get_decoder
from pydicom.tag import BaseTag, Tag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32, STANDARD_VR

from worker.errors import PixelError
from worker.guarded.frugal import FrugalFile, frugal
from worker.inference.attributes import quoted, text

ASK = "ask the modality for uncompressed, JPEG Lossless, JPEG-LS, JPEG 2000 or RLE images"
_NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)
_PIXELS = {0x7FE00010: "PixelData", 0x7FE00008: "FloatPixelData", 0x7FE00009: "DoubleFloatPixelData"}
_WANTED = (
    "SOPClassUID", "ImageType", "Modality", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration",
    "NumberOfFrames", "Rows", "Columns", "PixelSpacing", "ImagerPixelSpacing", "PixelAspectRatio", "BitsAllocated",
    "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit",
    "FloatPixelPaddingValue", "FloatPixelPaddingRangeLimit", "DoubleFloatPixelPaddingValue",
    "DoubleFloatPixelPaddingRangeLimit", "WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence",
    "RescaleIntercept", "RescaleSlope", "RescaleType", "ModalityLUTSequence", "PresentationLUTShape",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "RedPaletteColorLookupTableDescriptor",
    "GreenPaletteColorLookupTableDescriptor", "BluePaletteColorLookupTableDescriptor",
    "RedPaletteColorLookupTableData", "GreenPaletteColorLookupTableData", "BluePaletteColorLookupTableData",
    "SegmentedRedPaletteColorLookupTableData", "SegmentedGreenPaletteColorLookupTableData",
    "SegmentedBluePaletteColorLookupTableData", "ExtendedOffsetTable", "ExtendedOffsetTableLengths",
)  # fmt: skip
_LOOK_AHEAD_BYTES = 1 << 16
_MAX_ELEMENTS = 200_000
"""Elements before the pixel data, at any depth: an enhanced CT of five thousand frames has as many, and reading them
takes seconds."""
_UID = re.compile(r"[0-9.]{1,64}")
_WANTED_TAGS: list[BaseTag | int] = [Tag(keyword) for keyword in _WANTED]


def says(syntax: UID) -> str:
    """Return a transfer syntax as people know it: `JPEG 2000 Image Compression (1.2.840.10008.1.2.4.91)`."""
    return f"{syntax.name} ({syntax})" if syntax.name != syntax else str(syntax)


class MappedFile(mmap.mmap):
    """A file mapped for reading, in which a seek past the end goes to the end, as in a file."""

    def seek(self, position: int, whence: int = 0) -> None:
        """Go to a position."""
        base = (0, self.tell(), len(self))[whence]
        super().seek(min(base + position, len(self)))


class Part10:
    """An open object.

    Attributes
    ----------
    syntax
        Transfer syntax; guessed from the encoding where the file does not say it.
    header
        The wanted attributes that precede the pixel data.
    keyword, vr, offset, length
        The pixel data element; `offset` of its value in `buffer`, `length` as declared.
    stream, buffer
        The same bytes, to be read and to be sliced.
    """

    def __init__(self, source: MappedFile, *, inflated_bytes: int) -> None:
        """Read up to the pixel data.

        Parameters
        ----------
        source
            The bytes of the file.
        inflated_bytes
            Largest data set that a deflated one may hold.

        Raises
        ------
        PixelError
            It is no DICOM object, has no pixels, or no decoder takes its transfer syntax.
        """
        self.stream = cast("BinaryIO", source)
        self.buffer = memoryview(source)
        self.keyword = self.vr = ""
        self.offset = self.length = 0
        self._pixel_tag = 0
        self._spent: FrugalFile | None = None
        try:
            self.header = self._read(inflated_bytes)
        except (PixelError, MemoryError):
            raise
        except Exception as error:
            if _was_too_deep(error):
                raise PixelError("sequences are nested too deeply: the object is damaged or hostile") from error
            if self._spent is not None and self._spent.exceeded:
                raise PixelError(f"{self._spent.exceeded}: it is refused as a bomb") from error
            raise PixelError(f"this is no DICOM object that can be read: {str(error)[:150]}") from error
        if not self._pixel_tag and not self.header:
            raise PixelError("nothing in it describes an image: it is no DICOM object, or one without pixels")
        if not self._pixel_tag:
            modality = quoted(text(self.header, "Modality")[:16] or "unknown")
            rows = "" if "Rows" not in self.header else ", although it declares an image; it may be cut off"
            raise PixelError(f"the object has no pixel data (Modality {modality}){rows}")
        self.keyword = _PIXELS[self._pixel_tag]
        self.offset = self.stream.tell() + (12 if self.vr in EXPLICIT_VR_LENGTH_32 else 8)

    def _read(self, inflated_bytes: int) -> Dataset:
        read_preamble(self.stream, force=True)
        self.syntax = self._transfer_syntax()
        if self.syntax not in _NATIVE:
            _check_decoder(self.syntax)
        if self.syntax == DeflatedExplicitVRLittleEndian:
            inflated = _inflate(self.buffer[self.stream.tell() :], inflated_bytes)
            self.stream, self.buffer = BytesIO(inflated), memoryview(inflated)
        # All of it, and what a parser that looks ahead reads twice.
        allowed = 2 * len(self.buffer) + _LOOK_AHEAD_BYTES
        source, self._spent = frugal(self.stream, max_bytes=allowed, max_elements=_MAX_ELEMENTS)
        return read_dataset(
            source,
            is_implicit_VR=self.syntax == ImplicitVRLittleEndian,
            is_little_endian=self.syntax != ExplicitVRBigEndian,
            stop_when=self._at_pixels,
            specific_tags=_WANTED_TAGS,
        )

    def _at_pixels(self, tag: BaseTag, vr: str | None, length: int) -> bool:
        if tag not in _PIXELS:
            return False
        self._pixel_tag, self.vr, self.length = int(tag), vr or "", length
        return True

    def _transfer_syntax(self) -> UID:
        """Read the file meta information (PS3.10 7.1), or guess from the first element where there is none."""
        start = self.stream.tell()
        explicit = self._next_vr() is not None
        meta = read_dataset(
            self.stream, is_implicit_VR=not explicit, is_little_endian=True, stop_when=lambda tag, *_: tag >> 16 != 2
        )
        said = text(meta, "TransferSyntaxUID")
        if said:
            if not _UID.fullmatch(said):  # not quoted: damaged, it may hold anything of what follows
                raise PixelError("the file meta information names no transfer syntax: what it says is no UID")
            return UID(said)
        if not meta:
            self.stream.seek(start)
        group = self._next_vr()
        if group is None:
            return ImplicitVRLittleEndian
        return ExplicitVRBigEndian if group >= 0x0400 else ExplicitVRLittleEndian

    def _next_vr(self) -> int | None:
        """Return the group number (little endian) of the next element if a value representation follows, else None."""
        at = self.stream.tell()
        head = bytes(self.buffer[at : at + 6])
        if len(head) < 6:
            raise PixelError("the object ends before its data set: it is empty or cut off")
        return struct.unpack("<H", head[:2])[0] if head[4:].decode("latin-1") in STANDARD_VR else None


def _was_too_deep(error: BaseException | None) -> bool:
    """Say whether recursion went too deep: pydicom turns that, where it meets it, into an error of its own."""
    while error is not None and not isinstance(error, RecursionError):
        error = error.__cause__ or error.__context__
    return error is not None


def _check_decoder(syntax: UID) -> None:
    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError:
        available = False
    if not available:
        raise PixelError(f"cannot decode transfer syntax {says(syntax)}: there is no decoder for it; {ASK}")


def _inflate(compressed: memoryview, limit: int) -> bytes:
    """Inflate a data set (PS3.5 A.5), but no further than the limit."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        data = inflater.decompress(compressed, limit + 1)
    except zlib.error as error:
        raise PixelError(f"the deflated data set is damaged: {error}") from error
    if len(data) > limit:
        raise PixelError(f"the deflated data set is larger than {limit >> 20} MiB when inflated: refused as a bomb")
    return data
