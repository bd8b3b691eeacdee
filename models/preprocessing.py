"""From an image to the array a network takes: one function a recipe, bit for bit the same in training and in service.

The image of every recipe is float32 (rows, columns) as displayed, 0 black to 255 white, of any size; what comes out is
float32 (rows, columns), or (rows, columns, channels) where the channels differ. The articles resize in several ways,
some by taking single pixels out of many. Here it is always Pillow's in mode ``F``: float32 in and out, with a filter
whose support grows with the reduction, so that every pixel counts at any scale, nothing is rounded to 8 bits on the
way, and the result is the same on every machine.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from models.errors import ImageError, RecipeError

FloatArray = NDArray[np.float32]
Field = tuple[slice, slice]
"""Rows and columns of an image."""


class Shown(Protocol):
    """An image of which one asks for fields: an array, or one that is made while it is asked for."""

    @property
    def shape(self) -> tuple[Any, ...]:
        """Rows and columns."""
        ...

    def __getitem__(self, field: Field, /) -> FloatArray:
        """Return a field as float32 (rows, columns); valid until the next is asked for."""
        ...


Recipe = Callable[[Shown, int, int], FloatArray]

BAND_PIXELS = 1 << 18
"""Pixels of an image that are resized at a time: they stay in the cache."""

MAX_PICTURE_PIXELS = 1 << 26
"""Largest PNG or JPEG read, pixels (64 Mi, an 8192 by 8192 film): a bomb is refused before it is decoded."""

IMAGENET_BGR = np.asarray([103.939, 116.779, 123.68], dtype=np.float32)
"""Mean blue, green and red of the ImageNet training pictures, 0 to 255 (K. Simonyan, A. Zisserman, arXiv:1409.1556)."""

COLOURFUL_LEVELS = 24
"""By so much (of 255) the channels of a pixel differ that shows colour; a grey film saved in colour stays below."""

COLOURFUL_SHARE = 0.05
"""A picture is in colour from this share of such pixels on: a side marker or a line of red text makes no photo."""

LEAST_KEPT = 0.7
"""A recipe that trims keeps at least this share of the longer side."""


def chest_xray_triage(image: Shown, rows: int, columns: int) -> FloatArray:
    """Crop towards a square, resize, standardise: mean 0 and standard deviation 1 over the image.

    The longer side is trimmed at both ends towards the target's aspect ratio, by at most 30 %, and what is left of the
    difference is stretched. Padding would keep the whole film, and scored higher in a probe (validation cross-entropy
    .371 against .389 for a square crop, .436 for one of at most 15 %, .456 for stretching), but it draws the film's
    shape into the image, and the shape of a film tells its hospital: a shortcut, not a sign. Standardising takes away
    scale and offset of the grey values, so that the window a station displays with moves the result little.

    Parameters
    ----------
    image
        float32 (rows, columns), 0 to 255.
    rows, columns
        Size of the network's input.

    Returns
    -------
    FloatArray
        float32 (rows, columns); all zero where the image is of one grey.
    """
    return standardised(resized(image, rows, columns, trim(image, rows, columns)))


def trim(image: Shown, rows: int, columns: int) -> Field:
    """Trim the longer side at both ends towards `rows` over `columns`, keeping `LEAST_KEPT` of it at least."""
    height, width = image.shape
    aspect = rows / columns
    if height > width * aspect:
        keep = max(round(width * aspect), round(height * LEAST_KEPT), 1)
        start = (height - keep) // 2
        return slice(start, start + keep), slice(0, width)
    keep = max(round(height / aspect), round(width * LEAST_KEPT), 1)
    start = (width - keep) // 2
    return slice(0, height), slice(start, start + keep)


def chest_ct_covid(image: Shown, rows: int, columns: int) -> FloatArray:
    """Resize a slice, whole, and standardise it: mean 0 and standard deviation 1.

    Nothing is trimmed: slices in print are cut to the body, wider than high, and the lungs reach to both sides of them.
    Standardising takes away scale and offset of the grey values, so that the window matters less.

    Parameters and result are those of `chest_xray_triage`.
    """
    return standardised(resized(image, rows, columns))


def unit_range(image: Shown, rows: int, columns: int) -> FloatArray:
    """Resize, whole, and divide by 255: values from 0 to 1, as in most of the articles."""
    return resized(image, rows, columns) / np.float32(255)


def unit_columns(image: Shown, rows: int, columns: int) -> FloatArray:
    """Resize, whole, and divide every column of pixels by its L2 norm; a black column stays black.

    What ``normalize(pictures, axis = 1)`` of R's Keras does to (pictures, rows, columns, 1), its axes counted from 0
    as in Python (O. Gimenez, see `models.architectures.covid_ct_mlp`). The norm is summed in float64, so that the order
    of summation does not show in the float32 result.
    """
    small = resized(image, rows, columns)
    norm = np.sqrt(np.square(small, dtype=np.float64).sum(axis=0))
    return np.asarray(small / np.where(norm > 0, norm, 1.0), dtype=np.float32)


def vgg16_imagenet(image: Shown, rows: int, columns: int) -> FloatArray:
    """Resize, whole, and take the means of ImageNet's blue, green and red away from three copies of the grey.

    What ``keras.applications.vgg16.preprocess_input`` does to a grey picture: the published weights come from Caffe and
    see blue first, values not scaled.

    Returns
    -------
    FloatArray
        float32 (rows, columns, 3).
    """
    return resized(image, rows, columns)[:, :, np.newaxis] - IMAGENET_BGR


RECIPES: dict[str, Recipe] = {
    "chest_xray_triage": chest_xray_triage,
    "chest_ct_covid": chest_ct_covid,
    "unit_range": unit_range,
    "unit_columns": unit_columns,
    "vgg16_imagenet": vgg16_imagenet,
}
"""Preprocessing recipes by the name that a card gives."""

VERSIONS: dict[str, int] = dict.fromkeys(RECIPES, 1)
"""Version of each recipe, recorded with every prediction; raised when the recipe gives other values than before."""

FIELDS: dict[str, Callable[[Shown, int, int], Field]] = {"chest_xray_triage": trim}
"""What of an image a recipe looks at, where that is not all of it: (image, rows, columns) -> its rows, its columns."""


def field_of_view(recipe: str, image: FloatArray, rows: int, columns: int) -> Field:
    """Say which part of an image becomes the network's input, so that a map of the input can be laid over the image.

    Parameters
    ----------
    recipe
        Name in `RECIPES`.
    image
        float32 (rows, columns), as given to `prepare`.
    rows, columns
        Size of the network's input; the part is stretched over all of it.

    Returns
    -------
    tuple of slice
        Rows and columns of the image.
    """
    if recipe in FIELDS:
        return FIELDS[recipe](image, rows, columns)
    return slice(0, image.shape[0]), slice(0, image.shape[1])


def prepare(recipe: str, image: FloatArray, rows: int, columns: int, channels: int) -> FloatArray:
    """Make the network's input of an image.

    Parameters
    ----------
    recipe
        Name in `RECIPES`.
    image
        float32 (rows, columns) as displayed, 0 black to 255 white.
    rows, columns, channels
        Shape of the network's input; a network of three channels gets the grey image three times, unless the recipe
        makes the three itself.

    Returns
    -------
    FloatArray
        float32 (rows, columns, channels), C-contiguous.

    Raises
    ------
    RecipeError
        If there is no such recipe, or it makes another number of channels.
    ImageError
        If the image is not two-dimensional, is empty, or holds values that are not finite.
    """
    if recipe in RECIPES:
        image = np.asarray(image, dtype=np.float32)
        if image.ndim != 2 or image.size == 0:
            raise ImageError(f"an image of shape {image.shape} is not (rows, columns) with pixels in it")
        if not np.isfinite(image).all():
            raise ImageError("the image holds values that are not finite (NaN or infinity)")
    return prepare_shown(recipe, image, rows, columns, channels)


def prepare_shown(recipe: str, image: Shown, rows: int, columns: int, channels: int) -> FloatArray:
    """Make the network's input of an image that need not be an array; bit for bit as `prepare`.

    Parameters
    ----------
    recipe, rows, columns, channels
        As in `prepare`.
    image
        Of one pixel at least, all its values finite; that is not checked again.

    Returns
    -------
    FloatArray
        float32 (rows, columns, channels), C-contiguous.

    Raises
    ------
    RecipeError
        If there is no such recipe, or it makes another number of channels.
    """
    chosen = RECIPES.get(recipe)
    if chosen is None:
        raise RecipeError(f"there is no preprocessing recipe {recipe!r}; there are: {', '.join(sorted(RECIPES))}")
    prepared = chosen(image, rows, columns)
    if prepared.ndim == 2:
        prepared = np.repeat(prepared[:, :, np.newaxis], channels, axis=2)
    if prepared.shape[2] != channels:
        raise RecipeError(
            f"the preprocessing recipe {recipe!r} makes {prepared.shape[2]} channels; the network takes {channels}"
        )
    return np.ascontiguousarray(prepared, dtype=np.float32)


def resized(image: Shown, rows: int, columns: int, field: Field | None = None) -> FloatArray:
    """Resize with Pillow's antialiased bilinear filter in mode ``F`` (float32).

    Pillow resizes every row on its own, then every column of what that gave. So an image is resized in bands of rows,
    to the same bits, and none of its size is ever copied. An image that shrinks in height more than twice as much as in
    width goes to Pillow in one piece: it may begin with the columns there.

    Parameters
    ----------
    image
        float32 (rows, columns).
    rows, columns
        Its size afterwards.
    field
        What of it is resized; None: all of it.
    """
    height, width = image.shape
    down, across = field or (slice(0, height), slice(0, width))
    height, width = down.stop - down.start, across.stop - across.start
    columns_may_come_first = height - rows > max(0, 2 * (width - columns))
    depth = height if columns_may_come_first else min(height, max(1, BAND_PIXELS // width))
    if depth == height:
        whole = Image.fromarray(np.ascontiguousarray(image[down, across], dtype=np.float32))
        return np.asarray(whole.resize((columns, rows), Image.Resampling.BILINEAR), dtype=np.float32)
    narrow, band = Image.new("F", (columns, height)), Image.new("F", (width, depth))
    for start in range(0, height, depth):
        if start + depth > height:
            band = Image.new("F", (width, height - start))
        values = image[down.start + start : down.start + start + band.height, across]
        band.frombytes(np.ascontiguousarray(values, dtype=np.float32).data.cast("B"), "raw", "F;32NF")
        narrow.paste(band.resize((columns, band.height), Image.Resampling.BILINEAR), (0, start))
    return np.asarray(narrow.resize((columns, rows), Image.Resampling.BILINEAR), dtype=np.float32)


def standardised(image: FloatArray) -> FloatArray:
    """Shift and scale to mean 0 and standard deviation 1; an image of one grey becomes zeros.

    Mean and deviation are summed in float64, so that the order of summation does not show in the float32 result.
    """
    mean = image.mean(dtype=np.float64)
    deviation = image.std(dtype=np.float64)
    if deviation < 1e-3:
        return np.zeros_like(image)
    return np.asarray((image - mean) / deviation, dtype=np.float32)


def is_picture(path: Path) -> bool:
    """Say whether a file begins as a PNG or a JPEG does, whatever its name; False where it cannot be read."""
    try:
        with path.open("rb") as stream:
            return stream.read(8).startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"))
    except OSError:
        return False


def is_coloured(path: Path) -> bool:
    """Say whether a picture shows colour, and is not just a grey film saved with three channels.

    Parameters
    ----------
    path
        A picture that `load_picture` reads.
    """
    with Image.open(path, formats=("PNG", "JPEG")) as picture:
        if picture.mode in {"1", "L", "LA"} or picture.mode.startswith("I"):
            return False
        shown = _over_black(picture).convert("RGB")
    shown.thumbnail((256, 256))  # what a JPEG adds to single pixels is averaged out
    pixels = np.asarray(shown)
    spread = pixels.max(axis=2) - pixels.min(axis=2)
    return bool((spread > COLOURFUL_LEVELS).mean() >= COLOURFUL_SHARE)


def load_picture(path: Path) -> FloatArray:
    """Read a PNG or JPEG picture as an image.

    Colour is turned to grey (ITU-R 601-2 luma), 16-bit grey is brought linearly from its own smallest and largest value
    to 0 and 255, transparency is laid over black, and the orientation that a camera noted is applied.

    Parameters
    ----------
    path
        A PNG or JPEG file.

    Returns
    -------
    FloatArray
        float32 (rows, columns), 0 black to 255 white.

    Raises
    ------
    ImageError
        If the file is missing, is no PNG or JPEG, is damaged, or has more than `MAX_PICTURE_PIXELS` pixels.
    """
    try:
        with Image.open(path, formats=("PNG", "JPEG")) as picture:
            if picture.width * picture.height > MAX_PICTURE_PIXELS:
                raise ImageError(f"{picture.width} x {picture.height} pixels are more than {MAX_PICTURE_PIXELS}")
            return _grey(picture)
    except FileNotFoundError:
        raise ImageError("there is no such file") from None
    except UnidentifiedImageError:
        raise ImageError("this is neither a PNG nor a JPEG picture") from None
    except Image.DecompressionBombError as error:
        raise ImageError(f"the picture declares too many pixels: {error}") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:  # what Pillow's decoders raise on damaged files
        raise ImageError(f"the picture cannot be decoded: {error}") from None


def _grey(picture: Image.Image) -> FloatArray:
    exif = picture.getexif().get(0x0112, 1)  # EXIF 2.3, Orientation
    if picture.mode in {"I", "I;16", "I;16B", "I;16L", "I;16N"}:
        wide = np.asarray(picture, dtype=np.float64)
        low, high = float(wide.min()), float(wide.max())
        image = ((wide - low) * (255.0 / max(high - low, 1.0))).astype(np.float32)
    else:
        image = np.asarray(_over_black(picture).convert("L"), dtype=np.float32)
    turned = {2: image[:, ::-1], 3: image[::-1, ::-1], 4: image[::-1], 5: image.T, 6: image[::-1].T,
              7: image[::-1, ::-1].T, 8: image.T[::-1]}.get(exif, image)  # fmt: skip
    return np.ascontiguousarray(turned)


def _over_black(picture: Image.Image) -> Image.Image:
    if not picture.has_transparency_data:
        return picture
    opaque = Image.new("RGBA", picture.size, (0, 0, 0, 255))
    opaque.alpha_composite(picture.convert("RGBA"))
    return opaque
