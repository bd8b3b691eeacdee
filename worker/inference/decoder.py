"""The guarded child: it decodes what strangers sent, so that what goes wrong goes wrong here.

Started by `worker.inference.pixels` as `python -m worker.inference.decoder`, never forked: its parent holds TensorFlow
and threads. It may use a bounded address space and CPU time, writes no files, leaves no core, and ends with its parent.
It is handed open files, so it needs no path and no right to open one.

It talks over one socket, a message a packet. In: `{"job", "frame_policy", "window"}` with the descriptor of the file.
Out: `{"job", "rows", "columns", "frames", "windowed", "note"}` after the pixels were written to the shared memory, or
`{"job", "failure", "reason"}`. Once at the start, `{"job": 0}`: ready.
"""

import argparse
import contextlib
import ctypes
import json
import math
import mmap
import os
import resource
import signal
import socket
import sys
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from worker.errors import PixelError
from worker.inference.attributes import numbers
from worker.inference.grayscale import Window, holds_hounsfield, render
from worker.inference.guard import PACKET_BYTES, PIXEL_BYTES
from worker.inference.part10 import MappedFile, Part10
from worker.inference.stored import read_layout, read_stored

REASON_CHARACTERS = 500
_FILE_BYTES = 1 << 20
_PR_SET_PDEATHSIG = 1
_ORPHAN_SECONDS = 5
"""How much longer than the parent's patience an orphan may go on before its own alarm ends it."""
_SQUARE_WITHIN = 0.01


@dataclass(frozen=True)
class Bounds:
    """What one object may cost: time in seconds, address space in bytes, rows x columns x samples of a frame."""

    seconds: float
    memory_bytes: int
    max_pixels: int


def confine(memory_bytes: int, parent: int, *, die_with_thread: bool) -> None:
    """Give up what decoding does not need.

    Parameters
    ----------
    memory_bytes
        Address space, bytes.
    parent
        Process id of the parent.
    die_with_thread
        Have the kernel kill this process when the thread that started it ends. Only for a thread that lives as long as
        its process: Linux watches the thread, not the process (prctl(2), PR_SET_PDEATHSIG).
    """
    # A drain sends SIGTERM, a terminal SIGINT to the whole group: the parent decides when this process ends.
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(ignored, signal.SIG_IGN)
    for kind, amount in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, _FILE_BYTES),
        (resource.RLIMIT_AS, memory_bytes),
    ):
        allowed = _allowed(kind, amount)
        resource.setrlimit(kind, (allowed, allowed))
    if die_with_thread and sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        raise SystemExit("the parent is gone")


def _allowed(kind: int, amount: int) -> int:
    hard = resource.getrlimit(kind)[1]
    return amount if hard == resource.RLIM_INFINITY else min(amount, hard)


@contextlib.contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """End this process by SIGXCPU when a job takes more CPU time than this, and by SIGALRM if the parent does not."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu = math.ceil(used.ru_utime + used.ru_stime + seconds) + 1
    before = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (_allowed(resource.RLIMIT_CPU, cpu), before[1]))
    signal.setitimer(signal.ITIMER_REAL, seconds + _ORPHAN_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        resource.setrlimit(resource.RLIMIT_CPU, before)


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


def answer(job: dict[str, Any], files: list[int], memory: int, bounds: Bounds) -> dict[str, Any]:
    """Do one job; whatever goes wrong becomes an answer."""
    try:
        with deadline(bounds.seconds):
            window = Window(*job["window"]) if job["window"] else None
            return decode(files[0], job["frame_policy"], window, memory, bounds)
    except PixelError as error:
        return {"failure": "pixels", "reason": str(error)[:REASON_CHARACTERS]}
    except MemoryError:
        return {"failure": "memory", "reason": ""}
    except Exception as error:  # noqa: BLE001 - damaged bytes lead parsers anywhere; the object failed, not the service
        traceback.print_exc()
        return {"failure": "surprise", "reason": f"{type(error).__name__}: {error}"[:REASON_CHARACTERS]}
    finally:
        for file in files:
            os.close(file)


def main() -> None:
    """Serve jobs until the parent closes the socket."""
    parser = argparse.ArgumentParser(description="decodes DICOM pixels for an inference worker; not for use by hand")
    parser.add_argument("--socket", type=int, required=True, help="descriptor of the socket")
    parser.add_argument("--memory", type=int, required=True, help="descriptor of the shared memory")
    parser.add_argument("--parent", type=int, required=True, help="process id of the parent")
    parser.add_argument("--seconds", type=float, required=True, help="time a job may take")
    parser.add_argument("--memory-bytes", type=int, required=True, help="address space, bytes")
    parser.add_argument("--max-pixels", type=int, required=True, help="largest frame")
    parser.add_argument("--die-with-thread", action="store_true", help="end when the starting thread does")
    options = parser.parse_args()
    confine(options.memory_bytes, options.parent, die_with_thread=options.die_with_thread)
    # pydicom warns of much that is harmless; what matters is raised or becomes a note.
    warnings.simplefilter("ignore")
    bounds = Bounds(options.seconds, options.memory_bytes, options.max_pixels)
    with socket.socket(fileno=options.socket) as channel:
        channel.send(json.dumps({"job": 0}).encode())
        while True:
            packet, files, *_ = socket.recv_fds(channel, PACKET_BYTES, 1)
            if not packet:
                return
            job = json.loads(packet)
            channel.send(json.dumps({"job": job["job"], **answer(job, files, options.memory, bounds)}).encode())


if __name__ == "__main__":
    main()
