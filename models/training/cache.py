"""Films in memory: what reading and reducing a film gave is kept for the next epoch, up to a budget.

A 512-pixel JPEG costs more to read, and far more to change at random, than at the size a network works on.
"""

import math
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from numpy.typing import NDArray

from models.preprocessing import FloatArray, resized
from models.training.augment import EightBit, eight_bit
from models.training.dataset import Film

Array = TypeVar("Array", bound=NDArray[Any])

BUDGET_BYTES = 1 << 30
"""A thousand films of a network of 224 by 224 are 0.1 GiB."""

MARGIN = 1.25
"""The shorter side of a film in memory, over the network's longer one: what a zoom of 1.12 and a turn still need."""


class FilmCache(Generic[Array]):
    """Arrays made of films, kept up to a budget; films beyond it are made anew each time.

    It may be asked by several threads. What it returns belongs to it: do not write into it.

    Parameters
    ----------
    make
        From a film to its array; always the same for the same film.
    budget
        Bytes of arrays at most.
    """

    def __init__(self, make: Callable[[Film], Array], budget: int = BUDGET_BYTES) -> None:
        self._make = make
        self._left = budget
        self._kept: dict[Film, Array] = {}
        self._writing = threading.Lock()

    def get(self, film: Film) -> Array:
        """Return the array of a film."""
        found = self._kept.get(film)
        if found is not None:
            return found
        made = self._make(film)
        with self._writing:
            if film not in self._kept and made.nbytes <= self._left:
                self._left -= made.nbytes
                self._kept[film] = made
        return made


def working_film(image: FloatArray, rows: int, columns: int) -> EightBit:
    """Reduce a film to what training on a network of this input needs of it.

    Parameters
    ----------
    image
        float32 (rows, columns), 0 to 255.
    rows, columns
        Of the network's input.

    Returns
    -------
    EightBit
        uint8, in the same aspect ratio; not enlarged.
    """
    wanted = math.ceil(MARGIN * max(rows, columns))
    shorter = min(image.shape)
    if shorter > wanted:
        image = resized(image, *(round(side * wanted / shorter) for side in image.shape))
    return eight_bit(image)
