"""A CT in the window that a model wants: over Hounsfield units, whatever the header asks for, and nowhere else."""

from typing import Any

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.sequence import Sequence

from models.card import Window
from tests.support.images import image, lut, near

LUNG = Window(centre=-600, width=1500)
HOUNSFIELD = np.array([[-2000, -1350, -975, -600, 150, 3000]], np.int16)
IN_LUNG_WINDOW = [0, 0, 63.75, 127.5, 255, 255]


def ct(values: Any = HOUNSFIELD, **attributes: Any) -> Dataset:
    """A CT slice of these Hounsfield units, shown by its header in a mediastinal window."""
    stated = {"Modality": "CT", "RescaleSlope": 1, "RescaleIntercept": 0, "WindowCenter": 40, "WindowWidth": 400}
    return image(values, **{keyword: value for keyword, value in (stated | attributes).items() if value is not None})


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"RescaleType": "HU"},
        {"WindowCenter": [40, -600], "WindowWidth": [400, 1500]},
        {"WindowCenter": None, "WindowWidth": None},
        {"PhotometricInterpretation": "MONOCHROME1"},
        {"PresentationLUTShape": "INVERSE"},
        {"VOILUTFunction": "SIGMOID"},
        {"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"]},
    ],
)
def test_a_ct_is_shown_in_the_models_window_whatever_its_header_asks_for(show: Any, attributes: dict[str, Any]) -> None:
    frame = show(ct(**attributes), window=LUNG)
    near(frame, IN_LUNG_WINDOW)
    assert frame.windowed
    assert frame.note == ""


def test_rescale_comes_before_the_models_window(show: Any) -> None:
    stored = (HOUNSFIELD.clip(-1024) + 1024).astype(np.uint16)
    air = 326 / 1500 * 255  # -1024, the lowest that is stored
    near(show(ct(stored, bits=12, RescaleIntercept=-1024), window=LUNG), [air, air, 63.75, 127.5, 255, 255])
    halved = (HOUNSFIELD // 2).astype(np.int16)
    near(show(ct(halved, RescaleSlope=2), window=LUNG), [0, 0, 374 / 1500 * 255, 127.5, 255, 255])
    table = ct(np.array([[0, 1, 2]], np.uint16), RescaleSlope=None, RescaleIntercept=None)
    table.ModalityLUTSequence = Sequence([lut([0, 150, 3000])])
    table.ModalityLUTSequence[0].ModalityLUTType = "HU"
    near(show(table, window=LUNG), [229.5, 255, 255])


def test_a_voi_lut_does_not_stand_before_the_models_window(show: Any) -> None:
    ds = ct()
    ds.VOILUTSequence = Sequence([lut([0, 65535], first=0)])
    near(show(ds, window=LUNG), IN_LUNG_WINDOW)


def test_padding_of_a_ct_is_black_in_the_models_window(show: Any) -> None:
    near(show(ct(PixelPaddingValue=3000), window=LUNG), [*IN_LUNG_WINDOW[:-1], 0])


@pytest.mark.parametrize(
    "attributes",
    [
        {"Modality": "DX"},
        {"RescaleType": "US"},
        {"RescaleSlope": None, "RescaleIntercept": None},
        {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]},
        {"ImageType": "LOCALIZER"},
    ],
)
def test_what_holds_no_hounsfield_units_is_shown_as_it_says_and_that_is_said(
    show: Any, attributes: dict[str, Any]
) -> None:
    frame = show(ct(**attributes), window=LUNG)
    near(frame, show(ct(**attributes)).image)
    assert not frame.windowed
    assert "holds no Hounsfield units" in frame.note
    assert "centre -600, width 1500 HU" in frame.note


def test_colour_is_never_windowed(show: Any) -> None:
    colours = np.array([[[255, 0, 0], [9, 9, 9]]], np.uint8)
    frame = show(image(colours, Modality="CT", RescaleSlope=1, RescaleIntercept=0), window=LUNG)
    near(frame, [76.245, 9])
    assert not frame.windowed


def test_an_enhanced_ct_is_windowed_by_its_frames_rescale(show: Any) -> None:
    ds = image(np.array([[0, 400], [424, 1174]], np.uint16), bits=12, Modality="CT", Rows=1, NumberOfFrames=2)
    rescale = Dataset()
    rescale.RescaleSlope, rescale.RescaleIntercept, rescale.RescaleType = 1, -1024, "HU"
    group = Dataset()
    group.PixelValueTransformationSequence = Sequence([rescale])
    ds.SharedFunctionalGroupsSequence = Sequence([group])
    near(show(ds, "middle", window=LUNG), [(326 / 1500) * 255, (726 / 1500) * 255])
    rescale.RescaleType = "US"
    assert not show(ds, "middle", window=LUNG).windowed
