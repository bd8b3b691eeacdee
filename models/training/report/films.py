"""What a report shows of the films themselves: grey values by label, and a sheet of those called wrong and right."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.card import Card
from models.errors import DataError, ImageError
from models.preprocessing import FloatArray, resized
from models.training.dataset import Film, ReadImage
from models.training.evaluate import Scored
from models.training.film import place

GREYS = 64
"""Bins of the grey values."""

MISTAKES_SHOWN = 24
RIGHTS_SHOWN = 12
MISTAKES_LISTED = 200
THUMBNAIL = 224
"""Longest side of a picture on the sheet, pixels."""


@dataclass
class GreyValues:
    """Collects the grey values of films as they are read; `look` may be called from several threads."""

    _of: dict[Path, NDArray[np.float64]] = field(default_factory=dict)

    def look(self, film: Film, image: FloatArray) -> None:
        """Count an image, float32 (rows, columns), 0 to 255."""
        counts, _ = np.histogram(image, bins=GREYS, range=(0, 255))
        self._of[film.path] = counts / max(int(counts.sum()), 1)

    def density(self, scored: Scored, labels: Sequence[str]) -> dict[str, list[float]]:
        """Return the mean share of pixels in each bin over the films of each label that has films."""
        found: dict[str, list[float]] = {}
        for index, label in enumerate(labels):
            films = [self._of[scored.films[row].path] for row in np.flatnonzero(scored.targets == index)]
            if films:
                found[label] = np.mean(films, axis=0).tolist()
        return found


def grey_rows(density: Mapping[str, Sequence[float]]) -> dict[str, dict[str, float]]:
    """Return mean and spread of the grey values, and the shares that are black and white, for the table."""
    middles = (np.arange(GREYS) + 0.5) * 255 / GREYS
    rows = {}
    for label, values in density.items():
        shares = np.asarray(values)
        mean = float((shares * middles).sum())
        rows[label] = {
            "mean": mean,
            "deviation": float(np.sqrt((shares * (middles - mean) ** 2).sum())),
            "black": float(shares[:2].sum()),
            "white": float(shares[-2:].sum()),
        }
    return rows


@dataclass(frozen=True)
class Shown:
    """A film of the sheet: what it is, what it was called, and a picture of it as a data URI."""

    file: str
    source: str
    true: str
    called: str
    probability: float
    of_true: float
    picture: str | None


@dataclass(frozen=True)
class Sheet:
    """Films called wrong, the surest first, and films called right; of the mistakes beyond those shown, a list."""

    mistakes: tuple[Shown, ...]
    rights: tuple[Shown, ...]
    listed: tuple[Shown, ...]
    wrong: int


def sheet(card: Card, scored: Scored, root: Path, read: ReadImage) -> Sheet:
    """Choose films for the sheet and make pictures of them.

    Taken in turn from each true label, the surest first, so that a label with many mistakes does not fill the sheet.

    Parameters
    ----------
    root
        The data set's folder; films are named as they lie in it.
    read
        Reader of a film.

    Raises
    ------
    DataError
        If a film cannot be read any more.
    """
    chosen = scored.probabilities.argmax(axis=1)
    wrong = _in_turn(scored, np.flatnonzero(chosen != scored.targets))
    right = _in_turn(scored, np.flatnonzero(chosen == scored.targets))[:RIGHTS_SHOWN]

    def shown(row: int, *, picture: bool) -> Shown:
        film = scored.films[row]
        return Shown(
            file=place(film.path, root),
            source=film.source,
            true=film.label,
            called=card.labels[int(chosen[row])].name,
            probability=float(scored.probabilities[row, chosen[row]]),
            of_true=float(scored.probabilities[row, scored.targets[row]]),
            picture=_thumbnail(film, read) if picture else None,
        )

    return Sheet(
        mistakes=tuple(shown(row, picture=True) for row in wrong[:MISTAKES_SHOWN]),
        rights=tuple(shown(row, picture=True) for row in right),
        listed=tuple(shown(row, picture=False) for row in wrong[:MISTAKES_LISTED]),
        wrong=len(wrong),
    )


def _in_turn(scored: Scored, rows: NDArray[np.int_]) -> list[int]:
    """Order films: the surest of each label, then the second of each, and so on."""
    sure = scored.probabilities.max(axis=1)
    place: dict[int, int] = {}
    keys = []
    for row in sorted((int(row) for row in rows), key=lambda row: (-float(sure[row]), row)):
        label = int(scored.targets[row])
        place[label] = place.get(label, 0) + 1
        keys.append((place[label], label, row))
    return [row for _, _, row in sorted(keys)]


def _thumbnail(film: Film, read: ReadImage) -> str:
    try:
        image = read(film.path)
    except ImageError as error:
        raise DataError(f"{film.path}: {error}") from None
    scale = min(1.0, THUMBNAIL / max(image.shape))
    small = resized(image, max(1, round(image.shape[0] * scale)), max(1, round(image.shape[1] * scale)))
    stream = io.BytesIO()
    Image.fromarray(np.clip(np.rint(small), 0, 255).astype(np.uint8)).save(stream, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
