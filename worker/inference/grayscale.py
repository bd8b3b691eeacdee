"""From stored pixel values to what a radiologist is shown: 0 black to 255 white.

The pipeline of PS3.4 N.2: Modality LUT or rescale (PS3.3 C.11.1), VOI LUT or window (C.11.2), then the sense of
MONOCHROME1 and Presentation LUT Shape (C.7.6.3.1.2, C.11.6). P-values are taken as proportional to 0..255; calibration
to a display (PS3.14) is the display's. Colour becomes its luma, 0.299 R + 0.587 G + 0.114 B, which is the Y of YBR_FULL
(C.7.6.3.1.2).

For integers of up to 16 bits the whole pipeline is composed into one table with an entry for every value that a
container can hold, junk outside the stored bits included; the image is then one look-up.

Where the object says no window: up to 8 bits stored, the full range is shown, as it is meant for display; above, the
smallest to the largest pixel present, padding left out. Percentiles are not used: what is seen must not depend on how
much collimated border a film has.

Padding (C.7.5.1.1.2) is shown black and takes no part in the range. In enhanced objects, rescale and window are those
of the frame (C.7.6.16.2.9, C.7.6.16.2.10).

A model may want a CT in a window of its own over Hounsfield units: what lungs look like must not depend on whether the
station thought of the mediastinum. Then the Modality LUT is followed by that window alone, and dense is white whatever
sense the display would have.
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from worker.errors import PixelError
from worker.inference.attributes import LookupTable, items, numbers, text, value
from worker.inference.palette import LUMA, palette_luma
from worker.inference.rendering import Rendering, blocks
from worker.inference.stored import StoredFrame

RENDERING_VERSION = 1
"""Recorded with every prediction; raised when the same object is shown with other values than before."""

Values = NDArray[np.float64]
Mask = NDArray[np.bool_]
Occurring = Callable[[Values, Mask], Mask]
"""Says, of modality values and where they are padding, which occur in the image, or those that decide its range."""


class Window(NamedTuple):
    """A window over Hounsfield units: 0 half a width below the centre and under it, 1 half a width above and over."""

    centre: float
    width: float

    def __str__(self) -> str:
        return f"centre {self.centre:g}, width {self.width:g} HU"


def holds_hounsfield(frame: StoredFrame) -> bool:
    """Say whether the modality values of a frame are Hounsfield units (PS3.3 C.8.2.1.1.2, C.8.15.3.10, C.11.1.1.2).

    They are in a CT with a rescale that names no other unit, and in one whose Modality LUT is of type HU; in a
    localizer, a projection, they are not.
    """
    header = frame.header
    if text(header, "Modality") != "CT" or not frame.photometric.startswith("MONOCHROME"):
        return False
    if "LOCALIZER" in re.findall(r"\w+", text(header, "ImageType")):  # one value, or a list of several as text
        return False
    for item in items(header, "ModalityLUTSequence")[:1]:
        return text(item, "ModalityLUTType") == "HU"
    holder = _macro(frame, "PixelValueTransformationSequence", "RescaleSlope")
    rescaled = value(holder, "RescaleSlope") is not None and value(holder, "RescaleIntercept") is not None
    return rescaled and text(holder, "RescaleType") in {"", "HU"}


def render(frame: StoredFrame, window: Window | None = None) -> Rendering:
    """Render a frame as it is displayed.

    Parameters
    ----------
    frame
        Stored values and what the header says of them.
    window
        Shown in this one instead; only for a frame that holds Hounsfield units.

    Returns
    -------
    Rendering
        All its values are finite.

    Raises
    ------
    PixelError
        A look-up table, a window or a rescale is damaged.
    """
    notes: list[str] = []
    values = frame.values
    if values.dtype.kind == "u" and values.dtype.itemsize <= 2:
        containers = np.arange(1 << (8 * values.dtype.itemsize))
        stored = _stored_values(containers, frame)
        if frame.photometric == "RGB":
            full = _full_range(stored, frame)
            return Rendering(values, [(weight * full).astype(np.float32) for weight in LUMA], notes)
        table = _shown(
            stored, frame, notes, lambda *known: _decisive(values, *known, signed=frame.layout.signed), window
        )
        return Rendering(values, [table.astype(np.float32)], notes)
    if frame.photometric == "RGB":
        image = sum(
            weight * _full_range(_stored_values(values[:, :, channel], frame), frame)
            for channel, weight in enumerate(LUMA)
        )
    else:
        stored = values.astype(np.float64) if values.dtype.kind == "f" else _stored_values(values, frame)
        image = _shown(stored, frame, notes, lambda *_: np.ones(values.shape, bool), window)
    return Rendering(np.asarray(image, np.float32), [], notes)


def _decisive(values: NDArray[Any], modality: Values, padding: Mask, *, signed: bool) -> Mask:
    """Say which container values occur, bool (n,).

    Where no value between the smallest and the largest leads outside what those two lead to, the two are enough: that
    is so for nearly every image, and found in a tenth of the time.
    """
    seen = np.zeros(len(modality), bool)
    ordered = values.view(f"i{values.dtype.itemsize}") if signed else values
    between = np.arange(int(ordered.min()), int(ordered.max()) + 1) % len(modality)
    ends, steps = between[[0, -1]], np.diff(modality[between])
    if not padding[ends].any() and ((steps >= 0).all() or (steps <= 0).all()):
        seen[ends] = True
    else:
        for block in blocks(values):
            seen[block] = True
    return seen


def _stored_values(containers: NDArray[Any], frame: StoredFrame) -> Values:
    """Take the stored value out of its container (PS3.5 8.1.1): overlay bits and other junk are dropped."""
    layout = frame.layout
    width = frame.values.dtype.itemsize * 8
    bits, shift = (width, 0) if frame.clean else (layout.stored, layout.high_bit + 1 - layout.stored)
    stored = containers.astype(np.uint64) >> np.uint64(shift) & np.uint64((1 << bits) - 1)
    result = stored.astype(np.float64)
    if layout.signed:
        result[stored >= np.uint64(1 << (bits - 1))] -= float(1 << bits)
    return result


def _full_range(stored: Values, frame: StoredFrame) -> Values:
    """Spread the full range of the stored bits over 0..255; YBR_PARTIAL has its black at 16 and its white at 235."""
    layout = frame.layout
    top = float((1 << layout.stored) - 1)
    if frame.photometric.startswith("YBR_PARTIAL"):
        return np.clip((stored * (255 / top) - 16) * (255 / 219), 0, 255)
    low = -float(1 << (layout.stored - 1)) if layout.signed else 0.0
    return np.clip((stored - low) * (255 / top), 0, 255)


def _shown(stored: Values, frame: StoredFrame, notes: list[str], present: Occurring, window: Window | None) -> Values:
    """Send stored values through the pipeline; `present` says, when asked, which of them occur in the image."""
    if frame.photometric.startswith("YBR"):
        return _full_range(stored, frame)
    if frame.photometric == "PALETTE COLOR":
        return palette_luma(frame.header, stored, signed=frame.layout.signed, little_endian=frame.little_endian)
    padding = _padding(stored, frame)
    if frame.layout.is_float:
        stored = np.where(np.isfinite(stored), stored, 0)
    modality = _modality(stored, frame)
    with np.errstate(invalid="ignore", over="ignore"):
        shown = _voi(modality, frame, notes) if window is None else _linear(modality, *window)
        if shown is None:
            shown = _whole_range(modality, padding, frame, notes, present)
    inverted = window is None and (
        frame.photometric == "MONOCHROME1" or text(frame.header, "PresentationLUTShape") == "INVERSE"
    )
    shown = 255 * (1 - shown if inverted else shown)
    shown[padding] = 0
    if not np.isfinite(shown).all():
        raise PixelError("rescale and window lead to values that are no numbers")
    return shown


def _padding(stored: Values, frame: StoredFrame) -> Mask:
    """Say which stored values are padding (PS3.3 C.7.5.1.1.2); values that are no numbers are padding too."""
    prefix = "" if not frame.layout.is_float else "Float" if frame.layout.allocated == 32 else "DoubleFloat"
    found = numbers(frame.header, f"{prefix}PixelPaddingValue")
    padding = ~np.isfinite(stored)
    if found:
        ends = [found[0], *numbers(frame.header, f"{prefix}PixelPaddingRangeLimit")[:1]]
        if frame.layout.signed and not frame.layout.is_float and frame.layout.allocated <= 16:
            # Often written unsigned beside signed pixels.
            ends = [end - (1 << 16) if end > 0x7FFF else end for end in ends]
        padding |= (stored >= min(ends)) & (stored <= max(ends))
    return padding


def _macro(frame: StoredFrame, macro: str, keyword: str) -> Dataset:
    """Return what holds an attribute: the frame's functional group, the shared one, or the header (C.7.6.16)."""
    per_frame = items(frame.header, "PerFrameFunctionalGroupsSequence")
    groups = per_frame[frame.index : frame.index + 1] + items(frame.header, "SharedFunctionalGroupsSequence")[:1]
    for group in groups:
        for item in items(group, macro)[:1]:
            if keyword in item:
                return item
    return frame.header


def _modality(stored: Values, frame: StoredFrame) -> Values:
    """Apply the Modality LUT or the rescale (PS3.3 C.11.1); where both are there, the table counts."""
    for item in items(frame.header, "ModalityLUTSequence")[:1]:
        table = LookupTable.read(
            item, "LUTDescriptor", "LUTData", signed=frame.layout.signed, little_endian=frame.little_endian
        )
        return table(stored)
    holder = _macro(frame, "PixelValueTransformationSequence", "RescaleSlope")
    slope, intercept = numbers(holder, "RescaleSlope")[:1], numbers(holder, "RescaleIntercept")[:1]
    if not (slope and intercept):
        return stored
    return stored * slope[0] + intercept[0]


def _voi(modality: Values, frame: StoredFrame, notes: list[str]) -> Values | None:
    """Apply the first VOI LUT, else the first window (PS3.3 C.11.2): 0 to 1, or None where there is neither."""
    for item in items(frame.header, "VOILUTSequence")[:1]:
        if value(item, "LUTDescriptor") is not None and value(item, "LUTData") is not None:
            table = LookupTable.read(
                item,
                "LUTDescriptor",
                "LUTData",
                signed=bool(np.nanmin(modality) < 0),
                little_endian=frame.little_endian,
            )
            return table(modality) / table.top
    holder = _macro(frame, "FrameVOILUTSequence", "WindowCenter")
    centers, widths = numbers(holder, "WindowCenter"), numbers(holder, "WindowWidth")
    if not (centers and widths):
        return None
    center, width = centers[0], widths[0]
    function = text(holder, "VOILUTFunction") or "LINEAR"
    if function not in {"LINEAR", "LINEAR_EXACT", "SIGMOID"}:
        notes.append(f"VOI LUT Function {function[:16]} unknown: taken as LINEAR")
        function = "LINEAR"
    if width <= 0 or (function == "LINEAR" and width < 1):
        notes.append(f"window width {width:g} is not allowed: window ignored")
        return None
    if function == "SIGMOID":  # C.11.2.1.3.1
        result: Values = 1 / (1 + np.exp(-4 * (modality - center) / width))
        return result
    if function == "LINEAR":  # C.11.2.1.2.1
        center, width = center - 0.5, width - 1
    if width == 0:
        return (modality > center).astype(np.float64)
    return _linear(modality, center, width)


def _linear(modality: Values, center: float, width: float) -> Values:
    """Apply a window, LINEAR_EXACT (PS3.3 C.11.2.1.3.2)."""
    return np.clip((modality - center) / width + 0.5, 0, 1)


def _whole_range(modality: Values, padding: Mask, frame: StoredFrame, notes: list[str], present: Occurring) -> Values:
    """Spread the range over 0 to 1 where the object says no window."""
    if frame.layout.stored <= 8:
        notes.append("the image sets no display window: its full range of values was read")
        occurring = np.isfinite(modality)
    else:
        notes.append("the image sets no display window: it was read from its darkest to its brightest value")
        occurring = present(modality, padding) & ~padding
    chosen = modality[occurring]
    if not chosen.size or chosen.min() == chosen.max():
        notes.append("all pixels are padding or the same")
        return np.zeros_like(modality)
    low, high = chosen.min(), chosen.max()
    spread: Values = np.clip((modality - low) / (high - low), 0, 1)
    return spread
