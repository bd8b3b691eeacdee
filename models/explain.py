"""Where in a film a network found what it says: Grad-CAM for convolutional networks, occlusion maps for all others.

R. R. Selvaraju, M. Cogswell, A. Das, R. Vedantam, D. Parikh, D. Batra, "Grad-CAM: Visual Explanations from Deep
Networks via Gradient-Based Localization", ICCV 2017. M. D. Zeiler, R. Fergus, "Visualizing and Understanding
Convolutional Networks", ECCV 2014, section 4.2.

A map shows what moved the network's answer. It does not outline a disease: a network that recognises a hospital by a
letter in the corner has its map in that corner, which is what such a map is good for. Grad-CAM averages the gradient
over the image; where a network flattens its maps and weighs every place for itself, that average is an approximation,
and occlusion, which assumes nothing, is the better witness.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from models.backend import load_backend
from models.card import Card
from models.classifier import Classifier
from models.errors import ModelError, PackageError
from models.preprocessing import FloatArray, field_of_view, resized
from models.tap import tapped

Method = Literal["grad-cam", "occlusion"]

PIECE = 8
"""Images whose gradients are held at a time."""

WINDOWS = 32
"""Occluded copies that are computed at a time."""

PATCH = 8
"""A patch is this part of the image's height and width; patches lie half over each other."""

FLAT = 1e-6
"""A map that varies by less than this part of its peak points at nothing."""


class Explainer:
    """Makes maps of what a classifier says.

    Parameters
    ----------
    classifier
        A loaded classifier; its weights are shared, not copied.
    method
        `grad-cam` or `occlusion`; without it Grad-CAM where the network has a convolution, else occlusion.

    Raises
    ------
    ModelError
        If Grad-CAM is asked of a network without a convolution whose maps lie over the image.
    """

    def __init__(self, classifier: Classifier, method: Method | None = None) -> None:
        self._classifier = classifier
        self._labels = [label.name for label in classifier.card.labels]
        self._tap = tapped(classifier.network, classifier.card.output)
        if method == "grad-cam" and self._tap.maps is None:
            raise ModelError(
                f"{classifier.card.identifier} has no convolution whose maps lie over the image, so there is no"
                " Grad-CAM of it; ask for an occlusion map"
            )
        self.method: Method = method or ("occlusion" if self._tap.maps is None else "grad-cam")

    @property
    def layer(self) -> str | None:
        """Name of the layer whose maps Grad-CAM reads; None for occlusion."""
        return self._tap.layer if self.method == "grad-cam" else None

    def maps(self, batch: FloatArray, labels: Sequence[str]) -> FloatArray:
        """Say for every input where it speaks for a label.

        Parameters
        ----------
        batch
            float32 (N, H, W, C) from `Classifier.prepare`.
        labels
            N names of labels of the card, one an input.

        Returns
        -------
        FloatArray
            float32 (N, H, W), 0 to 1: 1 where the input speaks most for the label, 0 where it does not or speaks
            against it. All 0 where nothing stands out, as in an input whose every channel has one value.

        Raises
        ------
        ImageError
            If the batch is not of the card's shape, or holds a value that is not finite.
        ModelError
            If a label is none of the card's, or there is not one an input; or the network's values overflow.
        """
        batch = self._classifier.checked(batch)
        positions = self._positions(labels, len(batch))
        make = self._gradient_maps if self.method == "grad-cam" else self._occlusion_maps
        shape = self._classifier.card.input
        maps = np.zeros((len(batch), shape.rows, shape.columns), np.float32)
        for start in range(0, len(batch), PIECE):
            piece = slice(start, start + PIECE)
            for index, heat in enumerate(make(batch[piece], positions[piece]), start=start):
                if np.ptp(batch[index], axis=(0, 1)).any():  # channel by channel: a grey film has three constant ones
                    maps[index] = _unit(resized(heat, shape.rows, shape.columns))
        return maps

    def _positions(self, labels: Sequence[str], count: int) -> Any:
        if len(labels) != count:
            raise ModelError(f"{len(labels)} labels were named for {count} inputs; name one an input")
        unknown = sorted(set(labels) - set(self._labels))
        if unknown:
            raise ModelError(
                f"{self._classifier.card.identifier} has no label {unknown[0]!r}; it has: {', '.join(self._labels)}"
            )
        return np.asarray([self._labels.index(label) for label in labels], np.int32)

    def _gradient_maps(self, batch: FloatArray, positions: Any) -> FloatArray:
        """Weigh each map of the layer by the mean of its gradient, add, and keep what speaks for the label."""
        _, tf = load_backend()
        assert self._tap.maps is not None  # noqa: S101 - the method was chosen by it
        found, gradient = (part.numpy() for part in self._tap.maps(tf.constant(batch), tf.constant(positions)))
        weights = gradient.mean(axis=(1, 2), dtype=np.float64)
        return _for_the_label(np.einsum("nhwk,nk->nhw", found, weights))

    def _occlusion_maps(self, batch: FloatArray, positions: Any) -> FloatArray:
        """Lay a grey patch over every place in turn, and see how much less sure of the label the network becomes.

        The patch has the mean of the input, channel by channel. A place has the mean of all patches over it.
        """
        shape = self._classifier.card.input
        places = [(row, column) for row in _places(shape.rows) for column in _places(shape.columns)]
        heats = np.zeros((len(batch), shape.rows, shape.columns))
        covered = np.zeros((shape.rows, shape.columns))
        for row, column in places:
            covered[row, column] += 1
        for image, position, heat in zip(batch, positions, heats, strict=True):
            whole = self._log_odds(image[np.newaxis], position)[0]
            grey = image.mean(axis=(0, 1), dtype=np.float64)
            for start in range(0, len(places), WINDOWS):
                some = places[start : start + WINDOWS]
                hidden = np.repeat(image[np.newaxis], len(some), axis=0)
                for copy, (row, column) in zip(hidden, some, strict=True):
                    copy[row, column] = grey
                for odds, (row, column) in zip(self._log_odds(hidden, position), some, strict=True):
                    heat[row, column] += whole - odds
        return _for_the_label(heats / covered)

    def _log_odds(self, batch: FloatArray, position: int) -> FloatArray:
        _, tf = load_backend()
        odds: FloatArray = self._tap.log_odds(tf.constant(batch), tf.fill([len(batch)], tf.constant(position))).numpy()
        return odds


def _places(size: int) -> list[slice]:
    """Cut a side into patches that lie half over each other and reach both ends."""
    patch = max(2, size // PATCH)
    return [slice(start, start + patch) for start in [*range(0, size - patch, max(1, patch // 2)), size - patch]]


def _for_the_label(maps: NDArray[np.float64]) -> FloatArray:
    """Leave out what speaks against the label."""
    if not np.isfinite(maps).all():
        raise PackageError("the network's answer to this input has no finite gradient: its values overflow")
    return np.maximum(maps, 0).astype(np.float32)


def _unit(heat: FloatArray) -> FloatArray:
    """Scale a map to a peak of 1; zeros where it is flat."""
    peak = float(heat.max())
    if peak - float(heat.min()) <= FLAT * peak:
        return np.zeros_like(heat)
    return np.asarray(np.clip(heat / peak, 0, 1), dtype=np.float32)


def on_image(heat: FloatArray, image: FloatArray, card: Card) -> FloatArray:
    """Lay a map of the network's input over the image that the input was made of.

    Parameters
    ----------
    heat
        float32 (H, W) from `Explainer.maps`.
    image
        float32 (rows, columns), as given to `Classifier.prepare`.
    card
        The classifier's; its preprocessing recipe may look at a part of the image only.

    Returns
    -------
    FloatArray
        float32 (rows, columns), 0 to 1; 0 in what the network did not see.
    """
    field = field_of_view(card.recipe, image, card.input.rows, card.input.columns)
    laid = np.zeros(image.shape, np.float32)
    rows, columns = laid[field].shape
    laid[field] = np.clip(resized(heat, rows, columns), 0, 1)
    return laid
