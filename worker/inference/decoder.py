"""The guarded child that decodes pixels: what goes wrong with what strangers sent goes wrong here.

Started by `worker.inference.pixels` as `python -m worker.inference.decoder`, never forked: its parent holds TensorFlow
and threads. It is handed open files, so it needs no path and no right to open one (`worker.guarded`).

In: `{"job", "frame_policy", "window"}` with the descriptor of the file. Out: `{"job", "rows", "columns", "frames",
"windowed", "note"}` after the pixels, float32 (rows, columns), were written to the beginning of the shared memory.

With `"input": [recipe, rows, columns, channels]` and `"keep"` it is the network's input, float32 (rows, columns,
channels), that is written there. If it was to be kept, the next job may be `{"job", "preview_of"}`, naming that one;
out comes `{"job", "rows", "columns", "bytes"}` after the lines of a PNG, deflated, were written there
(`worker.inference.preview`).
"""

import math
import mmap
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.errors import ModelError
from models.preprocessing import prepare_shown
from worker.errors import PixelError
from worker.guarded.serving import child_parser, serve
from worker.inference.attributes import numbers
from worker.inference.grayscale import Window, holds_hounsfield, render
from worker.inference.guard import PIXEL_BYTES
from worker.inference.part10 import MappedFile, Part10
from worker.inference.preview import make_preview, whole_factor
from worker.inference.reduction import Reduction
from worker.inference.rendering import Rendering
from worker.inference.stored import read_layout, read_stored

_SQUARE_WITHIN = 0.01


@dataclass(frozen=True)
class Bounds:
    """What one object may cost: address space in bytes, rows x columns x samples of a frame."""

    memory_bytes: int
    max_pixels: int


def chosen_frame(frames: int, frame_policy: str) -> int:
    """Return the index of the frame that the policy of a model card asks for.

    Parameters
    ----------
    frames
        How many there are.
    frame_policy
        `first`, `middle` (the earlier one of two) or `refuse` (only objects of a single frame).

    Raises
    ------
    PixelError
        There are several frames and the policy refuses them.
    """
    if frame_policy == "refuse" and frames > 1:
        raise PixelError(f"the object has {frames} frames; the model takes objects of a single frame")
    return (frames - 1) // 2 if frame_policy == "middle" else 0


def show(file: int, frame_policy: str, window: Window | None, bounds: Bounds) -> tuple[Rendering, dict[str, Any]]:
    """Decode one object.

    Parameters
    ----------
    file
        Descriptor of the DICOM file.
    frame_policy
        `first`, `middle` or `refuse`.
    window
        In which Hounsfield units are to be shown; None: as the object says.
    bounds
        What it may cost.

    Returns
    -------
    tuple
        The frame as it is displayed, and what is to be told of it.

    Raises
    ------
    PixelError
        The object cannot be decoded; the message says why.
    """
    # A quarter: the inflated bytes, the values read from them, the decoded pixels and the image have to fit together.
    source = Part10(MappedFile(file, 0, access=mmap.ACCESS_READ), inflated_bytes=bounds.memory_bytes // 4)
    layout = read_layout(source.header, source.keyword)
    if layout.rows * layout.columns * layout.samples > bounds.max_pixels:
        raise PixelError(f"the header declares {layout}; more than {bounds.max_pixels} in a frame are refused")
    index = chosen_frame(layout.frames, frame_policy)
    frame = read_stored(source, index, layout)
    notes = [f"frame {index + 1} of {layout.frames}"] if layout.frames > 1 else []
    windowed = window is not None and holds_hounsfield(frame)
    if window is not None and not windowed:
        notes.append(f"the image holds no Hounsfield units: it was read as displayed, not at {window}")
    shown = render(frame, window if windowed else None)
    notes += [*shown.notes, *_shape_note(source)]
    return shown, {"frames": layout.frames, "windowed": windowed, "note": "; ".join(notes)}


class Decoder:
    """Does the jobs.

    Parameters
    ----------
    memory
        Descriptor of the shared memory.
    bounds
        What an object may cost.
    """

    def __init__(self, memory: int, bounds: Bounds) -> None:
        self._memory = memory
        self._bounds = bounds
        self._kept: tuple[int, Rendering | Reduction] | None = None

    def __call__(self, job: dict[str, Any], file: int) -> dict[str, Any]:
        """Do one job; a job with `preview_of` needs no file.

        Raises
        ------
        PixelError
            The object cannot be decoded, or there is nothing left of it to make a preview of.
        """
        kept, self._kept = self._kept, None  # what comes needs the memory
        if "preview_of" in job:
            if kept is None or kept[0] != job["preview_of"]:
                raise PixelError("the object is not at hand any more")
            return self._preview(kept[1])
        del kept
        window = Window(*job["window"]) if job["window"] else None
        shown, told = show(file, job["frame_policy"], window, self._bounds)
        if "input" not in job:
            with self._shared(math.prod(shown.shape) * PIXEL_BYTES) as shared:
                shown.fill(np.frombuffer(shared, np.float32).reshape(shown.shape))
            return told | {"rows": shown.shape[0], "columns": shown.shape[1]}
        factor = whole_factor(*shown.shape)
        seen = Reduction(shown, factor) if job["keep"] and factor > 1 else shown
        try:
            prepared = prepare_shown(job["input"][0], seen, *job["input"][1:])
        except ModelError as error:
            raise PixelError(str(error)) from error
        self._leave(prepared.data.cast("B"))
        if job["keep"]:
            self._kept = job["job"], seen
        return told

    def _preview(self, shown: Rendering | Reduction) -> dict[str, Any]:
        preview = make_preview(shown.grey_levels())
        self._leave(preview.deflated)
        return {"rows": preview.rows, "columns": preview.columns, "bytes": len(preview.deflated)}

    def _leave(self, data: bytes | memoryview) -> None:
        with self._shared(len(data)) as shared:
            shared[:] = data

    def _shared(self, size: int) -> mmap.mmap:
        """Map the beginning of the shared memory; at once, as it is all going to be written."""
        return mmap.mmap(self._memory, size, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE)


def _shape_note(source: Part10) -> list[str]:
    """Say when pixels are not square (PS3.3 C.7.6.3.1.7, 10.7.1); the image is left as it is."""
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "PixelAspectRatio"):
        shape = numbers(source.header, keyword)
        if len(shape) == 2 and min(shape) > 0:
            if abs(shape[0] / shape[1] - 1) > _SQUARE_WITHIN:
                return [f"pixels are not square ({shape[0]:g} high, {shape[1]:g} wide)"]
            return []
    return []


def main() -> None:
    """Serve jobs until the parent closes the socket."""
    parser = child_parser("decodes DICOM pixels for an inference worker")
    parser.add_argument("--memory", type=int, required=True, help="descriptor of the shared memory")
    parser.add_argument("--max-pixels", type=int, required=True, help="largest frame")
    options = parser.parse_args()
    serve(options, Decoder(options.memory, Bounds(options.memory_bytes, options.max_pixels)))


if __name__ == "__main__":
    main()
