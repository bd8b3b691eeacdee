"""Images for tests of pixels: small objects of every kind, and the straightforward pydicom chain as the reference."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut, pixel_array
from pydicom.uid import ExplicitVRLittleEndian

from tests.support.objects import film, save
from worker.inference.pixels import Frame

LUMA = np.array([0.299, 0.587, 0.114])


def image(values: Any, *, bits: int | None = None, **attributes: Any) -> Dataset:
    """An object with these stored values, (rows, columns[, 3]) of any integer type; `bits` are the bits stored."""
    values = np.atleast_2d(np.asarray(values))
    allocated = 8 * values.dtype.itemsize
    stored = bits or allocated
    colour = values.ndim == 3
    if colour:
        attributes = {"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3, "PlanarConfiguration": 0} | attributes
    ds = film(
        np.zeros((1, 1), np.uint8),
        **{
            "Rows": values.shape[0],
            "Columns": values.shape[1],
            "BitsAllocated": allocated,
            "BitsStored": stored,
            "HighBit": stored - 1,
            "PixelRepresentation": int(values.dtype.kind == "i"),
            "PixelData": values.astype(values.dtype.newbyteorder("<")).tobytes() + b"\0" * (values.nbytes % 2),
        }
        | attributes,
    )
    if "PixelData" in ds:
        ds["PixelData"].VR = "OB" if allocated == 8 else "OW"  # so that a damaged header can be written too
    return ds


def compressed(frames: Sequence[bytes], path: Path, transfer_syntax: str, **attributes: Any) -> Path:
    """Write an object with these encoded frames."""
    ds = image(np.zeros((1, 1), np.uint8), **attributes)
    ds.PixelData = encapsulate(list(frames))
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    return save(ds, path, transfer_syntax)


def lut(entries: Sequence[int], *, first: int = 0, bits: int = 16) -> Dataset:
    """An item of a Modality or VOI LUT Sequence, its descriptor unsigned as most are written."""
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(entries) & 0xFFFF, first & 0xFFFF, bits])
    item.add_new("LUTData", "OW", np.asarray(entries, "<u2").tobytes())
    return item


def near(frame: Frame, expected: Any) -> None:
    """Assert that a frame shows these values."""
    assert frame.image.dtype == np.float32
    np.testing.assert_allclose(frame.image, np.atleast_2d(expected), atol=2e-5)


def reference(path: Path, index: int = 0) -> np.ndarray:
    """What pydicom makes of a frame: modality LUT, VOI LUT, then scaled to 0..255 (float64)."""
    ds = dcmread(path, force=True)
    if "TransferSyntaxUID" not in ds.file_meta:
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian if not ds.original_encoding[0] else "1.2.840.10008.1.2"
    stored = pixel_array(ds, index=index, raw=True)
    groups = [*ds.get("SharedFunctionalGroupsSequence", [])[:1]]
    groups += ds.get("PerFrameFunctionalGroupsSequence", [])[index : index + 1]
    for group in groups:
        for macro in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
            ds.update(group[macro][0] if macro in group else {})
    if ds.SamplesPerPixel == 3:
        top = 2.0**ds.BitsStored - 1
        return (stored[..., 0] if ds.PhotometricInterpretation.startswith("YBR") else stored @ LUMA) * (255 / top)
    if ds.PhotometricInterpretation == "PALETTE COLOR":
        colours = apply_color_lut(stored, ds)
        return colours[..., :3] @ LUMA * (255 / np.iinfo(colours.dtype).max)
    if stored.dtype.kind == "f":
        ds.BitsStored, ds.PixelRepresentation = 16, 0  # pydicom's window wants an output range; it is scaled away below
    modality = apply_modality_lut(stored, ds)
    low, high = _nominal(ds)
    if ds.get("VOILUTSequence"):
        shown = apply_voi_lut(modality.astype(np.int64), ds).astype(np.float64)
        low, high = 0, 2.0 ** ds.VOILUTSequence[0].LUTDescriptor[2] - 1
    elif ds.get("WindowCenter") is not None and ds.get("WindowWidth") is not None:
        with np.errstate(over="ignore"):
            shown = apply_voi_lut(modality, ds)
    else:
        shown = modality.astype(np.float64)
        low, high = sorted((low, high))  # a falling rescale does not turn the grey scale round
        if ds.BitsStored > 8:
            kept = shown[~padding(ds, stored)]
            low, high = kept.min(), kept.max()
    shown = np.clip((shown - low) / (high - low), 0, 1) if high != low else np.zeros(shown.shape)
    return 255 * (1 - shown if ds.PhotometricInterpretation == "MONOCHROME1" else shown)


def padding(ds: Dataset, stored: np.ndarray) -> np.ndarray:
    """Where stored values are padding."""
    found = ds.get("PixelPaddingValue")
    if found is None:
        return np.zeros(stored.shape, bool)
    limit = ds.get("PixelPaddingRangeLimit", found)
    return (stored >= min(found, limit)) & (stored <= max(found, limit))


def _nominal(ds: Dataset) -> tuple[float, float]:
    """The output range of pydicom's window: PS3.3 C.11.2.1.2.1, where the modality LUT is taken into account."""
    if ds.get("ModalityLUTSequence"):
        return 0.0, 2.0 ** ds.ModalityLUTSequence[0].LUTDescriptor[2] - 1
    bits = ds.BitsStored
    low, high = (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1) if ds.PixelRepresentation else (0.0, 2.0**bits - 1)
    slope, intercept = ds.get("RescaleSlope"), ds.get("RescaleIntercept")
    if slope is None or intercept is None:
        return low, high
    return low * float(slope) + float(intercept), high * float(slope) + float(intercept)
