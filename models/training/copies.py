"""Files with the same bytes: what nobody may learn from in one split and be asked about in another."""

import hashlib
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path

from models.errors import DataError

SAMPLE = 4096


def identical(paths: Sequence[Path]) -> list[list[int]]:
    """Find files with the same content (SHA-256).

    Only files of one size are opened, and only those that agree at their start and middle are read whole.

    Returns
    -------
    list of list of int
        Positions of files that are the same, two or more at a time, in order.

    Raises
    ------
    DataError
        If a file cannot be read.
    """
    try:
        sized = _alike(range(len(paths)), lambda index: paths[index].stat().st_size)
        sampled = [same for group in sized for same in _alike(group, lambda index: _sample(paths[index]))]
        return sorted(same for group in sampled for same in _alike(group, lambda index: _digest(paths[index])))
    except OSError as error:
        raise DataError(f"{error.filename}: {error.strerror}") from None


def _alike(indices: Iterable[int], trait: Callable[[int], Hashable]) -> list[list[int]]:
    found: dict[Hashable, list[int]] = {}
    for index in indices:
        found.setdefault(trait(index), []).append(index)
    return [group for group in found.values() if len(group) > 1]


def _sample(path: Path) -> bytes:
    with path.open("rb") as stream:
        start = stream.read(SAMPLE)
        stream.seek(path.stat().st_size // 2)
        return hashlib.sha256(start + stream.read(SAMPLE)).digest()


def _digest(path: Path) -> bytes:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()
