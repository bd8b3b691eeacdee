"""A map over its film as a picture, with a legend that says what it is and what it is not."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from models.errors import ModelError
from models.preprocessing import Field, FloatArray

CAVEAT = (
    "Colour shows what moved the network's answer, not where a disease is: it does not outline or measure anything,"
    " and what is not coloured is not healthy. The scale is this map's own, however improbable the label: maps do not"
    " compare. Not for diagnosis."
)
NOTHING = "Nothing in this film stands out for this label."

COLOURS = np.asarray([(54, 11, 110), (134, 20, 120), (203, 44, 82), (242, 101, 34), (252, 176, 28), (255, 250, 150)])
"""From little to much, in equal steps: darker to brighter throughout, so that it reads the same without colour."""

STRONGEST = 0.6
"""How much of the film the colour hides where the map is 1."""

SIDES = (512, 1024)
"""The film's longest side in the picture, pixels: a smaller one is enlarged, a larger one reduced."""

MARGIN, BAR, TEXT = 14, 12, 15
GROUND, INK, FAINT = (24, 24, 27), (236, 236, 238), (150, 150, 158)


@dataclass(frozen=True)
class Legend:
    """What is written under the film: a line of what was found, a line of how, the field of view of the network."""

    title: str
    method: str
    field: Field


def overlay(image: FloatArray, heat: FloatArray, legend: Legend) -> Image.Image:
    """Lay a map over a film.

    Parameters
    ----------
    image
        float32 (rows, columns), 0 black to 255 white.
    heat
        float32 (rows, columns), 0 to 1, from `models.explain.on_image`.
    legend
        What the map is.

    Returns
    -------
    PIL.Image.Image
        RGB; the film, framed where the network looked at a part of it only, above the legend.
    """
    rows, columns = image.shape
    scale = min(max(SIDES[0] / max(rows, columns), 1.0), SIDES[1] / max(rows, columns))
    size = max(1, round(columns * scale)), max(1, round(rows * scale))
    grey = np.asarray(_scaled(image, size))
    warm = np.clip(np.asarray(_scaled(heat, size)), 0, 1)[:, :, np.newaxis]
    mixed = grey[:, :, np.newaxis] * (1 - STRONGEST * warm) + coloured(warm[:, :, 0]) * (STRONGEST * warm)
    film = Image.fromarray(np.clip(np.rint(mixed), 0, 255).astype(np.uint8))
    if heat[legend.field].shape != image.shape:
        _frame(film, legend.field, scale)
    return _with_legend(film, legend, found=bool(heat.any()))


def coloured(heat: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the colour of each value, float64 (..., 3), 0 to 255, between those of `COLOURS`."""
    steps = np.linspace(0, 1, len(COLOURS))
    return np.stack([np.interp(heat, steps, COLOURS[:, channel]) for channel in range(3)], axis=-1)


def _scaled(image: FloatArray, size: tuple[int, int]) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(image, np.float32)).resize(size, Image.Resampling.BILINEAR)


def _frame(film: Image.Image, field: Field, scale: float) -> None:
    """Draw a line around what the network looked at."""
    rows, columns = field
    box = [columns.start, rows.start, columns.stop, rows.stop]
    left, top, right, bottom = (round(side * scale) for side in box)
    ImageDraw.Draw(film).rectangle((left, top, right - 1, bottom - 1), outline=FAINT)


def _with_legend(film: Image.Image, legend: Legend, *, found: bool) -> Image.Image:
    width = max(film.width, SIDES[0])
    large, small = _font(TEXT + 3), _font(TEXT)
    lines = [(line, large, INK) for line in _wrapped(legend.title, large, width - 2 * MARGIN)]
    said = [legend.method, CAVEAT if found else f"{NOTHING} {CAVEAT}"]
    lines += [(line, small, FAINT) for text in said for line in _wrapped(text, small, width - 2 * MARGIN)]
    height = 2 * MARGIN + BAR + TEXT + MARGIN + sum(round(font.size * 1.4) for _, font, _ in lines)
    page = Image.new("RGB", (width, film.height + height), GROUND)
    page.paste(film, ((width - film.width) // 2, 0))
    draw = ImageDraw.Draw(page)
    top = film.height + MARGIN
    _bar(page, draw, top, small)
    top += BAR + TEXT + MARGIN
    for line, font, colour in lines:
        draw.text((MARGIN, top), line, colour, font)
        top += round(font.size * 1.4)
    return page


def _bar(page: Image.Image, draw: ImageDraw.ImageDraw, top: int, font: ImageFont.FreeTypeFont) -> None:
    """Draw the scale of colours, as strong as they lie over the film, with its ends named."""
    length = page.width - 2 * MARGIN
    warm = np.linspace(0, 1, length)[np.newaxis, :, np.newaxis].repeat(BAR, axis=0)
    mixed = 128 * (1 - STRONGEST * warm) + coloured(warm[:, :, 0]) * (STRONGEST * warm)
    page.paste(Image.fromarray(np.rint(mixed).astype(np.uint8)), (MARGIN, top))
    draw.text((MARGIN, top + BAR + 2), "0: does not speak for it", FAINT, font)
    draw.text((page.width - MARGIN, top + BAR + 2), "1: speaks most for it", FAINT, font, anchor="ra")


def _font(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own font, so that the picture is the same on every machine."""
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):  # Pillow built without FreeType, which no wheel is
        raise ModelError("Pillow was built without FreeType, so nothing can be written into a picture")
    return font


def _wrapped(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
