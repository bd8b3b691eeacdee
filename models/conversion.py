"""A package's network as an ONNX file beside its weights: exported, compared with Keras, named in the card.

The file is another form of the same weights, so the package stays the model that it was: `weights_sha256` says which.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import numpy as np

from models.card import Card, Onnx
from models.classifier import MAX_BATCH, Classifier
from models.engines.choice import REMEDY, missing
from models.engines.export import OPSET, export
from models.engines.onnx import OnnxEngine, open_session
from models.errors import ModelError, PackageError
from models.golden import golden_image, golden_slice, load_golden
from models.preprocessing import FloatArray
from models.registry import CARD, Package

INPUTS = MAX_BATCH + 4
"""Images that are compared, so that a full batch can begin at more than one of them."""

Watch = Callable[[int, int], None]


def convert(
    package: Package, *, reference: Classifier | None = None, watch: Watch = lambda _done, _total: None
) -> Package:
    """Give a package its ONNX file; where it has one, compare that with Keras as it is.

    Parameters
    ----------
    package
        Written only when all is well: first the file, then the card that names it.
    reference
        The same on Keras, where it is loaded already.
    watch
        Called with the images compared and their total.

    Returns
    -------
    Package
        With the new card.

    Raises
    ------
    ModelError
        If the network cannot be exported, a library is missing, or the folder cannot be written.
    PackageError
        If a file is not the card's, or ONNX Runtime gives other probabilities than Keras by more than the card allows.
    """
    if absent := missing("onnxruntime", "onnx", "tf2onnx"):
        raise ModelError(f"{absent} is not installed; {REMEDY}")
    if reference is None:
        reference = Classifier.load(package, engine="keras")
    known = package.card.onnx
    content = export(reference.network) if known is None else package.onnx.read_bytes()
    session = open_session(content, package, threads=1)
    other = Classifier(package, OnnxEngine(session))
    difference, invariant = compare(reference, other, watch)
    if not difference <= package.card.tolerance:
        raise PackageError(
            f"{package.identifier}: ONNX Runtime gives other probabilities than Keras, by {difference:.2g}; the card"
            f" allows {package.card.tolerance:g}"
        )
    other.warm_up()
    measured = {
        "runtime": f"onnxruntime {version('onnxruntime')}",
        "difference": difference,
        "inputs": INPUTS,
        "batch_invariant": invariant,
    }
    made_with = ", ".join(f"{name} {version(name)}" for name in ("tf2onnx", "keras"))
    found = known or Onnx(
        sha256=hashlib.sha256(content).hexdigest(),
        weights_sha256=package.card.weights_sha256,
        exporter=made_with,
        opset=OPSET,
        **measured,
    )
    card = package.card.model_copy(update={"onnx": found.model_copy(update=measured)})
    try:
        if known is None:
            _replace(package.onnx, content, like=package.weights)
        write_card(package, card)
    except OSError as error:
        raise ModelError(f"{package.path}: the ONNX file cannot be written: {error.strerror}") from None
    return Package(package.path, card, package.shipped)


def compare(reference: Classifier, other: Classifier, watch: Watch = lambda _done, _total: None) -> tuple[float, bool]:
    """Ask two classifiers of one card about the golden image and made-up ones, the second in batches of every size.

    Returns
    -------
    tuple
        The largest difference of a probability, and whether the second gave every one the same to the bit in any batch.
    """
    inputs = drawn_inputs(reference)
    sizes = range(2, MAX_BATCH + 1)
    done, total = INPUTS, INPUTS + sum(sizes)
    alone = np.concatenate([other.probabilities(inputs[i : i + 1]) for i in range(INPUTS)])
    watch(done, total)
    difference = float(np.abs(alone - reference.probabilities(inputs)).max())
    invariant = True
    for size in sizes:
        start = 7 * size % (INPUTS - size + 1)
        together = other.probabilities(inputs[start : start + size])
        invariant = invariant and np.array_equal(together, alone[start : start + size])
        done += size
        watch(done, total)
    return difference, invariant


def drawn_inputs(classifier: Classifier) -> FloatArray:
    """Prepare the golden image, and films and slices drawn from a fixed seed: mirrored, lighter, darker, grainy."""
    random = np.random.default_rng(20250101)
    golden, _ = load_golden(classifier.package.golden, len(classifier.card.labels))
    images = [golden]
    while len(images) < INPUTS:
        drawn = (golden_image, golden_slice)[len(images) % 2]().astype(np.float32)
        drawn = np.flip(drawn, axis=tuple(np.flatnonzero(random.integers(0, 2, 2))))
        noise = random.normal(0, 4.0 ** random.uniform(0, 4), drawn.shape)
        changed = drawn * random.uniform(0.2, 1.6) + random.uniform(-60, 60) + noise
        images.append(np.clip(changed, 0, 255).astype(np.float32))
    return np.stack([classifier.prepare(image) for image in images])


def write_card(package: Package, card: Card) -> None:
    """Give a package another card, whole or not at all.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    _replace(package.path / CARD, card.to_json().encode(), like=package.path / CARD)


def _replace(path: Path, content: bytes, *, like: Path) -> None:
    """Write a file whole or not at all, for whoever may read another one."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as file:
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            shutil.copymode(like, file.name)
            Path(file.name).replace(path)
        except BaseException:
            with suppress(OSError):
                Path(file.name).unlink()
            raise
