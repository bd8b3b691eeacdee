"""What cannot be shown is refused, with a reason that a person understands."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.encaps import get_frame
from pydicom.filewriter import dcmwrite
from pydicom.uid import JPEGLSLossless, RLELossless

from tests.support.images import compressed, image, near
from tests.support.objects import save
from worker.errors import PixelError
from worker.inference.pixels import PixelReader

RAMP = np.array([[0, 1000, 2000, 4095]], np.uint16)


@pytest.mark.parametrize(("attributes", "reason"), [
    ({"Rows": None}, r"Rows \(0028,0010\) is missing"),
    ({"Columns": 0}, "nothing to show"),
    ({"BitsAllocated": 12}, r"BitsAllocated \(0028,0100\) is 12"),
    ({"BitsAllocated": None}, r"BitsAllocated .* missing"),
    ({"BitsStored": 17}, r"BitsStored .* 17"),
    ({"PixelRepresentation": 2}, "PixelRepresentation"),
    ({"PixelRepresentation": None}, "PixelRepresentation .* missing"),
    ({"PhotometricInterpretation": "HSV"}, "HSV: not supported"),
    ({"PhotometricInterpretation": None}, "PhotometricInterpretation .* missing"),
    ({"SamplesPerPixel": 3}, "1 samples a pixel, but the header says 3"),
    ({"PixelData": None}, "no pixel data .*declares an image"),
    ({"PixelData": bytes(6)}, "8 bytes; there are 6 bytes"),
    ({"NumberOfFrames": 7}, "7 frames.*56 bytes; there are 8"),
    ({"NumberOfFrames": -1}, "nothing to show"),
    ({"RescaleSlope": 1e308, "RescaleIntercept": 0}, "no numbers"),
])  # fmt: skip
def test_what_is_wrong_is_said(show: Any, attributes: dict[str, Any], reason: str) -> None:
    ds = image(RAMP, bits=12, **{"Rows": 1} | {k: v for k, v in attributes.items() if v is not None})
    for keyword in (key for key, value in attributes.items() if value is None):
        delattr(ds, keyword)
    with pytest.raises(PixelError, match=reason):
        show(ds)


def test_an_object_cut_off_in_its_pixels(reader: PixelReader, tmp_path: Path) -> None:
    path = save(image(np.zeros((64, 64), np.uint16)), tmp_path / "cut.dcm")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(PixelError, match="cut off: 8192 bytes are announced"):
        reader.read(path, "first")


def test_objects_without_preamble_and_meta(reader: PixelReader, tmp_path: Path) -> None:
    path = tmp_path / "bare"
    for implicit, little in ((True, True), (False, True), (False, False)):
        ds = image(np.array([[0, 51, 255]], np.uint8))
        dcmwrite(path, ds, implicit_vr=implicit, little_endian=little, enforce_file_format=False, overwrite=True)
        near(reader.read(path, "first"), [0, 51, 255])


def rle(*segments: bytes) -> bytes:
    """One RLE frame (PS3.5 G.5)."""
    offsets, at = [], 64
    for segment in segments:
        offsets.append(at)
        at += len(segment)
    return struct.pack("<16L", len(segments), *offsets, *[0] * (15 - len(segments))) + b"".join(segments)


def test_compressed_pixels_that_do_not_end_are_cut_off(reader: PixelReader, tmp_path: Path) -> None:
    path = compressed([rle(b"\x03\x00\x33\x99\xff\x80")], tmp_path / "rle.dcm", RLELossless, Rows=1, Columns=4)
    near(reader.read(path, "first"), [0, 51, 153, 255])
    whole = path.read_bytes()
    for cut in (8, 12):  # without the delimiter; in the middle of the fragment
        path.write_bytes(whole[:-cut])
        with pytest.raises(PixelError, match="cut off"):
            reader.read(path, "first")


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.95])
def test_a_damaged_jpeg_ls_image_is_not_shown_as_if_it_were_whole(
    reader: PixelReader, tmp_path: Path, keep: float
) -> None:
    ds = image(np.random.default_rng(5).integers(0, 4096, (64, 64)).astype(np.uint16), bits=12)
    path = save(ds, tmp_path / "native.dcm")
    expected = reader.read(path, "first").image
    ds = dcmread(path)
    ds.compress(JPEGLSLossless, generate_instance_uid=False)
    frame = get_frame(ds.PixelData, 0, number_of_frames=1)
    size = {"Rows": 64, "Columns": 64, "BitsAllocated": 16, "BitsStored": 12, "HighBit": 11}
    assert np.array_equal(reader.read(compressed([frame], path, JPEGLSLossless, **size), "first").image, expected)
    cut = frame[: int(keep * len(frame))]
    with pytest.raises(PixelError, match="cannot decode transfer syntax JPEG-LS Lossless"):
        reader.read(compressed([cut + bytes(len(cut) % 2)], path, JPEGLSLossless, **size), "first")


def test_pixels_that_are_not_compressed_as_they_should_be(reader: PixelReader, tmp_path: Path) -> None:
    path = save(image(RAMP, bits=12), tmp_path / "object.dcm")
    path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0"))
    reason = r"RLE Lossless \(1\.2\.840\.10008\.1\.2\.5\), but the pixel data are not compressed"
    with pytest.raises(PixelError, match=reason):
        reader.read(path, "first")


def test_pixels_that_are_compressed_and_should_not_be(reader: PixelReader, tmp_path: Path) -> None:
    path = compressed([rle(b"\x01\x00\x33\x80")], tmp_path / "rle.dcm", RLELossless, Rows=1, Columns=2)
    path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.5\0", b"1.2.840.10008.1.2.1\0"))
    with pytest.raises(PixelError, match="are compressed, but the transfer syntax says Explicit VR Little Endian"):
        reader.read(path, "first")


def test_a_transfer_syntax_without_decoder(reader: PixelReader, tmp_path: Path) -> None:
    path = compressed([b"any"], tmp_path / "movie.dcm", "1.2.840.10008.1.2.4.100", Rows=1, Columns=2)
    with pytest.raises(PixelError, match=r"cannot decode .*MPEG2.* \(1\.2\.[0-9.]*\.4\.100\).*ask the modality"):
        reader.read(path, "first")


def test_files_that_are_none(reader: PixelReader, tmp_path: Path) -> None:
    path = tmp_path / "file"
    with pytest.raises(PixelError, match="No such file"):
        reader.read(path, "first")
    path.touch()
    with pytest.raises(PixelError, match="empty"):
        reader.read(path, "first")
    with pytest.raises(PixelError, match="no regular file"):
        reader.read(tmp_path, "first")
    for content in (b"x", b"<html>no scan</html>" * 50, bytes(1000), b"\xff" * 1000):
        path.write_bytes(content)
        with pytest.raises(PixelError, match=r"DICOM object|ends before"):
            reader.read(path, "first")


@pytest.mark.filterwarnings("ignore")  # pydicom's remarks as the damaged object is made
def test_a_value_that_is_no_code_or_number_is_not_quoted(reader: PixelReader, tmp_path: Path) -> None:
    path = save(image(RAMP), tmp_path / "a.dcm")
    content = path.read_bytes()
    at = content.index(b"\x02\x00\x10\x00UI") + 6
    path.write_bytes(content[:at] + b"\xf0\x01" + content[at + 2 :])  # the transfer syntax swallows the patient's name
    with pytest.raises(PixelError, match=r"names no transfer syntax: what it says is no UID$"):
        reader.read(path, "first")
    path.write_bytes(content.replace(b"CS\x02\x00DX", b"KS\x02\x00DX").replace(b"OW\0\0", b"ZZ\0\0"))
    with pytest.raises(PixelError):
        reader.read(path, "first")
    save(image(RAMP, PhotometricInterpretation="Doe^Jane"), path)
    with pytest.raises(PixelError, match="is neither code nor number: not supported"):
        reader.read(path, "first")


def test_a_modality_of_an_unknown_representation_is_a_reason(reader: PixelReader, tmp_path: Path) -> None:
    path = save(image(RAMP, PixelData=None), tmp_path / "a.dcm")
    path.write_bytes(path.read_bytes().replace(b"CS\x02\x00DX", b"KS\x02\x00DX"))
    with pytest.raises(PixelError, match=r"^Modality \(0008,0060\) cannot be read: NotImplementedError$"):
        reader.read(path, "first")
