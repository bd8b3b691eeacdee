"""From the bytes of a DICOM file to the stored pixel values of one frame, with nothing believed before it is checked.

What the header declares is held against the limit and against the bytes that are there before anything of that size is
allocated: a header of a few bytes can claim 65535 x 65535 pixels. Uncompressed pixels are not copied; compressed ones
go through pydicom's decoders, one frame at a time.
"""

import logging
import resource
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import JPEG2000TransferSyntaxes, JPEGLSTransferSyntaxes, RLELossless

from worker.errors import PixelError
from worker.inference.attributes import named, quoted, text, value, whole
from worker.inference.codestream import RLE_EXPANSION, size_of
from worker.inference.part10 import ASK, Part10, says

_UNDEFINED = 0xFFFFFFFF
_ITEM = b"\xfe\xff\x00\xe0"
_DELIMITER = b"\xfe\xff\xdd\xe0"
_ALL_FAILED = "Unable to decode as exceptions were raised by all available plugins:"
_SAMPLES = {
    "MONOCHROME1": 1,
    "MONOCHROME2": 1,
    "PALETTE COLOR": 1,
    "RGB": 3,
    "YBR_FULL": 3,
    "YBR_FULL_422": 3,
    "YBR_PARTIAL_422": 3,
    "YBR_ICT": 3,
    "YBR_RCT": 3,
}
_DECODER_BYTES = 4
_PLUGINS = dict.fromkeys(JPEGLSTransferSyntaxes, "pyjpegls")
"""Which of pydicom's plugins decodes, where it is not to be the first that it finds (`tests/bench/decoders.py`): CharLS
takes a quarter of the time for the same bits, and refuses damaged data that libjpeg shows as if they were whole."""
_HALF_CHROMA = frozenset({"YBR_FULL_422", "YBR_PARTIAL_422"})
_FLOATS = {"FloatPixelData": 32, "DoubleFloatPixelData": 64}


@dataclass(frozen=True)
class Layout:
    """The Image Pixel module (PS3.3 C.7.6.3), checked; `planar` is Planar Configuration 1, sizes are pixels or bits."""

    rows: int
    columns: int
    samples: int
    frames: int
    photometric: str
    allocated: int
    stored: int
    high_bit: int
    signed: bool
    planar: bool
    is_float: bool

    @property
    def frame_bits(self) -> int:
        """Bits of one uncompressed frame; two pixels share their chroma in 4:2:2 (PS3.3 C.7.6.3.1.2)."""
        samples = 2 if self.photometric in _HALF_CHROMA else self.samples
        return self.rows * self.columns * samples * self.allocated

    def __str__(self) -> str:
        colours = f" x {self.samples} samples" if self.samples > 1 else ""
        frames = f" x {self.frames} frames" if self.frames > 1 else ""
        return f"{self.rows} x {self.columns} pixels{colours}{frames} of {self.allocated} bits"


@dataclass(frozen=True)
class StoredFrame:
    """One frame as it is stored.

    Attributes
    ----------
    values
        (rows, columns), or (rows, columns, 3) where `photometric` is RGB, in the container that the file uses; where
        `photometric` starts with YBR it is the luma alone.
    photometric
        Photometric interpretation of `values`: after decompression it may differ from the header's.
    layout
        What the header says.
    clean
        Whether the decoder left nothing but the value in each container; else bits outside it are anybody's.
    index
        Which frame, from 0.
    header
        The attributes before the pixel data.
    little_endian
        Byte order of the header.
    """

    values: NDArray[Any]
    photometric: str
    layout: Layout
    clean: bool
    index: int
    header: Dataset
    little_endian: bool


def read_layout(header: Dataset, keyword: str) -> Layout:
    """Read and check the Image Pixel module (PS3.3 C.7.6.3).

    Raises
    ------
    PixelError
        An attribute is missing, contradicts another, or describes pixels that no transfer syntax carries.
    """
    photometric = text(header, "PhotometricInterpretation")
    samples = whole(header, "SamplesPerPixel", 1 if photometric.startswith("MONO") else None)
    if photometric not in _SAMPLES:
        raise PixelError(
            f"{named('PhotometricInterpretation')} is {quoted(photometric[:16]) or 'missing'}: not supported"
        )
    if samples != _SAMPLES[photometric]:
        raise PixelError(f"{photometric} has {_SAMPLES[photometric]} samples a pixel, but the header says {samples}")
    allocated = whole(header, "BitsAllocated")
    is_float = keyword in _FLOATS
    if allocated not in ({_FLOATS[keyword]} if is_float else {1, 8, 16, 32, 64}):
        raise PixelError(f"{named('BitsAllocated')} is {allocated}: not supported")
    stored = allocated if is_float else whole(header, "BitsStored")
    if not 1 <= stored <= allocated:
        raise PixelError(f"{named('BitsStored')} is {stored}, but {allocated} bits are allocated")
    high_bit = whole(header, "HighBit", stored - 1)
    representation = 1 if is_float else whole(header, "PixelRepresentation")
    if representation not in {0, 1}:
        raise PixelError(f"{named('PixelRepresentation')} is {representation}; 0 and 1 are allowed")
    layout = Layout(
        rows=whole(header, "Rows"),
        columns=whole(header, "Columns"),
        samples=samples,
        frames=whole(header, "NumberOfFrames", 1) or 1,
        photometric=photometric,
        allocated=allocated,
        stored=stored,
        high_bit=high_bit if stored - 1 <= high_bit < allocated else stored - 1,
        signed=representation == 1,
        planar=samples > 1 and whole(header, "PlanarConfiguration", 0) == 1,
        is_float=is_float,
    )
    if layout.rows < 1 or layout.columns < 1 or layout.frames < 1:
        raise PixelError(f"the header declares {layout}: there is nothing to show")
    return layout


def read_stored(source: Part10, index: int, layout: Layout) -> StoredFrame:
    """Read one frame.

    Parameters
    ----------
    source
        The open object.
    index
        Which frame, from 0.
    layout
        Its checked Image Pixel module; the caller has held its size against the limit.

    Raises
    ------
    PixelError
        The pixel data are truncated, in another transfer syntax than the object says, or cannot be decoded.
    MemoryError
        Decoding asks for more memory than this process may have.
    """
    clean = source.syntax in (*JPEG2000TransferSyntaxes, *JPEGLSTransferSyntaxes)
    if source.syntax.is_encapsulated:
        values, photometric = _decode(source, _encoded_frame(source, index, layout), layout)
    else:
        values, photometric = _native(source, index, layout), layout.photometric
    if photometric.startswith("YBR") and values.ndim == 3:
        values = values[:, :, 0]
    return StoredFrame(values, photometric, layout, clean, index, source.header, source.syntax.is_little_endian)


def _native(source: Part10, index: int, layout: Layout) -> NDArray[Any]:
    """View a frame of uncompressed pixels (PS3.5 8.1.1, 8.2): no copy unless bits or bytes have to be rearranged."""
    if source.length == _UNDEFINED:
        raise PixelError(
            f"the pixel data are compressed, but the transfer syntax says {says(source.syntax)}: it is wrong"
        )
    needed = (layout.frame_bits * layout.frames + 7) // 8
    present = min(source.length, len(source.buffer) - source.offset)
    if present < needed:
        cut = f" (the object is cut off: {source.length} bytes are announced)" if present < source.length else ""
        raise PixelError(
            f"the header declares {layout}, {needed} bytes; there are {present} bytes of pixel data{cut}. "
            "Ask the modality to send it again"
        )
    swapped_bytes = not source.syntax.is_little_endian and layout.allocated <= 8 and source.vr == "OW"
    pixels = layout.rows * layout.columns
    if layout.allocated == 1:
        first = index * pixels
        raw = source.buffer[source.offset : source.offset + needed + (needed & swapped_bytes)]
        packed = np.frombuffer(raw, np.uint8)
        packed = packed.reshape(-1, 2)[:, ::-1].ravel() if swapped_bytes else packed
        bits = np.unpackbits(packed[first // 8 : (first + pixels + 7) // 8], bitorder="little")
        return bits[first % 8 : first % 8 + pixels].reshape(layout.rows, layout.columns)
    kind = "f" if layout.is_float else "u"
    order = "<" if source.syntax.is_little_endian else ">"
    dtype = np.dtype(f"{order}{kind}{layout.allocated // 8}")
    count = layout.frame_bits // layout.allocated
    if swapped_bytes:
        whole_words = np.frombuffer(source.buffer, np.uint8, present & ~1, source.offset).reshape(-1, 2)
        values = whole_words[:, ::-1].ravel()[index * count : (index + 1) * count]
    else:
        values = np.frombuffer(source.buffer, dtype, count, source.offset + index * count * dtype.itemsize)
    if dtype.itemsize > 1 and order != ("<" if sys.byteorder == "little" else ">"):
        values = values.astype(dtype.newbyteorder("="))
    if layout.photometric in _HALF_CHROMA:
        return values.reshape(-1, 4)[:, :2].reshape(layout.rows, layout.columns)
    if layout.samples == 1:
        return values.reshape(layout.rows, layout.columns)
    if layout.planar:
        return values.reshape(layout.samples, layout.rows, layout.columns).transpose(1, 2, 0)
    return values.reshape(layout.rows, layout.columns, layout.samples)


def _encoded_frame(source: Part10, index: int, layout: Layout) -> bytes:
    """Cut one compressed frame out of its fragments (PS3.5 A.4), and check what it says of itself."""
    if bytes(source.buffer[source.offset : source.offset + 4]) != _ITEM:
        raise PixelError(
            f"the transfer syntax says {says(source.syntax)}, but the pixel data are not compressed "
            "(they do not start with an item): it is wrong, or the object is cut off"
        )
    _check_fragments(source)
    offsets = value(source.header, "ExtendedOffsetTable"), value(source.header, "ExtendedOffsetTableLengths")
    source.stream.seek(source.offset)
    try:
        frame = get_frame(
            source.stream,
            index,
            number_of_frames=layout.frames,
            extended_offsets=offsets if all(isinstance(one, bytes) for one in offsets) else None,
        )
    except MemoryError:
        raise
    except Exception as error:
        raise PixelError(
            f"frame {index + 1} of {layout.frames} is not whole: {str(error)[:150]}. Ask the modality to send it again"
        ) from error
    if source.syntax == RLELossless:
        needed = layout.rows * layout.columns * layout.samples * layout.allocated // 8
        if needed > RLE_EXPANSION * len(frame):
            raise PixelError(
                f"the header declares {layout}, which {len(frame)} bytes of RLE cannot hold: the object is damaged"
            )
    elif (size := size_of(frame)) is not None and size != (layout.rows, layout.columns, layout.samples):
        raise PixelError(
            f"the header declares {layout}, but the compressed image is {size.rows} x {size.columns} pixels x "
            f"{size.samples} samples: one of them is wrong"
        )
    return frame


def _check_fragments(source: Part10) -> None:
    """Walk the items of compressed pixel data to their end (PS3.5 A.4): a decoder may show half of a cut-off image."""
    at, end = source.offset, len(source.buffer)
    if source.length != _UNDEFINED:
        end = min(end, at + source.length)
    while at + 8 <= end:
        tag, length = bytes(source.buffer[at : at + 4]), int.from_bytes(source.buffer[at + 4 : at + 8], "little")
        if tag == _DELIMITER:
            return
        if tag != _ITEM:
            raise PixelError("the compressed pixel data are damaged: where an item should start is something else")
        at += 8 + length
    if source.length == _UNDEFINED or at > end:
        raise PixelError("the compressed pixel data are cut off. Ask the modality to send the object again")


class _MemoryWatch(logging.Handler):
    """Sees a MemoryError that pydicom logs and then hides in a RuntimeError."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.seen = False

    def emit(self, record: logging.LogRecord) -> None:
        self.seen |= isinstance(record.msg, MemoryError)


def _memory_was_short(layout: Layout) -> bool:
    """Say whether a decoder that failed without saying why may have asked for more memory than there is.

    The C decoders hold a frame as 32-bit integers; had that not fitted beside the most that this process ever used, it
    was the memory, as far as anyone can tell.
    """
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return False
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    peak = next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmPeak:"))
    return peak + layout.rows * layout.columns * layout.samples * _DECODER_BYTES > limit


def _decode(source: Part10, frame: bytes, layout: Layout) -> tuple[NDArray[Any], str]:
    """Decompress one frame; returns it and the photometric interpretation that it has now."""
    logger, watch = logging.getLogger("pydicom"), _MemoryWatch()
    logger.addHandler(watch)
    options: dict[str, Any] = {
        "rows": layout.rows,
        "columns": layout.columns,
        "samples_per_pixel": layout.samples,
        "number_of_frames": 1,
        "photometric_interpretation": layout.photometric,
        "bits_allocated": layout.allocated,
        "bits_stored": layout.stored,
        "pixel_representation": int(layout.signed),
        "pixel_keyword": "PixelData",
        "correct_unused_bits": False,
    }
    if layout.samples > 1:
        options["planar_configuration"] = int(layout.planar)
    try:
        only_frame = encapsulate([frame], has_bot=False)
        values, properties = get_decoder(source.syntax).as_array(
            only_frame, index=0, raw=True, decoding_plugin=_PLUGINS.get(source.syntax, ""), **options
        )
    except MemoryError:
        raise
    except Exception as error:
        if watch.seen or _memory_was_short(layout):
            raise MemoryError from error
        why = str(error).removeprefix(_ALL_FAILED).strip().partition("\n")[0]
        raise PixelError(f"cannot decode transfer syntax {says(source.syntax)}: {why[:200]}; {ASK}") from error
    finally:
        logger.removeHandler(watch)
    if values.dtype.kind == "i":
        values = values.view(values.dtype.str.replace("i", "u"))
    return values, str(properties["photometric_interpretation"])
