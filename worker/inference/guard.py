"""The decoding child as its parent sees it: a guarded child, and the memory in which it leaves the pixels.

The memory is sealed against shrinking, so that not even a child taken over by what it decodes can end us.
"""

import fcntl
import math
import mmap
import os

import numpy as np
from numpy.typing import NDArray

from worker.errors import ChildLost
from worker.guarded.child import GuardedChild

PIXEL_BYTES = np.dtype(np.float32).itemsize
LEAST_SHARED_BYTES = 1 << 22
"""However small the largest frame: a network's input and a preview fit in."""


class PixelChild(GuardedChild):
    """A running decoding child.

    Parameters
    ----------
    seconds
        Time a job may take.
    memory_bytes
        Its address space.
    max_pixels
        Largest frame, rows x columns x samples.

    Attributes
    ----------
    capacity
        What the shared memory holds, bytes.

    Raises
    ------
    ChildLost
        It cannot be started.
    """

    def __init__(self, *, seconds: float, memory_bytes: int, max_pixels: int) -> None:
        self._max_pixels = max_pixels
        self.capacity = max(max_pixels * PIXEL_BYTES, LEAST_SHARED_BYTES)
        self._memory = -1
        try:
            # Sparse: costs nothing until written. Without a name: nothing is left behind, whoever dies.
            self._memory = os.memfd_create("firstread-pixels", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            os.ftruncate(self._memory, self.capacity)
            fcntl.fcntl(self._memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
        except OSError as error:
            self._close_memory()
            raise ChildLost(f"no memory can be shared with a decoding process: {error}") from error
        try:
            super().__init__(
                "worker.inference.decoder",
                seconds=seconds,
                memory_bytes=memory_bytes,
                options={"memory": self._memory, "max-pixels": max_pixels},
                descriptors=(self._memory,),
            )
        except ChildLost:
            self._close_memory()
            raise

    def image(self, rows: int, columns: int) -> NDArray[np.float32]:
        """Copy an image out of the shared memory, float32 (rows, columns).

        Raises
        ------
        ValueError
            There is none of this size.
        """
        if rows * columns > self._max_pixels:
            raise ValueError(f"an image of {rows} x {columns} pixels")
        return self.floats((rows, columns))

    def floats(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Copy what the child left out of the shared memory, float32.

        Raises
        ------
        ValueError
            It cannot have left that much.
        """
        count = math.prod(shape)
        if min(shape) < 1 or count * PIXEL_BYTES > self.capacity:
            raise ValueError(f"an array of {' x '.join(map(str, shape))} numbers")
        with self._mapped(count * PIXEL_BYTES) as shared:
            left = np.frombuffer(shared, np.float32)
            copied = left.copy()
            del left  # it would keep the mapping open
        return copied.reshape(shape)

    def left(self, count: int) -> bytes:
        """Copy so many bytes out of the shared memory.

        Raises
        ------
        ValueError
            The child cannot have left that many.
        """
        if not 1 <= count <= self.capacity:
            raise ValueError(f"{count} bytes")
        with self._mapped(count) as shared:
            return shared[:]

    def _mapped(self, size: int) -> mmap.mmap:
        return mmap.mmap(self._memory, size, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE, prot=mmap.PROT_READ)

    def end(self) -> None:
        """End the child: it holds nothing that could be lost."""
        super().end()
        self._close_memory()

    def _close_memory(self) -> None:
        if self._memory >= 0:
            os.close(self._memory)
        self._memory = -1
