"""DICOM file in, displayed pixels out: the door of this room to the guarded child that does the decoding.

The child is warm, one at a time, and replaced when it dies. An object is blamed for what happens to a child only on the
evidence of a fresh one: a child that decoded other objects before may owe its end to them, so the object is tried once
more.
"""

import os
import signal
import stat
import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from worker.errors import DecoderLost, PixelError
from worker.inference.guard import ChildEndedError, GuardedChild
from worker.logs import get_logger

if TYPE_CHECKING:
    from models.card import Window

log = get_logger(__name__)

FRAME_POLICIES = ("first", "middle", "refuse")
_OUT_OF_TIME = frozenset({signal.SIGXCPU, signal.SIGALRM})
_ABORTED_FOR_MEMORY = ("memory allocation of", "std::bad_alloc")
"""What Rust and C++ say before they abort because memory was refused to them."""
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
    """

    def __init__(self, *, seconds: float, memory_bytes: int, max_pixels: int = 400_000_000) -> None:
        self._seconds = seconds
        self._memory_bytes = memory_bytes
        self._max_pixels = max_pixels
        self._child: GuardedChild | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        with self._lock:
            self._running_child()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the child; a later `read` starts another."""
        with self._lock:
            self._end_child()

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
        DecoderLost
            The child cannot be started; the object may be fine.
        """
        if frame_policy not in FRAME_POLICIES:
            raise ValueError(f"frame policy {frame_policy!r} is none of {', '.join(FRAME_POLICIES)}")
        file = _open(path)
        try:
            with self._lock:
                return self._read(file, frame_policy, (window.centre, window.width) if window else None)
        finally:
            os.close(file)

    def _read(self, file: int, frame_policy: str, window: tuple[float, float] | None) -> Frame:
        while True:
            child = self._running_child()
            fresh = child.served == 0
            try:
                answer = child.ask(file, frame_policy, window)
                if "failure" not in answer:
                    image = child.image(answer["rows"], answer["columns"])
                    frame = Frame(image, answer["frames"], answer["note"], answer["windowed"])
            except ChildEndedError as ended:
                log.warning("decoder_ended", how=str(ended), fresh=fresh, at_work=ended.at_work)
                last_words = child.last_words()
                self._end_child()
                if fresh:
                    raise self._blame(ended, last_words) from ended
                continue
            except TimeoutError as error:
                log.warning("decoder_out_of_time", seconds=self._seconds, fresh=fresh)
                self._end_child()
                raise self._too_slow() from error
            except (ValueError, TypeError, KeyError) as error:
                # Only a child taken over by what it decodes speaks otherwise than `worker.inference.decoder` does.
                self._end_child()
                raise PixelError(f"the decoding process answered nonsense to this object: {error}") from error
            except BaseException:
                # Whatever interrupted us, an answer may be on its way: the next object must not be given this one's.
                self._end_child()
                raise
            failure = answer.get("failure")
            if failure == "memory":
                log.warning("decoder_out_of_memory", memory_bytes=self._memory_bytes, fresh=fresh)
                self._end_child()
                if fresh:
                    raise self._too_large()
                continue
            if failure == "surprise":
                log.warning("decoder_surprised", traceback=child.last_words())
            if failure is not None:
                raise PixelError(_reason(answer))
            if frame.image.size > _KEPT_PIXELS:
                self._end_child()
            return frame

    def _running_child(self) -> GuardedChild:
        if self._child is not None and self._child.owner != os.getpid():
            self._end_child()  # we are a fork: two processes must not talk to one child
        if self._child is None:
            self._child = GuardedChild(
                seconds=self._seconds, memory_bytes=self._memory_bytes, max_pixels=self._max_pixels
            )
        return self._child

    def _end_child(self) -> None:
        if self._child is not None:
            child, self._child = self._child, None
            child.end()

    def _blame(self, ended: ChildEndedError, last_words: str) -> PixelError | DecoderLost:
        if not ended.at_work:
            return DecoderLost(f"the decoding process ended before it was given the object ({ended})")
        if ended.signal in _OUT_OF_TIME:
            return self._too_slow()
        if any(words in last_words for words in _ABORTED_FOR_MEMORY):
            return self._too_large()
        why = (
            "the system may have run out of memory" if ended.signal == signal.SIGKILL else "its pixel data are damaged"
        )
        return PixelError(f"the decoding process was ended by {ended} while it decoded this object: {why}")

    def _too_large(self) -> PixelError:
        return PixelError(f"decoding needed more than {_size(self._memory_bytes)} of memory")

    def _too_slow(self) -> PixelError:
        return PixelError(f"decoding took longer than {self._seconds:g} seconds")


def _open(path: Path) -> int:
    """Open a regular file; what is wrong with the file is its own fault, what is wrong with us is not."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
        raise PixelError(f"the file {path.name} cannot be opened: {error.strerror}") from error
    except OSError as error:
        raise DecoderLost(f"the file {path.name} cannot be opened just now: {error.strerror}") from error
    state = os.fstat(file)
    if stat.S_ISREG(state.st_mode) and state.st_size:
        return file
    os.close(file)
    raise PixelError(f"{path.name} is {'empty' if stat.S_ISREG(state.st_mode) else 'no regular file'}")


def _size(count: int) -> str:
    return f"{count / (1 << 30):.3g} GiB" if count >= 1 << 30 else f"{count >> 20} MiB"


def _reason(answer: dict[str, Any]) -> str:
    reason = " ".join(str(answer["reason"]).split())
    return f"the object cannot be decoded: {reason}" if answer["failure"] == "surprise" else reason
