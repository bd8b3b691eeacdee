"""The picture shows the film, the colour where the map is, and what the colour is not."""

import numpy as np
import pytest

from models.golden import golden_image
from models.overlay import COLOURS, GROUND, Legend, coloured, overlay
from models.preprocessing import FloatArray

WHOLE = (slice(0, 160), slice(0, 136))


def film() -> FloatArray:
    return golden_image().astype(np.float32)


def legend(field: tuple[slice, slice] = WHOLE) -> Legend:
    return Legend("covid: probability 0.990, flagged", "Grad-CAM at layer conv10 of tiny@1.0.0.", field)


def test_colour_lies_where_the_map_is_and_nowhere_else() -> None:
    heat = np.zeros((160, 136), np.float32)
    heat[:40, :34] = 1
    shown = np.asarray(overlay(film(), heat, legend())).astype(int)
    left = (shown.shape[1] - 435) // 2  # 136 x 160 is enlarged to 435 x 512
    picture = shown[:512, left : left + 435]
    grey = np.ptp(picture, axis=2) == 0
    assert not grey[:120, :100].any()
    assert grey[140:, :].all()
    assert grey[:, 130:].all()
    assert (shown[:512, : left - 1] == GROUND).all()


@pytest.mark.parametrize(
    ("shape", "size"), [((3000, 2500), (853, 1024)), ((100, 100), (512, 512)), ((600, 700), (700, 600))]
)
def test_the_film_comes_in_a_size_to_look_at(shape: tuple[int, int], size: tuple[int, int]) -> None:
    image = np.full(shape, 99, np.float32)
    picture = overlay(image, np.zeros(shape, np.float32), legend((slice(0, shape[0]), slice(0, shape[1]))))
    width, height = size
    shown = np.asarray(picture)[:height]
    assert picture.width == max(width, 512)
    assert (shown[:, (picture.width - width) // 2 :][:, :width] == 99).all()
    assert not (np.asarray(picture)[height:] == 99).all()


def test_a_field_of_view_is_framed_where_it_is_a_part() -> None:
    nothing = np.zeros((160, 136), np.float32)
    plain = np.asarray(overlay(film(), nothing, legend()))
    framed = np.asarray(overlay(film(), nothing, legend((slice(20, 140), slice(0, 136)))))
    changed = np.flatnonzero((plain[:512] != framed[:512]).any(axis=(1, 2)))
    assert (changed.min(), changed.max()) == (64, 447)


def test_the_legend_is_readable_and_grows_with_its_text() -> None:
    nothing = np.zeros((160, 136), np.float32)
    short = overlay(film(), nothing + np.float32(0.5), legend())
    long = overlay(film(), nothing, Legend("covid " * 40, "method", WHOLE))
    assert long.height > short.height > 512 + 100
    page = np.asarray(short)[512:].astype(int)
    assert (page.max(axis=2) > 200).sum() > 300  # letters
    assert (page[:, :8] == GROUND).all()
    assert (page[:, -8:] == GROUND).all()


def test_more_is_brighter() -> None:
    luma = coloured(np.linspace(0, 1, 50)) @ np.asarray([0.299, 0.587, 0.114])
    assert (np.diff(luma) > 0).all()
    assert coloured(np.asarray([0.0, 1.0])).tolist() == [list(COLOURS[0]), list(COLOURS[-1])]
