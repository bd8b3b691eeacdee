"""Leave for a package to be computed in mixed precision: compared with float32, and written into its card."""

from importlib.metadata import PackageNotFoundError, version

import numpy as np

from models.backend import load_backend
from models.card import MixedPrecision
from models.classifier import Classifier
from models.conversion import INPUTS, drawn_inputs, write_card
from models.engines.keras import KerasEngine
from models.errors import ModelError, PackageError
from models.registry import Package


def allow_mixed_precision(package: Package) -> Package:
    """Compare a package in mixed precision with itself in float32, on this device, and write down how far it is off.

    The golden image and made-up ones are asked alone and together. What was allowed before and is no longer within the
    card's tolerance is taken back.

    Returns
    -------
    Package
        With the new card.

    Raises
    ------
    ModelError
        If TensorFlow is not installed, or the card cannot be written.
    PackageError
        If a file is not the card's, or a probability is off by more than the card allows, or none.
    """
    reference = Classifier.load(package, engine="keras")
    engine = KerasEngine(reference.network, mixed=True)
    difference = _difference(reference, Classifier(package, engine))
    allowed = difference <= package.card.tolerance
    found = MixedPrecision(
        weights_sha256=package.card.weights_sha256,
        difference=difference,
        inputs=INPUTS,
        device=engine.device,
        verified_with=_made_with(),
    ) if allowed else None  # fmt: skip
    card = package.card.model_copy(update={"mixed_precision": found})
    try:
        if card != package.card:
            write_card(package, card)
    except OSError as error:
        raise ModelError(f"{package.path}: the card cannot be written: {error.strerror}") from None
    if not allowed:
        off = f"by {difference:.2g}" if np.isfinite(difference) else "or none"
        raise PackageError(
            f"{package.identifier}: mixed precision gives other probabilities than float32, {off}; the card allows"
            f" {package.card.tolerance:g}, so it stays in float32"
        )
    return Package(package.path, card, package.shipped)


def _difference(reference: Classifier, mixed: Classifier) -> float:
    """Return the largest difference of a probability; infinity where mixed precision gives none."""
    inputs = drawn_inputs(reference)
    expected = reference.probabilities(inputs)
    try:
        alone = np.concatenate([mixed.probabilities(image[np.newaxis]) for image in inputs])
        together = mixed.probabilities(inputs)
    except PackageError:  # float16 ends at 65504, and what is beyond is no number in the end
        return float("inf")
    return float(max(np.abs(alone - expected).max(), np.abs(together - expected).max()))


def _made_with() -> str:
    """Name the libraries and the device."""
    _, tf = load_backend()
    names = []
    for name in ("keras", "tensorflow", "tensorflow-cpu"):
        try:
            names.append(f"{name} {version(name)}")
        except PackageNotFoundError:  # of the two TensorFlows one is installed
            continue
    devices = [tf.config.experimental.get_device_details(one) for one in tf.config.list_physical_devices("GPU")[:1]]
    return ", ".join([*names, *(details.get("device_name", "a GPU") for details in devices)])
