"""Whether a network was taught films that it is tested on, which would make its figures look better than they are.

A package keeps the SHA-256 of every film that it was trained or validated on: of the file's content alone, so that a
list tells neither names nor patients. A film that was saved anew, or another film of the same patient, is not known
again.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from models.errors import DataError, PackageError
from models.registry import sha256_of
from models.training.dataset import Dataset, Film

TRAINING_FILMS = "evaluation/training_films.json"
"""Where the digests lie in a package, in hexadecimal, sorted."""


def write_training_films(package: Path, dataset: Dataset) -> None:
    """Keep in a package which films its network was trained and validated on.

    Raises
    ------
    DataError
        If a film cannot be read.
    """
    digests = sorted(set(_digests(film for film in dataset.films if film.split != "test")))
    (package / TRAINING_FILMS).write_text(json.dumps({"sha256": digests}) + "\n", encoding="utf-8")


def seen_in_training(package: Path, films: Sequence[Film]) -> int | None:
    """Count the films that the network of a package was trained or validated on; None where the package says nothing.

    Raises
    ------
    PackageError
        If the list in the package is none.
    DataError
        If a film cannot be read.
    """
    path = package / TRAINING_FILMS
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise PackageError(f"{path}: the list of training films cannot be read: {error}") from None
    digests = found.get("sha256") if isinstance(found, dict) else None
    if not isinstance(digests, list) or not all(isinstance(digest, str) for digest in digests):
        raise PackageError(f'{path}: the list of training films is not {{"sha256": [...]}}; install the package again')
    taught = frozenset(digests)
    return sum(digest in taught for digest in _digests(films))


def note_of(seen: int | None, films: int, split: str) -> str | None:
    """Say what it means that so many films were seen; None where there is nothing to say.

    Parameters
    ----------
    seen
        What `seen_in_training` returned.
    films
        How many there are.
    split
        What was asked for: with `train` or `val` somebody wants the very films of the training.
    """
    if split in {"train", "val"} or seen == 0:
        return None
    if seen is None:
        return (
            "The package does not say which films its network was trained on, so it cannot be told whether some of"
            " these are among them."
        )
    return (
        f"WARNING: of these {films:,} films the network was trained or validated on {seen:,}; the figures look better"
        " than they would on other patients. Leave those films out, or ask for --split test of the data it was trained"
        " on."
    )


def _digests(films: Iterable[Film]) -> Iterable[str]:
    for film in films:
        try:
            yield sha256_of(film.path)
        except PackageError as error:
            raise DataError(str(error)) from None
