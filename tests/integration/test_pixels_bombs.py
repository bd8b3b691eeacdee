"""Objects that want more than they may have: a reason for each, the service alive, its memory untouched."""

import io
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from jpeg_ls import encode as encode_jpeg_ls
from openjpeg.utils import encode_array
from PIL import Image
from pydicom.datadict import tag_for_keyword
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from tests.support.bombs import header_bombs, implicit
from tests.support.images import compressed, image
from tests.support.objects import save
from worker.errors import PixelError
from worker.inference.pixels import PixelReader

MIB = 1 << 20
MEMORY = 320 * MIB
META_ONLY = b"\0" * 128 + b"DICM"


@pytest.fixture(scope="module")
def reader() -> Iterator[PixelReader]:
    with PixelReader(seconds=60, memory_bytes=MEMORY, max_pixels=400_000_000) as reader:
        yield reader


@pytest.fixture(autouse=True)
def _the_reader_goes_on(reader: PixelReader, tmp_path: Path) -> Iterator[None]:
    yield
    good = save(image(np.array([[0, 255]], np.uint8)), tmp_path / "good.dcm")
    assert reader.read(good, "first").image.tolist() == [[0, 255]]


def memory_used(what: str) -> int:
    status = Path(f"/proc/{os.getpid()}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(f"{what}:"))


def rle(size: int) -> bytes:
    """A frame of one segment that unpacks to `size` bytes: two bytes for 128."""
    return struct.pack("<16L", 1, 64, *[0] * 14) + b"\x81\x00" * (size // 128)


def refused(reader: PixelReader, path: Path, reason: str) -> None:
    """Assert that an object is refused for this reason, and that it cost this process no memory."""
    assert path.stat().st_size < 8 * MIB
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again at what is used now
    before = memory_used("VmHWM")
    with pytest.raises(PixelError, match=reason):
        reader.read(path, "first")
    assert memory_used("VmHWM") - before < 32 * MIB


def test_a_deflated_bomb(reader: PixelReader, tmp_path: Path) -> None:
    path = save(image(np.zeros((1, 1), np.uint8)), tmp_path / "bomb.dcm", DeflatedExplicitVRLittleEndian)
    head = path.read_bytes()
    start = head.index(b"MODALITY") + 8
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    body = deflater.compress(b"\x09\x00\x01\x10UN\0\0" + struct.pack("<L", 400 * MIB))
    body += b"".join(deflater.compress(bytes(16 * MIB)) for _ in range(25)) + deflater.flush()
    path.write_bytes(head[:start] + body)
    refused(reader, path, "deflated data set is larger than 80 MiB when inflated")


def test_a_damaged_deflated_data_set(reader: PixelReader, tmp_path: Path) -> None:
    path = save(image(np.zeros((1, 1), np.uint8)), tmp_path / "bad.dcm", DeflatedExplicitVRLittleEndian)
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"MODALITY") + 8] + b"\xff" * 100)
    refused(reader, path, "deflated data set is damaged")


@pytest.mark.parametrize("side", [65535, 46341, 20001])
@pytest.mark.parametrize("frames", [1, 2_000_000_000])
def test_more_pixels_are_declared_than_allowed(reader: PixelReader, tmp_path: Path, side: int, frames: int) -> None:
    sizes = {"Rows": side, "Columns": side, "NumberOfFrames": frames}
    refused(reader, save(image(np.zeros((4, 4), np.uint16), **sizes), tmp_path / "native.dcm"), "are refused")
    refused(reader, compressed([rle(128)], tmp_path / "rle.dcm", RLELossless, **sizes), "are refused")


def test_more_pixels_are_declared_than_there_are_bytes(reader: PixelReader, tmp_path: Path) -> None:
    sizes = {"Rows": 20000, "Columns": 20000}
    refused(reader, compressed([rle(1 << 16)], tmp_path / "rle.dcm", RLELossless, **sizes), "bytes of RLE cannot hold")
    path = save(image(np.zeros((4, 4), np.uint16), **sizes), tmp_path / "native.dcm")
    refused(reader, path, "800000000 bytes; there are 32 bytes")
    path = save(image(np.zeros((4, 4), np.uint16), Rows=4, Columns=4, NumberOfFrames=2**31 - 1), path)
    refused(reader, path, "there are 32 bytes")


def test_more_frames_are_declared_than_there_are(reader: PixelReader, tmp_path: Path) -> None:
    sizes = {"Rows": 1, "Columns": 128, "NumberOfFrames": 2**31 - 1}
    path = compressed([rle(128), rle(128)], tmp_path / "rle.dcm", RLELossless, **sizes)
    with pytest.raises(PixelError, match="is not whole"):
        reader.read(path, "middle")


def test_an_element_longer_than_the_object(reader: PixelReader, tmp_path: Path) -> None:
    path = tmp_path / "long.dcm"
    path.write_bytes(META_ONLY + b"\x09\x00\x01\x10UN\0\0\xf0\xff\xff\xff")
    refused(reader, path, "DICOM object")


def test_run_lengths_that_unpack_to_more_than_the_memory(reader: PixelReader, tmp_path: Path) -> None:
    path = compressed([rle(1 << 28)], tmp_path / "rle.dcm", RLELossless, Rows=1 << 14, Columns=1 << 14)
    refused(reader, path, "^decoding needed more than 320 MiB of memory$")


def test_a_jpeg_2000_image_that_needs_more_than_the_memory(reader: PixelReader, tmp_path: Path) -> None:
    frame = encode_array(np.zeros((6000, 6000), np.uint8))
    path = compressed([frame], tmp_path / "j2k.dcm", JPEG2000Lossless, Rows=6000, Columns=6000)
    refused(reader, path, "^decoding needed more than 320 MiB of memory$")


@pytest.mark.parametrize("side", [512, 19000])
def test_a_compressed_image_larger_than_its_header_says(reader: PixelReader, tmp_path: Path, side: int) -> None:
    sizes = {"Rows": side, "Columns": side}
    small = np.zeros((64, 64), np.uint8)
    j2k = bytearray(encode_array(small))
    for at in (8, 12, 24, 28):  # Xsiz, Ysiz, XTsiz, YTsiz (ISO/IEC 15444-1 A.5.1)
        struct.pack_into(">I", j2k, at, 60000)
    refused(reader, compressed([bytes(j2k)], tmp_path / "j2k.dcm", JPEG2000Lossless, **sizes), "60000 x 60000")
    picture = io.BytesIO()
    Image.fromarray(small).save(picture, "JPEG")
    jpeg = bytearray(picture.getvalue())
    struct.pack_into(">HH", jpeg, jpeg.index(b"\xff\xc0") + 5, 65500, 65500)
    refused(reader, compressed([bytes(jpeg)], tmp_path / "j.dcm", JPEGBaseline8Bit, **sizes), "65500 x 65500")


def test_a_jpeg_ls_image_larger_than_its_header_says(reader: PixelReader, tmp_path: Path) -> None:
    frame = bytearray(encode_jpeg_ls(np.zeros((64, 64), np.uint8)))
    struct.pack_into(">HH", frame, frame.index(b"\xff\xf7") + 5, 65500, 65500)
    sizes = {"Rows": 64, "Columns": 64}
    refused(reader, compressed([bytes(frame)], tmp_path / "jls.dcm", JPEGLSLossless, **sizes), "65500 x 65500")
    path = compressed([bytes(frame)], tmp_path / "jls.dcm", JPEGLSLossless, Rows=19000, Columns=19000)
    refused(reader, path, "65500 x 65500")


@pytest.mark.parametrize("offsets", [
    [0xFFFFFFFF], [0, 8], [0x7FFFFFFF, 0], [0] * 100_000, [2**32 - 8, 2**32 - 16],
])  # fmt: skip
def test_an_offset_table_that_leads_nowhere(reader: PixelReader, tmp_path: Path, offsets: list[int]) -> None:
    frames = max(2, len(offsets))
    path = compressed([rle(128)] * 2, tmp_path / "rle.dcm", RLELossless, Rows=1, Columns=128, NumberOfFrames=frames)
    content = path.read_bytes()
    item = b"\xfe\xff\x00\xe0"
    at = content.index(item)
    length = int.from_bytes(content[at + 4 : at + 8], "little")
    table = struct.pack(f"<{len(offsets)}L", *offsets)
    path.write_bytes(content[:at] + item + struct.pack("<L", len(table)) + table + content[at + 8 + length :])
    refused(reader, path, "is not whole|bytes of RLE cannot hold|cannot decode|damaged")


def test_an_extended_offset_table_that_leads_nowhere(reader: PixelReader, tmp_path: Path) -> None:
    lies = {
        "ExtendedOffsetTable": struct.pack("<2Q", 2**63, 0),
        "ExtendedOffsetTableLengths": struct.pack("<2Q", 2**62, 2**62),
    }
    sizes = {"Rows": 1, "Columns": 128, "NumberOfFrames": 2}
    path = compressed([rle(128)] * 2, tmp_path / "rle.dcm", RLELossless, **sizes, **lies)
    refused(reader, path, "0 bytes of RLE cannot hold")


@pytest.mark.parametrize(("name", "reason"), [
    ("half a million elements", "^its header has more than 200000 elements"),
    ("half a million elements in an item", "^its header has more than 200000 elements: it is refused as a bomb$"),
    ("nested with lengths", "nothing in it describes an image"),
    ("a name of 5 MB", "no pixel data"),
    ("character sets of 1 MB", "no pixel data"),
    ("private creators", "no pixel data"),
    ("longer than the object", "no pixel data"),
    ("deflated", "refused as a bomb"),
])  # fmt: skip
def test_a_header_that_is_a_bomb(reader: PixelReader, tmp_path: Path, name: str, reason: str) -> None:
    path = tmp_path / "bomb.dcm"
    path.write_bytes(header_bombs()[name])
    refused(reader, path, reason)


def with_value(path: Path, keyword: str, value: bytes) -> Path:
    """Write an object with one more attribute, before its samples."""
    content = save(image(np.array([[0, 255]], np.uint8)), path, ImplicitVRLittleEndian).read_bytes()
    at = content.index(b"\x28\x00\x02\x00\x02\0\0\0")
    path.write_bytes(content[:at] + implicit(int(tag_for_keyword(keyword) or 0), value) + content[at:])
    return path


@pytest.mark.parametrize("keyword", ["WindowCenter", "PixelSpacing", "ImageType"])
def test_a_hundred_thousand_values(reader: PixelReader, tmp_path: Path, keyword: str) -> None:
    path = with_value(tmp_path / "many.dcm", keyword, b"1\\" * 99_999 + b"1 ")
    before = memory_used("VmRSS")
    assert reader.read(path, "first").image.tolist() == [[0, 255]]
    assert memory_used("VmRSS") - before < 32 * MIB


def test_a_number_of_two_million_digits(reader: PixelReader, tmp_path: Path) -> None:
    path = with_value(tmp_path / "number.dcm", "NumberOfFrames", b"9" * 2_000_000)
    refused(reader, path, r"^NumberOfFrames \(0028,0008\) cannot be read: OverflowError$")


def test_a_jpeg_that_is_as_large_as_its_header_says(reader: PixelReader, tmp_path: Path) -> None:
    picture = io.BytesIO()
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(picture, "JPEG")
    jpeg = bytearray(picture.getvalue())
    struct.pack_into(">HH", jpeg, jpeg.index(b"\xff\xc0") + 5, 19000, 19000)
    path = compressed([bytes(jpeg)], tmp_path / "j.dcm", JPEGBaseline8Bit, Rows=19000, Columns=19000)
    refused(reader, path, "decoding needed more than 320 MiB of memory")


def test_sequences_nested_without_end(reader: PixelReader, tmp_path: Path) -> None:
    path = tmp_path / "nested.dcm"
    level = b"\x40\x00\x30\xa7SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    path.write_bytes(META_ONLY + level * 100_000)
    refused(reader, path, "nested too deeply")


def test_a_decoder_that_is_too_slow(reader: PixelReader, tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (1000, 1000)).astype(np.uint8)
    path = compressed([encode_array(noise)], tmp_path / "slow.dcm", JPEG2000Lossless, Rows=1000, Columns=1000)
    with PixelReader(seconds=0.02, memory_bytes=MEMORY) as hasty:
        refused(hasty, path, r"^decoding took longer than 0\.02 seconds$")
    assert np.array_equal(reader.read(path, "first").image, noise)
