"""A frontal chest film, drawn: what a beam loses on its way through a schematic chest.

Nothing here is a person or measured on one. Proportions were chosen by eye; the patient's right is on the left.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from worker.demo.canvas import Canvas, Image, Line, as_image, step, through


class Pattern(StrEnum):
    """What the lungs show."""

    CLEAR = "clear"
    LOBAR_OPACITY = "lobar opacity"
    GROUND_GLASS = "bilateral ground-glass opacities"
    UPPER_LOBE = "upper-lobe cavity and nodules"
    NODULE = "one round nodule"


@dataclass(frozen=True)
class Lungs:
    """Where the lungs are.

    Attributes
    ----------
    thickness
        Thickness of lung along the beam, 0 to 1, float32 (n, n).
    periphery
        0 at the hila, about 1 at the chest wall, float32 (n, n).
    """

    thickness: Image
    periphery: Image


def frontal(n: int, seed: int, pattern: Pattern, *, portable: bool = False) -> Image:
    """Draw a frontal chest film.

    Parameters
    ----------
    n
        Rows and columns.
    seed
        The same seed draws the same film.
    pattern
        What the lungs show.
    portable
        As taken at the bedside: a larger heart, higher diaphragms, more scatter and noise, a little turned.

    Returns
    -------
    Image
        Brightness as displayed, 0 (black: air) to 1 (white: bone), float32 (n, n).
    """
    canvas = Canvas(n, np.random.default_rng(seed), unlike=0.025)
    lungs = _lungs(canvas, portable=portable)
    body = _body(canvas)
    lost = body - 1.05 * lungs.thickness + _mediastinum(canvas, portable=portable)
    lost += _abdomen(canvas, portable=portable) + _bones(canvas)
    lost += lungs.thickness * (_vessels(canvas) + 0.028 * canvas.clouds(0.8, finest=0.003))
    lost += _disease(canvas, lungs, pattern)
    lost *= body > 0
    return expose(canvas, lost, body, noise=0.02 if portable else 0.011, scatter=0.4 if portable else 0.22)


def expose(canvas: Canvas, lost: Image, body: Image, *, noise: float, scatter: float) -> Image:
    """Turn what the beam lost into a displayed film: scatter veils, few photons make noise, a curve makes contrast."""
    smooth = canvas.blur(lost, 0.0022)
    seen = (1 - scatter) * smooth + scatter * canvas.blur(smooth, 0.35)
    grain = 0.75 * canvas.rng.standard_normal(seen.shape) + 0.5 * canvas.clouds(0.4, finest=0.002)
    seen = seen + noise * np.exp(0.55 * seen) * grain
    tilt = 0.05 * canvas.rng.uniform(-1, 1) * canvas.x + 0.05 * canvas.y
    shown = 1 / (1 + np.exp(-(seen + tilt - 1.12) / 0.4))
    return as_image(np.clip(0.02 + 0.93 * shown * step(0.12, canvas.blur(body, 0.003), 0.24), 0, 1))


def _body(canvas: Canvas) -> Image:
    outline = ((-1.0, 0.25), (-0.88, 0.27), (-0.78, 0.46), (-0.69, 0.86), (-0.58, 1.04), (-0.4, 1.06), (-0.2, 0.97),
               (0.1, 0.9), (0.45, 0.87), (0.75, 0.89), (1.0, 0.92))  # fmt: skip
    depth = ((-1.0, 0.95), (-0.75, 1.05), (-0.5, 1.3), (0.0, 1.45), (0.45, 1.5), (1.0, 1.6))
    width = through(outline, canvas.y)
    inside = np.clip(1 - np.abs(canvas.x / width) ** 2.6, 0, None)
    wall = 0.16 * np.exp(-(((np.abs(canvas.x) - 0.82 * width) / 0.07) ** 2)) * (inside > 0)  # muscle seen edge-on
    return as_image(through(depth, canvas.y) * np.sqrt(inside) + wall)


def _diaphragm(canvas: Canvas, *, portable: bool) -> Image:
    """Return the height (y) of the diaphragm over x: two domes, the right one higher."""
    lift = -0.09 if portable else 0.0
    right = 0.40 + 1.35 * np.abs(canvas.x + 0.36) ** 2.2
    left = 0.45 + 1.35 * np.abs(canvas.x - 0.42) ** 2.2
    return as_image(np.where(canvas.x < 0.03, right, left) + lift)


def _lungs(canvas: Canvas, *, portable: bool) -> Lungs:
    y = canvas.y
    lateral = through(((-0.78, 0.33), (-0.74, 0.43), (-0.62, 0.55), (-0.4, 0.66), (-0.1, 0.735), (0.2, 0.765),
                       (0.5, 0.775), (0.8, 0.77)), y)  # fmt: skip
    heart = 1.18 if portable else 1.0
    medial_right = through(((-0.8, 0.2), (-0.7, 0.13), (-0.5, 0.1), (-0.3, 0.115), (-0.05, 0.13), (0.15, 0.175),
                            (0.32, 0.165), (0.5, 0.13)), y)  # fmt: skip
    medial_left = through(((-0.8, 0.2), (-0.7, 0.14), (-0.5, 0.11), (-0.36, 0.165), (-0.25, 0.125), (-0.1, 0.16),
                           (0.1, 0.29), (0.3, 0.405), (0.45, 0.43), (0.6, 0.38)), y)  # fmt: skip
    medial = np.where(canvas.x < 0, medial_right, medial_left) * heart
    across = (np.abs(canvas.x) - (lateral + medial) / 2) / ((lateral - medial) / 2)
    round_ = np.sqrt(np.clip(1 - np.abs(np.clip(across, -1, 1)) ** 3.2, 0, None))
    floor = _diaphragm(canvas, portable=portable)
    apex = np.sqrt(np.clip((y + 0.775) / 0.3, 0, 1))
    down = 1 - step(floor, y, 0.014)
    thickness = round_ * apex * down * (0.86 + 0.14 * (1 - step(floor - 0.12, y, 0.3)))
    distance = np.hypot((np.abs(canvas.x) - 0.14) / 0.62, (y + 0.02) / 0.72)
    return Lungs(thickness.astype(np.float32), np.clip(distance, 0, 1.2).astype(np.float32))


def _mediastinum(canvas: Canvas, *, portable: bool) -> Image:
    y, x, size = canvas.y, canvas.x, 1.16 if portable else 1.0
    column = 0.2 * np.exp(-((x / 0.12) ** 4)) * step(-0.85, y, 0.4)
    heart = 0.34 * canvas.ellipsoid(0.13, 0.24, 0.33 * size, 0.25 * size, 33) ** 1.5
    heart += 0.16 * canvas.ellipsoid(-0.04, 0.2, 0.17 * size, 0.24 * size, 4) ** 1.5
    aorta = 0.24 * canvas.ellipsoid(0.105, -0.35, 0.075, 0.08)
    aorta += 0.1 * np.exp(-(((x - 0.085) / 0.035) ** 2)) * step(-0.3, y, 0.1) * (1 - step(0.4, y, 0.3))
    carina = -0.22
    windpipe = canvas.tubes([
        line([(0.005, -1.0), (0.0, -0.7), (-0.012, -0.4), (-0.01, carina)], 0.036, 1.0),
        line([(-0.012, carina - 0.02), (-0.07, carina + 0.08), (-0.14, carina + 0.17)], 0.026, 1.0),
        line([(-0.008, carina - 0.02), (0.07, carina + 0.1), (0.16, carina + 0.17)], 0.023, 1.0),
    ])  # fmt: skip
    hila = 0.15 * canvas.ellipsoid(-0.17, -0.06, 0.05, 0.11, -8) + 0.14 * canvas.ellipsoid(0.19, -0.1, 0.05, 0.1, 10)
    return as_image(column + heart + aorta + hila - 3.6 * windpipe)


def _abdomen(canvas: Canvas, *, portable: bool) -> Image:
    below = step(_diaphragm(canvas, portable=portable), canvas.y, 0.02)
    bubble = canvas.ellipsoid(0.36, 0.6, 0.13, 0.075, -12)
    bowel = sum(
        canvas.ellipsoid(x, y, r, 0.7 * r)
        for x, y, r in zip(canvas.rng.uniform(0.1, 0.6, 4), canvas.rng.uniform(0.72, 0.95, 4), (0.05, 0.06, 0.04, 0.07),
                           strict=True)
    )  # fmt: skip
    return as_image(below * (0.13 - 0.42 * bubble - 0.13 * bowel))


def line(points: list[tuple[float, float]], radius: float, weight: float) -> Line:
    """Return a smooth line through points, with one radius and weight."""
    position = np.linspace(0, 1, len(points))
    at = np.linspace(0, 1, 60)
    x = through([(p, point[0]) for p, point in zip(position, points, strict=True)], at)
    y = through([(p, point[1]) for p, point in zip(position, points, strict=True)], at)
    return np.stack([x, y, np.full_like(at, radius), np.full_like(at, weight)], axis=1)


def _mirrored(half: Line) -> list[Line]:
    return [half, half * np.array([-1.0, 1, 1, 1])]


def _rib(number: int, rng: np.random.Generator) -> Line:
    """Return one right rib: half a tilted loop, seen from the front; it carries more where it runs along the beam."""
    width = (0.33, 0.47, 0.58, 0.66, 0.715, 0.755, 0.78, 0.79, 0.79, 0.77, 0.72)[number]
    start = -0.735 + 0.122 * number + rng.normal(0, 0.004)
    drop = (0.17, 0.3, 0.4, 0.46, 0.5, 0.52, 0.53, 0.52, 0.48, 0.4, 0.3)[number]
    last = (140, 146, 143, 138, 135, 132, 128, 122, 112, 95, 80)[number]
    theta = np.radians(np.linspace(4, last, 160))
    x = 0.05 * np.cos(theta / 2) + (width - 0.02) * np.sin(theta)
    y = start + drop * (1 - np.cos(theta)) / 2 - 0.045 * np.sin(theta) ** 2 * (number < 7)
    along_beam = np.sqrt(1 + 0.8 * np.cos(theta - np.pi / 2) ** 8)
    front = 1 - 0.35 * step(np.radians(95), theta, 0.5)  # the front ends are flatter and further from the detector
    fade = 1 - step(np.radians(last - 4), theta, 0.22)
    radius = (0.021 + 0.002 * (number > 2)) * (1 + 0.18 * step(np.radians(85), theta, 0.6))
    return np.stack([x, y, radius * np.ones_like(x), along_beam * front * fade * (0.45 if number > 8 else 1)], axis=1)


def _bones(canvas: Canvas) -> Image:
    x, y, rng = canvas.x, canvas.y, canvas.rng
    ribs = canvas.tubes([rib for number in range(11) for rib in _mirrored(_rib(number, rng))], hollow=0.78)
    collar = line([(0.065, -0.545), (0.2, -0.6), (0.4, -0.655), (0.6, -0.715), (0.8, -0.75)], 0.027, 1.0)
    collar[:, 2] *= 1 + 0.35 * np.abs(np.linspace(-1, 1, len(collar))) ** 2
    shoulder = [
        line([(0.83, -0.6), (0.78, -0.4), (0.72, -0.2), (0.66, -0.03), (0.63, 0.02)], 0.016, 1.0),
        line([(0.63, 0.02), (0.6, -0.15), (0.62, -0.4), (0.68, -0.6), (0.78, -0.69)], 0.009, 0.7),
        line([(0.62, -0.62), (0.75, -0.67), (0.88, -0.74)], 0.024, 0.7),
        line([(0.99, -0.5), (1.03, -0.2), (1.05, 0.1)], 0.05, 1.0),
    ]
    others = canvas.tubes([part for bone in (collar, *shoulder) for part in _mirrored(bone)], hollow=0.8)
    head = 0.28 * (canvas.ellipsoid(0.93, -0.58, 0.09, 0.1) + canvas.ellipsoid(-0.93, -0.58, 0.09, 0.1))
    period = 0.122
    phase = ((y + 0.735 + period / 4) % period) / period
    body = np.exp(-((x / 0.082) ** 6)) * (0.75 + 0.25 * step(0.12, phase, 0.12) * (1 - step(0.88, phase, 0.12)))
    rim = 0.25 * np.exp(-(((np.abs(x) - 0.08) / 0.008) ** 2)) + 0.3 * (
        np.exp(-(((phase - 0.1) / 0.04) ** 2)) + np.exp(-(((phase - 0.9) / 0.04) ** 2))
    ) * np.exp(-((x / 0.08) ** 6))
    pedicle = 0.45 * np.exp(-(((np.abs(x) - 0.052) / 0.015) ** 2) - (((phase - 0.4) / 0.15) ** 2))
    process = 0.5 * np.exp(-((x / 0.011) ** 2) - (((phase - 0.75) / 0.2) ** 2))
    spine = 0.36 * body + 0.3 * (rim + pedicle + process)
    return as_image(6.6 * ribs + 8.0 * others + head + spine * step(-1.2, y, 0.3))


def _vessels(canvas: Canvas) -> Image:
    """Return the branching vessels of both lungs, thick at the hila, thin at the edge."""
    rng = canvas.rng
    lines: list[Line] = []

    def grow(x: float, y: float, angle: float, radius: float, depth: int) -> None:
        length = rng.uniform(0.085, 0.15) * (0.9**depth)
        bend = rng.normal(0, 0.35)
        t = np.linspace(0, 1, 8)
        a = angle + bend * t
        xs, ys = x + np.cumsum(np.cos(a)) * length / 8, y + np.cumsum(np.sin(a)) * length / 8
        lines.append(np.stack([xs, ys, radius * (1 - 0.22 * t), np.ones(8)], axis=1))
        if depth == 7 or radius < 0.0024 or abs(xs[-1]) > 0.76 or abs(xs[-1]) < 0.1:
            return
        turn = rng.choice((-1, 1))
        grow(xs[-1], ys[-1], a[-1] + turn * rng.uniform(0.05, 0.35), radius * 0.8, depth + 1)
        if rng.random() < 0.95:
            grow(xs[-1], ys[-1], a[-1] - turn * rng.uniform(0.4, 0.9), radius * rng.uniform(0.5, 0.75), depth + 1)

    for side in (-1, 1):
        for angle in np.array((-1.4, -1.0, -0.45, 0.15, 0.6, 1.05, 1.4)) + rng.normal(0, 0.1, 7):
            direction = angle if side > 0 else np.pi - angle
            grow(side * 0.16, -0.04 + 0.1 * angle, direction, rng.uniform(0.011, 0.017), 0)
    return 9.0 * canvas.tubes(lines)


def _disease(canvas: Canvas, lungs: Lungs, pattern: Pattern) -> Image:
    match pattern:
        case Pattern.CLEAR:
            return canvas.blank()
        case Pattern.LOBAR_OPACITY:
            return _lobar_opacity(canvas, lungs)
        case Pattern.GROUND_GLASS:
            return _ground_glass(canvas, lungs)
        case Pattern.UPPER_LOBE:
            return _upper_lobe(canvas, lungs)
        case Pattern.NODULE:
            return _nodule(canvas, lungs)


def _lobar_opacity(canvas: Canvas, lungs: Lungs) -> Image:
    """Fill the right lower zone, sharp above where the fissure is, with air-filled bronchi showing dark in it."""
    wobble = canvas.clouds(1.7, finest=0.02)
    fissure = -0.03 + 0.14 * np.abs(canvas.x + 0.2)
    extent = np.hypot((canvas.x + 0.43) / 0.36, (canvas.y - 0.24) / 0.33) + 0.11 * wobble
    filled = (1 - step(0.95, extent, 0.5)) * step(fissure, canvas.y + 0.01 * wobble, 0.05) * (canvas.x < 0)
    bronchi = canvas.tubes([
        line([(-0.2, 0.0), (-0.3, 0.12), (-0.38, 0.27)], 0.011, 1.0),
        line([(-0.27, 0.08), (-0.4, 0.13), (-0.53, 0.2)], 0.008, 1.0),
        line([(-0.33, 0.17), (-0.44, 0.26), (-0.5, 0.36)], 0.007, 1.0),
    ])  # fmt: skip
    texture = 0.86 + 0.1 * canvas.clouds(1.4, finest=0.01)
    return as_image(lungs.thickness * filled * np.clip(texture - 7 * bronchi, 0, None))


def _ground_glass(canvas: Canvas, lungs: Lungs) -> Image:
    """Veil both lungs in patches, more at the edge and below; the vessels stay visible through it."""
    patches = step(0.15, canvas.clouds(1.8, finest=0.05), 2.4)
    where = step(0.35, lungs.periphery, 0.8) * (0.45 + 0.55 * step(-0.2, canvas.y, 0.9))
    fine = 1 + 0.09 * canvas.clouds(0.9, finest=0.008)
    return as_image(lungs.thickness * np.clip(0.95 * where * (0.3 + patches) * fine, 0, 0.85))


def _upper_lobe(canvas: Canvas, lungs: Lungs) -> Image:
    """Put a thick-walled cavity into the right upper lobe, with patches, nodules and strands about it."""
    rng = canvas.rng
    warp = 0.016 * canvas.clouds(1.9, finest=0.06)
    radius = np.hypot((canvas.x + 0.37) / 1.1, canvas.y + 0.42) + warp
    ring = np.exp(-(((radius - 0.085) / 0.021) ** 2)) - 0.75 * (1 - step(0.074, radius, 0.03))
    patch = np.exp(-((radius / 0.24) ** 2)) * step(-0.1, canvas.clouds(1.5, finest=0.03), 2.0)
    other = np.exp(-(np.hypot((canvas.x - 0.36) / 0.16, (canvas.y + 0.5) / 0.14) ** 2))
    other = other * step(0.0, canvas.clouds(1.5, finest=0.03), 2.0)
    nodules = canvas.blank()
    for _ in range(46):
        side = -1 if rng.random() < 0.65 else 1
        x, y, r = side * rng.normal(0.4, 0.13), rng.normal(-0.35, 0.18), rng.uniform(0.009, 0.02)
        nodules += rng.uniform(0.1, 0.28) * canvas.ellipsoid(x, y, r, r)
    strands = canvas.tubes([
        line([(-0.3, -0.36 + 0.05 * k), (-0.23, -0.25 + 0.03 * k), (-0.16, -0.1)], 0.006, 1.0) for k in (-1, 0, 1, 2)
    ])  # fmt: skip
    return as_image(lungs.thickness * (0.34 * ring + 0.62 * patch + 0.5 * other + nodules + 7 * strands))


def _nodule(canvas: Canvas, lungs: Lungs) -> Image:
    """Put one round, solid nodule beside the left hilum, its edge a little uneven."""
    radius = np.hypot(canvas.x - 0.43, canvas.y + 0.14) + 0.008 * canvas.clouds(1.8, finest=0.03)
    return as_image(lungs.thickness * 0.7 * np.sqrt(np.clip(1 - (radius / 0.1) ** 2, 0, None)))
