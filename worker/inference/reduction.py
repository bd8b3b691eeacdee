"""A picture of an image added up in passing: while a network's input is made of it, its pixels are in the cache."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from worker.inference.rendering import Field, Rendering, rounded

_AT_ONCE = 64
"""Rows of the picture that are added up at a time: what they are made of stays in the cache."""


class Reduction:
    """A rendering that adds up what is asked of it, each square of pixels to one of a picture.

    What nobody asked for (a recipe that trims looks only at a field) is looked up when the picture is asked for.

    Parameters
    ----------
    shown
        The frame as it is displayed.
    factor
        Pixels on a side of a square; divides the rows and the columns of the frame.
    """

    def __init__(self, shown: Rendering, factor: int) -> None:
        self._shown = shown
        self._factor = factor
        rows, columns = (side // factor for side in shown.shape)
        self._sums = np.empty((rows, columns), np.float32)
        self._across = slice(0, 0)
        self._added = np.zeros(rows, bool)
        self._tall = np.empty((_AT_ONCE, shown.shape[1]), np.float32)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the frame."""
        return self._shown.shape

    def __getitem__(self, wanted: Field) -> NDArray[np.float32]:
        """Return a field of the frame, float32 (rows, columns); it is overwritten when the next is asked for."""
        values = self._shown[wanted]
        down, across = wanted
        inner = self._whole(across)
        if not self._added.any():
            self._across = inner
        if inner == self._across:  # whole squares only, in the columns of the first field: the rest is left for later
            rows = self._whole(down)
            first = rows.start * self._factor - down.start
            left = inner.start * self._factor - across.start
            self._add(values[first:, left:], rows, inner)
            self._added[rows] = True
        return values

    def grey_levels(self) -> NDArray[np.uint8]:
        """Return the picture in whole grey levels, uint8 (rows, columns): each pixel the mean of its square."""
        rows, columns = self._sums.shape
        for missing in (slice(0, self._across.start), slice(self._across.stop, columns)):
            self._look_up(slice(0, rows), missing)
        for missing in _runs(~self._added):
            self._look_up(missing, self._across)
        return rounded(self._sums * np.float32(1 / self._factor**2))

    def _whole(self, side: slice) -> slice:
        """Return which rows or columns of the picture a side of a field has all the pixels of."""
        start = -(-side.start // self._factor)
        return slice(start, max(start, side.stop // self._factor))

    def _look_up(self, rows: slice, columns: slice) -> None:
        if columns.start == columns.stop:
            return
        across = slice(columns.start * self._factor, columns.stop * self._factor)
        for start in range(rows.start, rows.stop, _AT_ONCE):
            part = slice(start, min(start + _AT_ONCE, rows.stop))
            self._add(self._shown[part.start * self._factor : part.stop * self._factor, across], part, columns)

    def _add(self, values: NDArray[np.float32], rows: slice, columns: slice) -> None:
        """Add up values, float32 (rows, columns), that begin with the first pixel of these rows and columns."""
        step, width = self._factor, (columns.stop - columns.start) * self._factor
        for start in range(rows.start, rows.stop, _AT_ONCE):
            stop = min(start + _AT_ONCE, rows.stop)
            part = values[(start - rows.start) * step : (stop - rows.start) * step, :width]
            tall = self._tall[: stop - start, :width]
            sums = self._sums[start:stop, columns]
            np.add(part[::step], part[1::step], out=tall)
            for row in range(2, step):
                tall += part[row::step]
            np.add(tall[:, ::step], tall[:, 1::step], out=sums)
            for column in range(2, step):
                sums += tall[:, column::step]


def _runs(wanted: NDArray[np.bool_]) -> Iterator[slice]:
    """Yield where something is wanted, in one piece each."""
    ends = np.flatnonzero(np.diff(wanted, prepend=False, append=False))
    for start, stop in ends.reshape(-1, 2).tolist():
        yield slice(start, stop)
