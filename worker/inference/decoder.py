"""The guarded child that decodes pixels: what goes wrong with what strangers sent goes wrong here.

Started by `worker.inference.pixels` as `python -m worker.inference.decoder`, never forked: its parent holds TensorFlow
and threads. It is handed open files, so it needs no path and no right to open one (`worker.guarded`).

In: `{"job", "frame_policy", "window"}` with the descriptor of the file. Out: `{"job", "rows", "columns", "frames",
"windowed", "note"}` after the pixels were written to the shared memory.
"""

import mmap
from dataclasses import dataclass
from typing import Any

import numpy as np

from worker.errors import PixelError
from worker.guarded.serving import child_parser, serve
from worker.inference.attributes import numbers
from worker.inference.grayscale import Window, holds_hounsfield, render
from worker.inference.guard import PIXEL_BYTES
from worker.inference.part10 import MappedFile, Part10
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


def decode(file: int, frame_policy: str, window: Window | None, memory: int, bounds: Bounds) -> dict[str, Any]:
    """Decode one object into the shared memory.

    Parameters
    ----------
    file
        Descriptor of the DICOM file.
    frame_policy
        `first`, `middle` or `refuse`.
    window
        In which Hounsfield units are to be shown; None: as the object says.
    memory
        Descriptor of the shared memory; it starts with the image, float32 (rows, columns) in C order, afterwards.
    bounds
        What it may cost.

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
    shared = mmap.mmap(memory, layout.rows * layout.columns * PIXEL_BYTES)
    out = np.frombuffer(shared, np.float32).reshape(layout.rows, layout.columns)
    notes = [f"frame {index + 1} of {layout.frames}"] if layout.frames > 1 else []
    windowed = window is not None and holds_hounsfield(frame)
    if window is not None and not windowed:
        notes.append(f"the image holds no Hounsfield units: it was read as displayed, not at {window}")
    notes += render(frame, out, window if windowed else None)
    notes += _shape_note(source)
    return {
        "rows": layout.rows,
        "columns": layout.columns,
        "frames": layout.frames,
        "windowed": windowed,
        "note": "; ".join(notes),
    }


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
    bounds = Bounds(options.memory_bytes, options.max_pixels)

    def handle(job: dict[str, Any], file: int) -> dict[str, Any]:
        window = Window(*job["window"]) if job["window"] else None
        return decode(file, job["frame_policy"], window, options.memory, bounds)

    serve(options, handle)


if __name__ == "__main__":
    main()
