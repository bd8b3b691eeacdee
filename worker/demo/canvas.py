"""What films are drawn with: a square grid, tubes, soft edges and cloudy noise. Numpy alone, seeded.

Coordinates are `x` to the right and `y` down, both from -1 to 1 over the square. Arrays are float32 (n, n).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.float32]
Array = npt.NDArray[np.floating[Any]]
Line = npt.NDArray[np.float64]


class Canvas:
    """A square of `n` by `n` pixels and the random numbers of one drawing.

    Parameters
    ----------
    n
        Rows and columns.
    rng
        Random numbers.
    unlike
        How far this one stands from the middle and differs in size from the next, as patients do: the standard
        deviation of shift and scale.
    """

    def __init__(self, n: int, rng: np.random.Generator, *, unlike: float = 0.0) -> None:
        self.n = n
        self.rng = rng
        self._scale = 1 + rng.normal(0, unlike)
        self._shift = rng.normal(0, unlike, 2)
        axis = np.linspace(-1, 1, n, dtype=np.float32)
        self.x = as_image(axis[np.newaxis, :] * self._scale + self._shift[0])
        self.y = as_image(axis[:, np.newaxis] * self._scale + self._shift[1])

    def blank(self) -> Image:
        """Return an empty drawing."""
        return np.zeros((self.n, self.n), np.float32)

    def clouds(self, smoothness: float, *, finest: float = 0.0) -> Image:
        """Return noise with a power-law spectrum, mean 0, standard deviation 1.

        Parameters
        ----------
        smoothness
            Exponent of the amplitude spectrum: 0 is white, 1 rough, 2 soft as clouds.
        finest
            Structures finer than this (in coordinates) are left out.
        """
        spectrum = np.fft.rfft2(self.rng.standard_normal((self.n, self.n), np.float32))
        frequency = np.hypot(np.fft.fftfreq(self.n)[:, np.newaxis], np.fft.rfftfreq(self.n)[np.newaxis, :])
        frequency = frequency.astype(np.float32)
        frequency[0, 0] = np.inf
        spectrum *= frequency**-smoothness * np.exp(-((frequency * finest * self.n) ** 2))
        noise = np.fft.irfft2(spectrum, s=(self.n, self.n))
        return as_image(noise / noise.std())

    def blur(self, image: Image, sigma: float) -> Image:
        """Return the image blurred by a Gaussian of standard deviation `sigma` (in coordinates); edges are extended."""
        coarse = 8 if sigma * self.n > 64 else 1  # a wide blur loses nothing on a coarse grid
        small = image.reshape(self.n // coarse, coarse, self.n // coarse, coarse).mean(axis=(1, 3))
        pixels = sigma * self.n / 2 / coarse
        pad = min(small.shape[0] // 2, int(3 * pixels) + 1)
        padded = np.pad(small, pad, mode="edge")
        size = padded.shape[0]
        response = np.exp(-2 * (np.pi * np.fft.fftfreq(size) * pixels) ** 2).astype(np.float32)
        spectrum = np.fft.rfft2(padded) * response[:, np.newaxis] * response[np.newaxis, : size // 2 + 1]
        blurred = np.fft.irfft2(spectrum, s=padded.shape)[pad:-pad, pad:-pad]
        return _enlarge(blurred.astype(np.float32), coarse)

    def ellipsoid(self, x: float, y: float, rx: float, ry: float, angle: float = 0.0) -> Image:
        """Return the thickness of an ellipsoid along the beam, 1 at its middle; `angle` in degrees, clockwise."""
        c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        reach_x, reach_y = np.hypot(rx * c, ry * s), np.hypot(rx * s, ry * c)
        columns, rows = self._between(x, reach_x, axis=0), self._between(y, reach_y, axis=1)
        dx, dy = self.x[:, columns] - x, self.y[rows] - y
        drawing = self.blank()
        drawing[rows, columns] = np.sqrt(
            np.clip(1 - ((dx * c + dy * s) / rx) ** 2 - ((dy * c - dx * s) / ry) ** 2, 0, None)
        )
        return drawing

    def _pixel(self, coordinate: Any, axis: int) -> Any:
        """Return where a coordinate lies, in pixels, the middle of the first at 0."""
        return ((coordinate - self._shift[axis]) / self._scale + 1) * (self.n - 1) / 2

    def _between(self, middle: float, reach: float, *, axis: int) -> slice:
        """Return the pixels that lie within `reach` of a coordinate."""
        low, high = (int(self._pixel(middle + side, axis)) for side in (-reach, reach))
        return slice(max(0, low), max(0, high + 2))

    def tubes(self, lines: Sequence[Line], *, hollow: float = 0.0) -> Image:
        """Return the thickness along the beam of round tubes.

        Parameters
        ----------
        lines
            One array (points, 4) a tube: x, y, radius and weight along its middle.
        hollow
            Share of the radius inside which the tube carries little (bone: a dense rim and a lighter marrow).

        Returns
        -------
        Image
            Thickness in units of the coordinates, times the weight.
        """
        if not lines:
            return self.blank()
        half = self.n / 2
        parts = [self._stamp(_resample(line, 0.8 / half), hollow) for line in lines]
        rows, columns, weights = (np.concatenate(part) for part in zip(*parts, strict=True))
        row, column = np.floor(rows).astype(int), np.floor(columns).astype(int)
        fr, fc = rows - row, columns - column
        total = np.zeros((self.n + 2) * (self.n + 2))
        inside = (row >= 0) & (row < self.n) & (column >= 0) & (column < self.n)
        row, column, fr, fc, weights = (part[inside] for part in (row, column, fr, fc, weights))
        for dr, dc, share in (
            (0, 0, (1 - fr) * (1 - fc)), (0, 1, (1 - fr) * fc), (1, 0, fr * (1 - fc)), (1, 1, fr * fc),
        ):  # fmt: skip
            index = (row + dr) * (self.n + 2) + column + dc
            total += np.bincount(index, weights * share, total.size)
        return as_image(total.reshape(self.n + 2, self.n + 2)[: self.n, : self.n])

    def _stamp(self, line: Line, hollow: float) -> tuple[Line, Line, Line]:
        """Spread the samples of a middle line over the width of its tube; pixels, and weights a pixel."""
        half = self.n / 2 / self._scale
        x, y, radius, weight = line.T
        step = np.gradient(line[:, :2], axis=0)
        length = np.maximum(np.hypot(*step.T), 1e-9)
        normal = np.stack([-step[:, 1], step[:, 0]]) / length
        count = max(7, int(2.4 * radius.max() * half) | 1)
        across = np.linspace(-1, 1, count + 2)[1:-1]
        profile = np.sqrt(1 - across**2)
        if hollow:
            profile -= 0.75 * np.sqrt(np.clip(hollow**2 - across**2, 0, None))
        spacing = 2 * radius / (count + 1)
        amount = (weight * radius * 2 * length * spacing)[:, np.newaxis] * profile * half * half
        aside = across * radius[:, np.newaxis]
        columns = self._pixel(x[:, np.newaxis] + normal[0][:, np.newaxis] * aside, 0)
        rows = self._pixel(y[:, np.newaxis] + normal[1][:, np.newaxis] * aside, 1)
        return rows.ravel(), columns.ravel(), amount.ravel()


def as_image(values: Any) -> Image:
    """Return the values as float32."""
    return np.asarray(values, np.float32)


def _enlarge(image: Image, factor: int) -> Image:
    """Return the image `factor` times as large, with straight lines between its values."""
    if factor == 1:
        return image
    n = image.shape[0]
    at = (np.arange(n * factor) + 0.5) / factor - 0.5
    low = np.clip(np.floor(at).astype(int), 0, n - 2)
    share = np.clip(at - low, 0, 1).astype(np.float32)
    rows: Image = image[low] + share[:, np.newaxis] * (image[low + 1] - image[low])
    return as_image(rows[:, low] + share * (rows[:, low + 1] - rows[:, low]))


def step(edge: float | Array, value: Array, softness: float) -> Array:
    """Return 0 where `value` is below `edge`, 1 above, an S-shaped ramp of about `softness` between."""
    t: Array = np.clip((value - edge) / softness + 0.5, 0, 1)
    return t * t * (3 - 2 * t)


def through(points: Sequence[tuple[float, float]], at: Array) -> Array:
    """Return a smooth curve through (position, value) points, read at `at` (monotone cubic between the points)."""
    p = np.array([position for position, _ in points])
    v = np.array([value for _, value in points])
    slopes = np.gradient(v, p)
    i = np.clip(np.searchsorted(p, at) - 1, 0, len(p) - 2)
    width = p[i + 1] - p[i]
    t = np.clip((at - p[i]) / width, 0, 1)
    t2, t3 = t * t, t * t * t
    curve: Array = (
        (2 * t3 - 3 * t2 + 1) * v[i]
        + (t3 - 2 * t2 + t) * width * slopes[i]
        + (3 * t2 - 2 * t3) * v[i + 1]
        + (t3 - t2) * width * slopes[i + 1]
    )
    return curve


def _resample(line: Line, spacing: float) -> Line:
    """Return the line with samples about `spacing` apart."""
    length = np.hypot(*np.diff(line[:, :2], axis=0).T)
    position = np.concatenate([[0.0], np.cumsum(length)])
    wanted = np.linspace(0, position[-1], max(3, int(position[-1] / spacing) + 1))
    return np.stack([np.interp(wanted, position, column) for column in line.T], axis=1)
