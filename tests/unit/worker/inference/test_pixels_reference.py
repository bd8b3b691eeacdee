"""One composed table must equal the straightforward pydicom chain, whatever the header says."""

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.sequence import Sequence

from tests.support.images import image, lut, padding, reference
from tests.support.objects import save
from worker.inference.pixels import PixelReader

SAMPLE = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
NUMBERS = st.integers(-(1 << 12), 1 << 12).map(lambda number: number / 4)


@st.composite
def headers(draw: st.DrawFn) -> dict[str, object]:
    attributes: dict[str, object] = {"PhotometricInterpretation": draw(st.sampled_from(["MONOCHROME1", "MONOCHROME2"]))}
    if draw(st.booleans()):
        attributes["RescaleSlope"] = draw(st.sampled_from([1, 0.5, -1, 2.25]))
        attributes["RescaleIntercept"] = draw(NUMBERS)
    window = draw(st.sampled_from([None, "LINEAR", "LINEAR_EXACT", "SIGMOID"]))
    if window:
        attributes["VOILUTFunction"] = window
        attributes["WindowCenter"] = draw(NUMBERS)
        attributes["WindowWidth"] = draw(st.integers(8, 1 << 14)) / 4
    return attributes


@SAMPLE
@given(attributes=headers(), bits=st.integers(8, 16), signed=st.booleans(), seed=st.integers(0, 99), pad=st.booleans())
def test_windows(
    reader: PixelReader, attributes: dict[str, object], bits: int, signed: bool, seed: int, pad: bool
) -> None:
    junk = np.random.default_rng(seed).integers(0, 1 << 16, (16, 16), np.uint16)
    ds = image(junk, bits=bits, PixelRepresentation=int(signed), **attributes)
    if pad:
        ds.PixelPaddingValue = 0
        ds.PixelPaddingRangeLimit = 50
    with tempfile.TemporaryDirectory() as folder:
        path = save(ds, Path(folder) / "object.dcm")
        shown, expected = reader.read(path, "first").image, reference(path)
        background = padding(ds, ds.pixel_array)
    assert not shown[background].any()
    np.testing.assert_allclose(shown[~background], expected[~background], atol=3e-5)


@SAMPLE
@given(
    first=st.integers(0, 3000), entries=st.lists(st.integers(0, 1023), min_size=2, max_size=60), seed=st.integers(0, 99)
)
def test_lookup_tables(reader: PixelReader, first: int, entries: list[int], seed: int) -> None:
    values = np.random.default_rng(seed).integers(first, first + 70, (16, 16)).astype(np.uint16)
    modality = image(values, bits=12, WindowCenter=500, WindowWidth=800)
    modality.ModalityLUTSequence = Sequence([lut(entries, first=first)])
    voi = image(values, bits=12, PhotometricInterpretation="MONOCHROME1")
    voi.VOILUTSequence = Sequence([lut(entries, first=first, bits=10)])
    with tempfile.TemporaryDirectory() as folder:
        for ds in (modality, voi):
            path = save(ds, Path(folder) / "object.dcm")
            np.testing.assert_allclose(reader.read(path, "first").image, reference(path), atol=3e-5)
