"""What is shown for what is stored, by hand-computed values, each through the real child."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from tests.support.images import image, lut, near
from worker.errors import PixelError
from worker.inference.pixels import PixelReader

RAMP = np.array([[0, 1000, 2000, 4095]], np.uint16)


def test_a_window_is_linear_as_the_standard_has_it(show: Any) -> None:
    # C.11.2.1.2.1 with c=2000, w=1001: black up to 1499.5, white above 2499.5.
    ds = image(np.array([[1499, 1500, 2000, 2499, 2500]], np.uint16), bits=12, WindowCenter=2000, WindowWidth=1001)
    near(show(ds), [0, 0.0005 * 255, 0.5005 * 255, 0.9995 * 255, 255])
    assert show(ds).note == ""


def test_linear_exact_and_sigmoid(show: Any) -> None:
    stored = np.array([[1000, 1500, 2000, 3000]], np.uint16)
    ds = image(stored, bits=12, WindowCenter=2000, WindowWidth=1000, VOILUTFunction="LINEAR_EXACT")
    near(show(ds), [0, 0, 127.5, 255])
    ds.VOILUTFunction = "SIGMOID"
    near(show(ds), 255 / (1 + np.exp([4, 2, 0, -4])))


def test_the_first_of_several_windows_counts(show: Any) -> None:
    ds = image(RAMP, bits=12, WindowCenter=[1000, 50], WindowWidth=[1, 60])
    near(show(ds), [0, 255, 255, 255])  # width 1 is a threshold at c - 0.5


def test_a_window_of_no_width_is_ignored_and_said(show: Any) -> None:
    frame = show(image(RAMP, bits=12, WindowCenter=100, WindowWidth=0))
    near(frame, RAMP * (255 / 4095))
    assert "window width 0" in frame.note
    assert "no display window" in frame.note


def test_an_unknown_window_function_is_linear_and_said(show: Any) -> None:
    frame = show(image(RAMP, bits=12, WindowCenter=2000, WindowWidth=1001, VOILUTFunction="CUBIC"))
    near(frame, [0, 0, 0.5005 * 255, 255])
    assert "CUBIC" in frame.note


def test_rescale_comes_before_the_window(show: Any) -> None:
    stored = np.array([[0, 512, 1024, 1536, 2048]], np.int16)
    ds = image(stored, RescaleSlope=2, RescaleIntercept=-1024, WindowCenter=1024.5, WindowWidth=2049)
    near(show(ds), [0, 0, 127.5, 255, 255])


def test_no_window_spreads_darkest_to_brightest_pixel(show: Any) -> None:
    frame = show(image(np.array([[100, 600, 1100]], np.uint16), bits=12))
    near(frame, [0, 127.5, 255])
    assert frame.note == "the image sets no display window: it was read from its darkest to its brightest value"


def test_no_window_leaves_eight_bits_as_they_are(show: Any) -> None:
    frame = show(image(np.array([[10, 100, 200]], np.uint8)))
    near(frame, [10, 100, 200])
    assert frame.note == "the image sets no display window: its full range of values was read"


@pytest.mark.parametrize(
    ("photometric", "shape", "inverted"),
    [
        ("MONOCHROME2", None, False),
        ("MONOCHROME2", "IDENTITY", False),
        ("MONOCHROME2", "INVERSE", True),
        ("MONOCHROME1", None, True),
        ("MONOCHROME1", "INVERSE", True),
    ],
)
def test_the_sense_of_the_grey_scale(show: Any, photometric: str, shape: str | None, inverted: bool) -> None:
    ds = image(np.array([[0, 51, 255]], np.uint8), PhotometricInterpretation=photometric)
    if shape:
        ds.PresentationLUTShape = shape
    near(show(ds), [255, 204, 0] if inverted else [0, 51, 255])


def test_monochrome1_and_its_inverse_in_monochrome2_look_the_same(show: Any) -> None:
    two = show(image(RAMP, bits=12, WindowCenter=2048, WindowWidth=4096))
    one = show(
        image(4095 - RAMP, bits=12, WindowCenter=2048, WindowWidth=4096, PhotometricInterpretation="MONOCHROME1")
    )
    near(one, two.image)


def test_signed_values(show: Any) -> None:
    near(show(image(np.array([[-1000, 0, 1000]], np.int16))), [0, 127.5, 255])
    near(show(image(np.array([[-128, 0, 127]], np.int8))), [0, 128, 255])


def test_signed_values_of_fewer_bits_with_junk_above_them(show: Any) -> None:
    # 12 bits signed: 0x800 = -2048, 0xFFF = -1, 0x7FF = 2047; the four bits above are an overlay's or anybody's.
    stored = np.array([[0x1800, 0xAFFF, 0xF000, 0x57FF]], np.uint16)
    ds = image(stored, bits=12, PixelRepresentation=1)
    near(show(ds), np.array([0, 2047, 2048, 4095]) * (255 / 4095))


def test_junk_outside_the_stored_bits_is_dropped(show: Any) -> None:
    near(show(image(RAMP | 0xF000, bits=12)), RAMP * (255 / 4095))


def test_a_high_bit_that_is_not_at_the_bottom(show: Any) -> None:
    ds = image((RAMP << 4) | 0xF, bits=12, HighBit=15)
    near(show(ds), RAMP * (255 / 4095))


def test_a_modality_lut_comes_before_the_window(show: Any) -> None:
    ds = image(np.array([[0, 10, 11, 12, 500]], np.uint16), bits=12, WindowCenter=150.5, WindowWidth=301)
    ds.ModalityLUTSequence = Sequence([lut([0, 150, 300], first=10)])
    near(show(ds), [0, 0, 127.5, 255, 255])


def test_a_voi_lut_is_preferred_to_a_window(show: Any) -> None:
    ds = image(np.array([[0, 100, 101, 102, 4095]], np.uint16), bits=12, WindowCenter=1, WindowWidth=2)
    ds.VOILUTSequence = Sequence([lut([0, 1023, 512], first=100, bits=10)])
    near(show(ds), [0, 0, 255, 512 / 1023 * 255, 512 / 1023 * 255])


def test_a_voi_lut_of_signed_values_written_unsigned(show: Any) -> None:
    ds = image(np.array([[-1000, -999, -998]], np.int16), RescaleSlope=1, RescaleIntercept=0)
    ds.VOILUTSequence = Sequence([lut([0, 128, 255], first=-1000, bits=8)])
    near(show(ds), [0, 128, 255])


def test_a_voi_lut_of_bytes_packed_in_words(show: Any) -> None:
    item = lut([0], bits=8)
    item.LUTDescriptor = [4, 0, 8]
    item.LUTData = bytes([0, 50, 100, 255])
    ds = image(np.array([[0, 1, 2, 3]], np.uint16), bits=12)
    ds.VOILUTSequence = Sequence([item])
    near(show(ds), [0, 50, 100, 255])


def test_a_lookup_table_shorter_than_it_says_is_refused(show: Any) -> None:
    item = lut([0, 1, 2])
    item.LUTDescriptor = [300, 0, 16]
    ds = image(RAMP, bits=12)
    ds.VOILUTSequence = Sequence([item])
    with pytest.raises(PixelError, match=r"LUTData \(0028,3006\)"):
        show(ds)


def test_padding_is_black_and_does_not_stretch(show: Any) -> None:
    stored = np.array([[-2000, 0, 500, 1000]], np.int16)
    ds = image(stored)
    ds.add_new("PixelPaddingValue", "US", 63536)  # -2000, written unsigned as it often is
    near(show(ds), [0, 0, 127.5, 255])
    near(show(image(np.array([[5, 60, 80, 255]], np.uint8), PhotometricInterpretation="MONOCHROME1",
                    PixelPaddingValue=0, PixelPaddingRangeLimit=70)), [0, 0, 175, 0])  # fmt: skip


def test_nothing_but_padding_is_black_and_said(show: Any) -> None:
    ds = image(np.full((2, 2), 7, np.uint16), bits=12, PixelPaddingValue=7)
    frame = show(ds)
    near(frame, np.zeros((2, 2)))
    assert "padding" in frame.note


@pytest.mark.parametrize("planar", [0, 1])
def test_rgb_becomes_its_luma(show: Any, planar: int) -> None:
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]]], np.uint8)
    ds = image(colours, PlanarConfiguration=planar)
    if planar:
        ds.PixelData = colours.transpose(2, 0, 1).tobytes()
    near(show(ds), [76.245, 149.685, 29.07, 9])


def test_rgb_of_sixteen_and_thirty_two_bits(show: Any) -> None:
    for dtype in (np.uint16, np.uint32):
        top = np.iinfo(dtype).max
        near(show(image(np.array([[[top, 0, 0], [top, top, top]]], dtype))), [76.245, 255])


def test_ybr_is_shown_by_its_y(show: Any) -> None:
    ds = image(np.array([[[200, 10, 20], [100, 30, 40]]], np.uint8), PhotometricInterpretation="YBR_FULL")
    near(show(ds), [200, 100])
    ds = image(np.zeros((1, 2, 3), np.uint8), PhotometricInterpretation="YBR_FULL_422")
    ds.PixelData = bytes([7, 9, 128, 128])  # Y Y Cb Cr
    near(show(ds), [7, 9])
    ds.PhotometricInterpretation = "YBR_PARTIAL_422"
    ds.PixelData = bytes([16, 235, 128, 128])
    near(show(ds), [0, 255])


@pytest.mark.parametrize("bits", [8, 16])
def test_a_palette_becomes_luma(show: Any, bits: int) -> None:
    ds = image(np.array([[0, 10, 11, 255]], np.uint8), PhotometricInterpretation="PALETTE COLOR")
    top = (1 << bits) - 1
    for colour, entries in (("Red", [0, top]), ("Green", [0, top]), ("Blue", [top, top])):
        ds.add_new(f"{colour}PaletteColorLookupTableDescriptor", "US", [2, 10, bits])
        ds.add_new(f"{colour}PaletteColorLookupTableData", "OW", np.array(entries, f"<u{bits // 8}").tobytes())
    near(show(ds), [29.07, 29.07, 255, 255])


def test_a_segmented_palette(show: Any) -> None:
    ds = image(np.array([[0, 1, 2, 3, 4]], np.uint8), PhotometricInterpretation="PALETTE COLOR")
    # C.7.9.2: a discrete segment of one entry, then a linear one of four.
    segments = np.array([0, 1, 0, 1, 4, 65535], "<u2").tobytes()
    for colour in ("Red", "Green", "Blue"):
        ds.add_new(f"{colour}PaletteColorLookupTableDescriptor", "US", [5, 0, 16])
        ds.add_new(f"Segmented{colour}PaletteColorLookupTableData", "OW", segments)
    near(show(ds), np.round(np.array([0, 0.25, 0.5, 0.75, 1]) * 65535) * (255 / 65535))


def test_a_palette_that_is_missing_is_refused(show: Any) -> None:
    with pytest.raises(PixelError, match="RedPalette"):
        show(image(np.array([[0]], np.uint8), PhotometricInterpretation="PALETTE COLOR"))


def test_one_bit(show: Any) -> None:
    ds = image(np.zeros((2, 5), np.uint8), BitsAllocated=1, BitsStored=1, HighBit=0, NumberOfFrames=2)
    bits = np.array([1, 0, 1, 0, 0, 1, 1, 1, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 1, 1], np.uint8)
    ds.PixelData = np.packbits(bits, bitorder="little").tobytes() + b"\0"
    near(show(ds, "middle"), 255 * bits[:10].reshape(2, 5))


def test_thirty_two_bits(show: Any) -> None:
    near(show(image(np.array([[10, 20, 30]], np.uint32))), [0, 127.5, 255])
    near(show(image(np.array([[-(2**31), 0, 2**31 - 1]], np.int32))), [0, 127.5, 255])


@pytest.mark.parametrize(("keyword", "dtype"), [("FloatPixelData", "<f4"), ("DoubleFloatPixelData", "<f8")])
def test_float_pixels(show: Any, keyword: str, dtype: str) -> None:
    values = np.array([[-1.5, 0.0, np.nan, np.inf, 1.5]], dtype)
    ds = image(np.zeros((1, 5), np.uint8), BitsAllocated=8 * values.itemsize, PixelData=None)
    for unused in ("BitsStored", "HighBit", "PixelRepresentation"):
        delattr(ds, unused)
    setattr(ds, keyword, values.tobytes())
    near(show(ds), [0, 127.5, 0, 0, 255])  # what is no number is background


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.uint32])
@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_every_uncompressed_encoding_shows_the_same(show: Any, dtype: type, syntax: str) -> None:
    values = np.arange(12).reshape(3, 4).astype(dtype)
    expected = show(image(values)).image
    ds = image(values)
    if syntax == ExplicitVRBigEndian:
        ds.PixelData = values.astype(values.dtype.newbyteorder(">")).tobytes()
        if dtype is np.uint8:  # eight bits in words: each pair arrives swapped (PS3.5 8.1.2)
            ds.PixelData = values.reshape(-1, 2)[:, ::-1].tobytes()
            ds["PixelData"].VR = "OW"
    near(show(ds, "first", syntax), expected)


def frames(count: int, **attributes: Any) -> Dataset:
    """An object of `count` frames, frame i all of value 10 i."""
    values = np.repeat(np.arange(count, dtype=np.uint8) * 10, 4).reshape(2 * count, 2)
    return image(values, **({"Rows": 2, "NumberOfFrames": count} | attributes))


@pytest.mark.parametrize(("count", "policy", "value", "note"), [
    (12, "first", 0, "frame 1 of 12"), (12, "middle", 50, "frame 6 of 12"), (13, "middle", 60, "frame 7 of 13"),
    (1, "middle", 0, ""), (1, "refuse", 0, ""),
])  # fmt: skip
def test_the_frame_policy(show: Any, count: int, policy: str, value: int, note: str) -> None:
    frame = show(frames(count), policy)
    near(frame, np.full((2, 2), value))
    assert frame.frames == count
    assert (frame.rows, frame.columns) == (2, 2)
    assert note in frame.note


def test_several_frames_are_refused_where_the_model_says_so(show: Any) -> None:
    with pytest.raises(PixelError, match="12 frames"):
        show(frames(12), "refuse")


def test_an_unknown_frame_policy_is_a_mistake_of_ours(reader: PixelReader, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="last"):
        reader.read(tmp_path, "last")


def test_enhanced_objects_have_rescale_and_window_by_frame(show: Any) -> None:
    def group(**macros: Dataset) -> Dataset:
        item = Dataset()
        for keyword, macro in macros.items():
            setattr(item, keyword, Sequence([macro]))
        return item

    def attributes(**values: float) -> Dataset:
        item = Dataset()
        for keyword, value in values.items():
            setattr(item, keyword, value)
        return item

    ds = frames(3, WindowCenter=1, WindowWidth=1)
    ds.SharedFunctionalGroupsSequence = Sequence(
        [group(PixelValueTransformationSequence=attributes(RescaleIntercept=5, RescaleSlope=2))]
    )
    windows = [attributes(WindowCenter=20.5 + 10 * number, WindowWidth=41) for number in range(3)]
    ds.PerFrameFunctionalGroupsSequence = Sequence([group(FrameVOILUTSequence=window) for window in windows])
    # Frame 2: value 10, 25 after rescale; its window runs from 10 to 50.
    near(show(ds, "middle"), np.full((2, 2), 15 / 40 * 255))


def test_pixels_that_are_not_square_are_said(show: Any) -> None:
    assert "not square" in show(image(RAMP, bits=12, PixelAspectRatio=[4, 3])).note
    assert "not square (0.2 high, 0.1 wide)" in show(image(RAMP, bits=12, ImagerPixelSpacing=[0.2, 0.1])).note
    assert "square" not in show(image(RAMP, bits=12, PixelSpacing=[0.1, 0.1])).note


def test_the_range_is_that_of_what_is_shown_not_of_the_stored_values(show: Any) -> None:
    stored = np.array([[0, 1, 2]], np.uint16)
    near(show(image(stored, bits=12, ModalityLUTSequence=[lut([10, 50, 20])])), [0, 255, 63.75])
    near(show(image(stored, bits=12, ModalityLUTSequence=[lut([30, 20, 10])])), [255, 127.5, 0])
    near(show(image(stored, bits=12, ModalityLUTSequence=[lut([30, 10, 20])])), [255, 0, 127.5])


def test_the_range_of_signed_values_goes_through_zero(show: Any) -> None:
    near(show(image(np.array([[-300, -100, 100, 300]], np.int16))), [0, 85, 170, 255])
    near(show(image(np.array([[-300, -100, 100, 300]], np.int16), PixelPaddingValue=-300)), [0, 0, 127.5, 255])


def test_padding_at_an_end_takes_no_part_in_the_range(show: Any) -> None:
    stored = np.array([[0, 100, 200, 4095]], np.uint16)
    near(show(image(stored, bits=12, PixelPaddingValue=4095)), [0, 127.5, 255, 0])
    near(show(image(stored, bits=12, PixelPaddingValue=0)), [0, 0, 100 / 3995 * 255, 255])
    near(show(image(stored, bits=12, PixelPaddingValue=100)), [0, 0, 200 / 4095 * 255, 255])


def test_bits_outside_the_stored_ones_take_no_part_in_the_range(show: Any) -> None:
    near(show(image(np.array([[0x1000, 0x0400, 0x0800]], np.uint16), bits=12)), [0, 127.5, 255])
