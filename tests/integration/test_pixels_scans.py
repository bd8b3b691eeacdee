"""Every real file through one reader: an image or a reason, and what is shown is what pydicom makes of it."""

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from tests.support.images import padding, reference
from worker.errors import PixelError
from worker.inference.pixels import Frame, PixelReader

pytestmark = pytest.mark.real_scans

BETTER = {
    # The index was made with pydicom's pixel_array on the file as it is.
    "evil-dicom__implicitLittleEndian.dcm": "no transfer syntax in the file: guessed from the encoding",
    "orthanc-tests__PrivateMDNTags.dcm": "no transfer syntax in the file: guessed from the encoding",
    "pydicom-data__OT-PAL-8-face.dcm": "no transfer syntax in the file: guessed from the encoding",
}
LOSSLESS = (
    "LittleEndianExplicit",
    "LittleEndianImplicit",
    "BigEndianExplicit",
    "DeflatedExplicitVR",
    "RLELossless",
    "JPEGLSLossless",
    "JPEG2000LosslessOnly",
    "JPEGProcess14SV1",
    "JPEGProcess14Transfer",
)
LOSSY = {
    # 99th percentile and mean of the difference, of 255 grey levels over the window of 400 HU. For the last two the
    # slice was first reduced to 12 bits (2 HU a step) and to 8 (32 HU, 20 grey levels a step).
    "JPEG2000Transfer": (1.3, 0.2),
    "JPEGLSLossy": (0.7, 0.2),
    "JPEGProcess2_4": (9, 1.3),
    "JPEGProcess1Transfer": (40, 6),
}
UNDECODABLE = {"JPEGProcess10_12": "1.2.840.10008.1.2.4.55", "JPEGProcess6_8": "1.2.840.10008.1.2.4.53"}


@pytest.fixture(scope="module")
def reader() -> Iterator[PixelReader]:
    with PixelReader(seconds=60, memory_bytes=2 << 30) as reader:
        yield reader


@pytest.fixture(scope="module")
def files(scans: Path) -> Path:
    return scans / "dicom" / "files"


@pytest.fixture(scope="module")
def results(reader: PixelReader, scans: Path) -> dict[str, Frame | PixelError]:
    """What the reader makes of every file, by name; one reader, which has to survive them all."""
    found: dict[str, Frame | PixelError] = {}
    for path in sorted((scans / "dicom" / "files").iterdir()):
        try:
            found[path.name] = reader.read(path, "middle")
        except PixelError as error:
            found[path.name] = error
    return found


def index_rows(scans: Path) -> list[dict[str, str]]:
    with (scans / "dicom" / "index.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_each_file_is_an_image_or_a_reason(results: dict[str, Frame | PixelError]) -> None:
    assert len(results) == 152
    for name, result in results.items():
        if isinstance(result, Frame):
            assert result.image.dtype == np.float32, name
            assert result.image.min() >= 0, name
            assert result.image.max() <= 255, name
        else:
            reason = str(result)
            assert 20 < len(reason) <= 500, (name, reason)
            assert "Error" not in reason.replace("Error decoding", ""), (name, reason)
            assert "\n" not in reason, (name, reason)


def test_the_results_are_those_of_the_index(results: dict[str, Frame | PixelError], scans: Path) -> None:
    for row in index_rows(scans):
        name = Path(row["file"]).name
        expected = row["pixel_decode"].startswith("ok") or name in BETTER
        assert isinstance(results[name], Frame) == expected, (name, row["pixel_decode"], results[name])
        if isinstance(frame := results[name], Frame):
            assert row["rows_cols"] == f"{frame.rows}x{frame.columns}", name
            assert row["frames"] == str(frame.frames), name


def test_what_is_shown_is_what_pydicom_makes_of_it(
    results: dict[str, Frame | PixelError], files: Path, recwarn: pytest.WarningsRecorder
) -> None:
    compared = 0
    for name, frame in results.items():
        if not isinstance(frame, Frame):
            continue
        index = (frame.frames - 1) // 2
        ds = dcmread(files / name, force=True)
        expected, shown = reference(files / name, index), frame.image
        if "PixelPaddingValue" in ds and name not in BETTER:
            background = padding(ds, np.array(ds.pixel_array if frame.frames == 1 else ds.pixel_array[index]))
            assert not shown[background].any(), name
            expected, shown = expected[~background], shown[~background]
        np.testing.assert_allclose(shown, expected, atol=1e-4, err_msg=name)
        compared += 1
    assert compared > 90
    recwarn.clear()  # pydicom warns of much in these files


def slice_of(files: Path, results: dict[str, Frame | PixelError], syntax: str) -> Frame | PixelError:
    (path,) = files.glob(f"*CTImage.dcm_{syntax}*")
    return results[path.name]


def test_one_slice_in_fifteen_transfer_syntaxes(files: Path, results: dict[str, Frame | PixelError]) -> None:
    original = slice_of(files, results, "LittleEndianExplicit")
    assert isinstance(original, Frame)
    for syntax in LOSSLESS:
        frame = slice_of(files, results, syntax)
        assert isinstance(frame, Frame), syntax
        assert np.array_equal(frame.image, original.image), syntax
    for syntax, (most, mean) in LOSSY.items():
        frame = slice_of(files, results, syntax)
        assert isinstance(frame, Frame), syntax
        difference = np.abs(frame.image - original.image)
        assert np.percentile(difference, 99) <= most, (syntax, np.percentile(difference, 99))
        assert difference.mean() <= mean, (syntax, difference.mean())
    for syntax, uid in UNDECODABLE.items():
        failure = slice_of(files, results, syntax)
        assert isinstance(failure, PixelError)
        assert f"({uid})" in str(failure)
        assert "ask the modality for" in str(failure)
    assert len(LOSSLESS) + len(LOSSY) + len(UNDECODABLE) == 15


def test_equal_pixels_in_monochrome1_are_the_negative(files: Path, results: dict[str, Frame | PixelError]) -> None:
    # These two files hold the same stored pixels; one of them is relabelled MONOCHROME1, so it shows the negative.
    (two,), (one,) = files.glob("*1.2.276*850819.dcm"), files.glob("*Fake_MONOHR1.dcm")
    shown_two, shown_one = results[two.name], results[one.name]
    assert isinstance(shown_two, Frame)
    assert isinstance(shown_one, Frame)
    np.testing.assert_allclose(shown_one.image, 255 - shown_two.image, atol=1e-4)


def test_chests_in_monochrome1_are_shown_with_dark_lungs(results: dict[str, Frame | PixelError]) -> None:
    for name in ("pylibjpeg-data__966_fixed.dcm", "dwv__gdcm-CR-MONO1-10-chest.dcm", "pydicom-data__RG1_J2KI.dcm"):
        frame = results[name]
        assert isinstance(frame, Frame)
        height, width = frame.image.shape
        spine = frame.image[height // 3 : height // 2, width * 47 // 100 : width * 53 // 100].mean()
        lung = frame.image[height // 3 : height // 2, width * 22 // 100 : width * 38 // 100].mean()
        assert lung < spine, name
