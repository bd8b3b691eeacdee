"""DICOM file in, displayed pixels or a network's input out: the door of this room to the guarded child that decodes."""

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from worker.errors import ChildLost, PixelError
from worker.guarded.door import Door
from worker.guarded.warm import JobFailed, Taken, Trade, WarmChild
from worker.inference.guard import PixelChild
from worker.inference.preview import LONGEST_SIDE, Preview

if TYPE_CHECKING:
    from models.card import Card, Window

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


@dataclass(frozen=True)
class Prepared:
    """What a network is given of an object.

    Attributes
    ----------
    image
        float32 (rows, columns, channels), as `models.preprocessing.prepare` makes it of `Frame.image`; the caller's
        own.
    frames, note, windowed
        As of a `Frame`.
    job
        By which the object is known to the child.
    """

    image: NDArray[np.float32]
    frames: int
    note: str
    windowed: bool
    job: "Job"


@dataclass(frozen=True)
class Job:
    """One job of one child."""

    child: PixelChild
    number: int


class PixelReader(Door[PixelChild]):
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
    """

    def __init__(
        self, *, seconds: float, memory_bytes: int, max_pixels: int = 400_000_000, announce: bool = False
    ) -> None:
        def start() -> PixelChild:
            return PixelChild(seconds=seconds, memory_bytes=memory_bytes, max_pixels=max_pixels)

        super().__init__(WarmChild(DECODING, start, seconds=seconds, memory_bytes=memory_bytes, announce=announce))

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
        return self._do(path, _asked(frame_policy, window), self._frame)

    def prepared(self, path: Path, card: "Card", *, with_preview: bool = False) -> Prepared:
        """Read one object as the input of a network.

        The child does it all, so that no image of full size is handed over.

        Parameters
        ----------
        path
            As of `read`.
        card
            Says what the network takes: frame policy, window, preprocessing recipe, shape.
        with_preview
            Whether the child keeps the image until its next object, to make a preview of it (`preview`).

        Raises
        ------
        PixelError, ChildLost
            As of `read`.
        """
        shape = (card.input.rows, card.input.columns, card.input.channels)
        request = _asked(card.frame_policy, card.window) | {"input": [card.recipe, *shape], "keep": with_preview}

        def take(child: PixelChild, answer: dict[str, Any]) -> Prepared:
            job = Job(child, child.served)
            return Prepared(child.floats(shape), *_told(answer), job)

        return self._do(path, request, take)

    def preview(self, prepared: Prepared) -> Preview | None:
        """Return the preview of the object that was prepared last, None where there is none: the child has gone on."""

        def take(child: PixelChild, answer: dict[str, Any]) -> Preview:
            rows, columns = int(answer["rows"]), int(answer["columns"])
            if not (1 <= rows <= LONGEST_SIDE and 1 <= columns <= LONGEST_SIDE):
                raise ValueError(f"a preview of {rows} x {columns} pixels")
            return Preview(rows, columns, child.left(int(answer["bytes"])))

        return self.child.add(prepared.job.child, {"preview_of": prepared.job.number}, take)

    def _do(self, path: Path, request: dict[str, Any], take: Callable[[PixelChild, dict[str, Any]], Taken]) -> Taken:
        file = _open(path)
        try:
            return self.child.do(request, file, take)
        except JobFailed as failed:
            raise PixelError(str(failed)) from failed
        finally:
            os.close(file)

    def _frame(self, child: PixelChild, answer: dict[str, Any]) -> Frame:
        frame = Frame(child.image(int(answer["rows"]), int(answer["columns"])), *_told(answer))
        if frame.image.size > _KEPT_PIXELS:
            self.child.drop()
        return frame


def _asked(frame_policy: str, window: "Window | None") -> dict[str, Any]:
    if frame_policy not in FRAME_POLICIES:
        raise ValueError(f"frame policy {frame_policy!r} is none of {', '.join(FRAME_POLICIES)}")
    return {"frame_policy": frame_policy, "window": (window.centre, window.width) if window else None}


def _told(answer: dict[str, Any]) -> tuple[int, str, bool]:
    return int(answer["frames"]), str(answer["note"]), bool(answer["windowed"])


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
