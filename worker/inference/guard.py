"""The decoding child as its parent sees it: a guarded child, and the memory in which it leaves the pixels.

The memory is sealed against shrinking, so that not even a child taken over by what it decodes can end us.
"""

import fcntl
import mmap
import os

import numpy as np
from numpy.typing import NDArray

from worker.errors import ChildLost
from worker.guarded.child import GuardedChild

PIXEL_BYTES = np.dtype(np.float32).itemsize


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

    Raises
    ------
    ChildLost
        It cannot be started.
    """

    def __init__(self, *, seconds: float, memory_bytes: int, max_pixels: int) -> None:
        self._capacity = max_pixels * PIXEL_BYTES
        self._memory = -1
        try:
            # Sparse: costs nothing until written. Without a name: nothing is left behind, whoever dies.
            self._memory = os.memfd_create("firstread-pixels", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            os.ftruncate(self._memory, self._capacity)
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
        """Copy the image out of the shared memory, float32 (rows, columns)."""
        size = rows * columns * PIXEL_BYTES
        if rows < 1 or columns < 1 or size > self._capacity:
            raise ValueError(f"an image of {rows} x {columns} pixels")
        with mmap.mmap(self._memory, size, prot=mmap.PROT_READ) as shared:
            shared_image = np.frombuffer(shared, np.float32).reshape(rows, columns)
            image = shared_image.copy()
            del shared_image  # it would keep the mapping open
        return image

    def end(self) -> None:
        """End the child: it holds nothing that could be lost."""
        super().end()
        self._close_memory()

    def _close_memory(self) -> None:
        if self._memory >= 0:
            os.close(self._memory)
        self._memory = -1
