"""The plane of an image, by its direction cosines."""

import pytest
from pydicom.dataset import Dataset

from tests.support.objects import header_texts
from worker.intake.image_plane import image_plane


@pytest.mark.parametrize(
    ("cosines", "plane"),
    [
        ([1, 0, 0, 0, 1, 0], "AXIAL"),
        ([1, 0, 0, 0, -1, 0], "AXIAL"),
        ([0, 1, 0, 1, 0, 0], "AXIAL"),
        ([1, 0, 0, 0, 0.866, -0.5], "AXIAL"),
        ([1, 0, 0, 0, 0, -1], "CORONAL"),
        ([0, 1, 0, 0, 0, -1], "SAGITTAL"),
        ([1, 0, 0, 0, 0.7071, -0.7071], "OBLIQUE"),
        ([1, 0, 0, 1, 0, 0], ""),
        ([1, 0, 0], ""),
        (None, ""),
    ],
)
def test_the_plane(cosines: list[float] | None, plane: str) -> None:
    header = Dataset()
    if cosines is not None:
        header.ImageOrientationPatient = cosines
    assert image_plane(header_texts(header)) == plane


def test_what_is_no_number_says_nothing() -> None:
    header = Dataset()
    header.add_new("ImageOrientationPatient", "LO", ["left", "0", "0", "0", "1", "0"])
    assert image_plane(header_texts(header)) == ""
    header.add_new("ImageOrientationPatient", "LO", ["nan", "0", "0", "0", "1", "0"])
    assert image_plane(header_texts(header)) == ""
