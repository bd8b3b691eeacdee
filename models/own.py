"""A user's own Keras model made into a package: its card filled in, its golden pair computed, its files hashed."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from models.archive import check_archive
from models.backend import load_backend
from models.card import MAX_CARD_BYTES, Card, parse_card
from models.classifier import Classifier
from models.engines.keras import KerasEngine
from models.errors import PackageError
from models.golden import phantom_for, save_golden
from models.preprocessing import FloatArray
from models.registry import (
    CARD,
    GOLDEN,
    WEIGHTS,
    Package,
    discard_staged,
    install_staged,
    sha256_of,
    staging_folder,
)

TODO = "TODO"
"""What a text of the template begins with until somebody has written it."""

HASHES = ("weights_sha256", "golden_sha256")
PENDING = "0" * 64

OFF = 1e-3
"""How far the outputs of a softmax may add up to something else than 1."""


def pack_network(network: Path, card_file: Path, out: Path) -> Package:
    """Make a package of a network and its card.

    Parameters
    ----------
    network
        A `.keras` archive of plain layers, not compiled code of anybody's own.
    card_file
        The card; `weights_sha256` and `golden_sha256` may be left out, and are checked where they are not.
    out
        `<name>/<version>/` is made here, at once when everything has been checked.

    Returns
    -------
    Package
        As `models add` takes it.

    Raises
    ------
    PackageError
        If the network holds what it may not, is not what the card says or gives no probabilities; naming the field of
        the card where one is concerned. Nothing is left in `out` then.
    """
    given = _read_fields(card_file)
    for field, text in _texts(given):
        if text.startswith(TODO):
            raise PackageError(f"{card_file}: {field}: it is still to be written: {text!r}")
    check_archive(network)
    card = _card(given, card_file, {})
    folder = staging_folder(out, card)
    staged = Package(folder, card)
    try:
        shutil.copyfile(network, folder / WEIGHTS)
        image = phantom_for(card.default_for)
        unknown = np.zeros(len(card.labels), np.float32)
        save_golden(folder / GOLDEN, image, unknown)  # the network has to be loaded before it can be asked
        staged = _written(given, card_file, folder)
        classifier = Classifier.load(staged, engine="keras")
        prepared = classifier.prepare(image.astype(np.float32))
        _need_probabilities(classifier, prepared)
        save_golden(folder / GOLDEN, image, classifier.probabilities(prepared[np.newaxis])[0])
        staged = _written(given, card_file, folder)
        _need_hashes(given, card_file, staged.card)
        Classifier(staged, KerasEngine(classifier.network)).warm_up()
    except PackageError as error:
        discard_staged(staged)
        raise PackageError(str(error).replace(str(folder / WEIGHTS), str(network))) from None
    except BaseException:
        discard_staged(staged)
        raise
    return install_staged(staged, out)


def _read_fields(card_file: Path) -> dict[str, Any]:
    try:
        if card_file.stat().st_size > MAX_CARD_BYTES:
            raise PackageError(f"{card_file}: a card of more than {MAX_CARD_BYTES} bytes is none")
        fields = json.loads(card_file.read_bytes())
    except OSError as error:
        raise PackageError(f"{card_file}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise PackageError(f"{card_file}: this is no JSON: {error}") from None
    if not isinstance(fields, dict):
        raise PackageError(f"{card_file}: a card is a JSON object, {{…}}")
    return fields


def _texts(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Yield every text of a card with the name of its field."""
    if isinstance(value, str):
        yield place, value
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from _texts(item, f"{place}.{key}" if place else str(key))


def _card(given: dict[str, Any], card_file: Path, hashes: dict[str, str]) -> Card:
    """Check a card, with hashes in place of those that are not known yet."""
    return parse_card(json.dumps(given | dict.fromkeys(HASHES, PENDING) | hashes), card_file)


def _written(given: dict[str, Any], card_file: Path, folder: Path) -> Package:
    """Write the card of the files that lie in the folder now."""
    hashes = {"weights_sha256": sha256_of(folder / WEIGHTS), "golden_sha256": sha256_of(folder / GOLDEN)}
    card = _card(given, card_file, hashes)
    (folder / CARD).write_text(card.to_json(), encoding="utf-8")
    return Package(folder, card)


def _need_hashes(given: dict[str, Any], card_file: Path, card: Card) -> None:
    for name in HASHES:
        found = getattr(card, name)
        if given.get(name, found) != found:
            raise PackageError(
                f"{card_file}: {name}: {given[name]} is not that of the file, {found}; leave the field out to have it"
                " filled in"
            )


def _need_probabilities(classifier: Classifier, prepared: FloatArray) -> None:
    """Raise unless the network gives probabilities of the kind that the card says, on the phantom, noise and nothing.

    Asked of the network itself: the card's temperature would make probabilities of anything.
    """
    _, tf = load_backend()
    noise = np.random.default_rng(0).standard_normal(prepared.shape, np.float32)
    given = classifier.network(tf.constant(np.stack([prepared, noise, np.zeros_like(noise)])), training=False).numpy()
    card = classifier.card
    if not np.isfinite(given).all() or given.min() < 0 or given.max() > 1:
        raise PackageError(
            f"the network gives values from {given.min():.4g} to {given.max():.4g}; the card's field output says"
            f" {card.output}, whose values are probabilities: end the network with that activation"
        )
    sums = given.sum(axis=1)
    if card.output == "softmax" and np.abs(sums - 1).max() > OFF:
        raise PackageError(
            f"the network's outputs add up to {sums[np.abs(sums - 1).argmax()]:.4g}; the card's field output says"
            " softmax, whose outputs add up to 1: say sigmoid, or end the network with a softmax"
        )
