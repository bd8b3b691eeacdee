"""DICOM file in, displayed pixels out: the door of this room to the guarded child that does the decoding."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from worker.errors import ChildLost, PixelError
from worker.guarded.warm import JobFailed, Trade, WarmChild
from worker.inference.guard import PixelChild

if TYPE_CHECKING:
    from models.card import Window

FRAME_POLICIES = ("first", "middle", "refuse")
DECODING = Trade("decoding", "the decoding process", "decoded this object", "its pixel data are damaged")
_KEPT_PIXELS = 1 << 26
"""After a larger frame the child is replaced, so that the memory shared with it goes back to the system."""


@dataclass(frozen=True)
class Frame:
    """One frame as it is displayed.

    Attributes
    ----------
    image
        float32 (rows, columns), 0 (black) to 255 (white); the caller's own.
    frames
        How many frames the object has.
    note
        What a person should know (which frame, how the range was chosen); empty when nothing.
    windowed
        Whether it is shown in the window that was asked for; never where it holds no Hounsfield units.
    """

    image: NDArray[np.float32]
    frames: int
    note: str
    windowed: bool

    @property
    def rows(self) -> int:
        """Height, pixels."""
        return int(self.image.shape[0])

    @property
    def columns(self) -> int:
        """Width, pixels."""
        return int(self.image.shape[1])


class PixelReader:
    """Reads the pixels of DICOM files in a guarded child process; may be shared by threads, one object at a time.

    Parameters
    ----------
    seconds
        Wall-clock and CPU time that one object may take.
    memory_bytes
        Address space of the child.
    max_pixels
        Largest frame, rows x columns x samples. Of an object with many frames only one is decoded, so their number is
        held against the bytes present, not against this.
    announce
        Log once what the child has given up (`worker.guarded.confinement`).

    Attributes
    ----------
    child
        The child, warm.
    count
        How many objects it reads at once.
    """

    count = 1

    def __init__(
        self, *, seconds: float, memory_bytes: int, max_pixels: int = 400_000_000, announce: bool = False
    ) -> None:
        def start() -> PixelChild:
            return PixelChild(seconds=seconds, memory_bytes=memory_bytes, max_pixels=max_pixels)

        self.child = WarmChild(DECODING, start, seconds=seconds, memory_bytes=memory_bytes, announce=announce)

    def __enter__(self) -> Self:
        self.child.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the child; a later `read` starts another."""
        self.child.close()

    def read(self, path: Path, frame_policy: str, window: "Window | None" = None) -> Frame:
        """Read one object as it is displayed.

        Parameters
        ----------
        path
            DICOM file, with or without preamble and file meta information.
        frame_policy
            Which frame of several: `first`, `middle`, or `refuse` (objects of one frame only).
        window
            In which a CT with Hounsfield units is shown, whatever window it asks for; None: as it says.

        Returns
        -------
        Frame
            The image; how it comes about is told in `worker.inference.grayscale`.

        Raises
        ------
        PixelError
            The object cannot be decoded, or costs more than it may; the message says why, for a person.
        ChildLost
            The child cannot be started; the object may be fine.
        """
        if frame_policy not in FRAME_POLICIES:
            raise ValueError(f"frame policy {frame_policy!r} is none of {', '.join(FRAME_POLICIES)}")
        file = _open(path)
        try:
            request = {"frame_policy": frame_policy, "window": (window.centre, window.width) if window else None}
            return self.child.do(request, file, self._frame)
        except JobFailed as failed:
            raise PixelError(str(failed)) from failed
        finally:
            os.close(file)

    def _frame(self, child: PixelChild, answer: dict[str, Any]) -> Frame:
        image = child.image(answer["rows"], answer["columns"])
        frame = Frame(image, int(answer["frames"]), str(answer["note"]), bool(answer["windowed"]))
        if image.size > _KEPT_PIXELS:
            self.child.drop()
        return frame


def _open(path: Path) -> int:
    """Open a regular file; what is wrong with the file is its own fault, what is wrong with us is not."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
        raise PixelError(f"the file {path.name} cannot be opened: {error.strerror}") from error
    except OSError as error:
        raise ChildLost(f"the file {path.name} cannot be opened just now: {error.strerror}") from error
    state = os.fstat(file)
    if stat.S_ISREG(state.st_mode) and state.st_size:
        return file
    os.close(file)
    raise PixelError(f"{path.name} is {'empty' if stat.S_ISREG(state.st_mode) else 'no regular file'}")
