"""A frame as it is displayed, looked up where it is asked for: nobody makes an image of its size for nothing."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BLOCK = 1 << 15
"""Pixels looked up at a time, so that their indices stay in the cache."""

Field = tuple[slice, slice]
"""Rows and columns."""


@dataclass
class Rendering:
    """One frame, 0 (black) to 255 (white).

    Attributes
    ----------
    values
        The frame as it is stored, (rows, columns), or (rows, columns, channels) for as many tables; where there is no
        table, as it is displayed, float32 (rows, columns).
    tables
        What is shown for each value that a container can hold, float32 (n,); those of several channels are added up.
    notes
        What a person should know: how the range was chosen where the object does not say it.
    """

    values: NDArray[Any]
    tables: Sequence[NDArray[np.float32]]
    notes: list[str]
    _spare: dict[str, NDArray[Any]] = field(default_factory=dict, repr=False)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return (self.values.shape[0], self.values.shape[1])

    def __getitem__(self, wanted: Field) -> NDArray[np.float32]:
        """Return a field, float32 (rows, columns); it is overwritten when the next is asked for."""
        values = self.values[wanted]
        if not self.tables:
            return values
        out = self._room("out", values.shape[:2], np.float32)
        self._fill(values, out)
        return out

    def fill(self, out: NDArray[np.float32]) -> None:
        """Write all of it to `out`, float32 (rows, columns), C-contiguous."""
        if self.tables:
            self._fill(self.values, out)
        else:
            out[...] = self.values

    def grey_levels(self) -> NDArray[np.uint8]:
        """Return all of it in whole grey levels, uint8 (rows, columns)."""
        if len(self.tables) == 1:
            levels = np.empty(self.shape, np.uint8)
            look_up(rounded(self.tables[0]), self.values, levels)
            return levels
        image = np.empty(self.shape, np.float32)
        self.fill(image)
        return rounded(image)

    def _fill(self, values: NDArray[Any], out: NDArray[np.float32]) -> None:
        if len(self.tables) == 1:
            look_up(self.tables[0], values, out)
            return
        out[...] = 0
        part = self._room("part", out.shape, np.float32)
        for channel, table in enumerate(self.tables):
            look_up(table, values[:, :, channel], part)
            out += part

    def _room(self, name: str, shape: tuple[int, ...], dtype: type[np.float32]) -> NDArray[np.float32]:
        """Return memory that was used before where there is some: the system takes its time to give fresh memory."""
        size = int(np.prod(shape))
        if name not in self._spare or self._spare[name].size < size:
            self._spare[name] = np.empty(size, dtype)
        room: NDArray[np.float32] = self._spare[name][:size].reshape(shape)
        return room


def blocks(values: NDArray[Any]) -> Iterator[NDArray[np.intp]]:
    """Yield values as indices, block by block, in one buffer."""
    flat = values.reshape(-1)
    index = np.empty(min(_BLOCK, len(flat)), np.intp)
    for start in range(0, len(flat), _BLOCK):
        block = flat[start : start + _BLOCK]
        index[: len(block)] = block
        yield index[: len(block)]


def look_up(table: NDArray[Any], values: NDArray[Any], out: NDArray[Any]) -> None:
    """Write to `out`, C-contiguous, what a table says for each of the values, all of which are in it."""
    target, start = out.reshape(-1), 0
    for index in blocks(values):
        # "wrap" only spares the check that "raise" does on a copy of the output.
        np.take(table, index, out=target[start : start + len(index)], mode="wrap")
        start += len(index)


def rounded(image: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return an image in whole grey levels, uint8."""
    return np.rint(np.clip(image, 0, 255)).astype(np.uint8)
