"""The stage of the demo painter's landscapes, with its sky and weather."""

import math
from dataclasses import dataclass
from random import Random

from services.providers.demo.canvas import WHITE, Canvas, Point, Polygon, ellipse, gradient, mix, smooth, stroke
from services.providers.demo.palette import Palette, Reading


@dataclass(frozen=True)
class Stage:
    """What every part of a landscape needs. `horizon` is a y in pixels; `light` is where sun or moon stands."""

    canvas: Canvas
    palette: Palette
    reading: Reading
    rng: Random
    time: str
    horizon: float
    light: Point

    @property
    def dark(self) -> bool:
        return self.time == "night"


def ridge(stage: Stage, base: float, swell: float, *, waves: float = 1.6) -> list[Point]:
    """A rolling line over the whole width, around `base`, `swell` pixels up and down."""
    canvas, rng = stage.canvas, stage.rng
    tones = [(waves * 2**octave * rng.uniform(0.8, 1.2), rng.uniform(0, math.tau)) for octave in range(3)]
    stretch = max(1.0, canvas.width / canvas.height)
    line = []
    for step in range(97):
        at = step / 96
        lift = sum(
            math.sin(at * stretch * pitch * 2.2 + phase) / 2.2**octave for octave, (pitch, phase) in enumerate(tones)
        )
        line.append((at * canvas.width, base - lift * swell / 1.6))
    return line


def ground(stage: Stage, line: list[Point]) -> Polygon:
    """Everything from a line over the whole width down to the lower edge."""
    canvas = stage.canvas
    return [
        (-2, line[0][1]),
        *line,
        (canvas.width + 2, line[-1][1]),
        (canvas.width + 2, canvas.height + 2),
        (-2, canvas.height + 2),
    ]


def draw_sky(stage: Stage) -> None:
    canvas, palette, rng, moods = stage.canvas, stage.palette, stage.rng, stage.reading.moods
    spacious = "space" in stage.reading.places
    if not spacious:
        # The last colour of the sky belongs to the horizon, not to the lower edge behind the land.
        canvas.image.paste(gradient((canvas.width, round(stage.horizon) + 2), palette.sky))
    if stage.dark or "star" in moods or spacious:
        _stars(stage)
    if "aurora" in moods:
        _aurora(stage)
    if spacious:
        return
    radius = canvas.unit * rng.uniform(0.075, 0.115)
    if "moon" in moods or stage.dark:
        canvas.glow(stage.light, radius * 5.5, palette.glow, strength=0.5)
        _moon(stage, radius * 0.8)
    elif not moods & {"rain", "fog"}:
        canvas.glow(stage.light, radius * 8, palette.glow, strength=0.75)
        canvas.glow(stage.light, radius * 2.6, palette.light, strength=0.9)
        canvas.fill([ellipse(*stage.light, radius, points=96)], palette.light)
    count = rng.randint(3, 5) if moods & {"cloud", "rain"} or stage.time == "day" else rng.randint(0, 3)
    for _ in range(count):
        _cloud(stage)
    if "bird" in moods or (not stage.dark and rng.random() < 0.4 and not moods & {"rain", "snow"}):
        _birds(stage)


def _stars(stage: Stage) -> None:
    canvas, rng = stage.canvas, stage.rng
    reach = canvas.height if "space" in stage.reading.places else stage.horizon
    for opacity, count, size in ((0.35, 90, 0.0016), (0.65, 50, 0.0022), (0.95, 22, 0.0034)):
        dots = [
            ellipse(
                rng.uniform(0, canvas.width),
                rng.uniform(0, 1) ** 1.3 * reach,
                max(canvas.unit * size * rng.uniform(0.7, 1.3), 0.45),
                points=10,
            )
            for _ in range(count)
        ]
        # One fill a dot keeps every mask tiny; together they would need one of the whole sky.
        for dot in dots:
            canvas.fill([dot], stage.palette.light, opacity=opacity)
    for _ in range(5):
        x, y = rng.uniform(0, canvas.width), rng.uniform(0, 0.6) * reach
        arm = canvas.unit * rng.uniform(0.008, 0.015)
        spark = [(arm if i % 2 == 0 else arm * 0.16, math.pi / 4 * i) for i in range(8)]
        canvas.fill([[(x + math.cos(t) * r, y + math.sin(t) * r) for r, t in spark]], stage.palette.light)


def _aurora(stage: Stage) -> None:
    canvas, rng = stage.canvas, stage.rng
    for colour in ((94, 240, 176), (72, 214, 214), (168, 120, 250)):
        low = ridge(stage, stage.horizon * rng.uniform(0.5, 0.8), canvas.unit * 0.13, waves=2.6)
        # A curtain of stacked veils: bright at its hem, gone at the top.
        for veil in range(9):
            tall = stage.horizon * 0.5 * ((veil + 1) / 9) ** 1.6
            canvas.fill([[*low, *((x, y - tall) for x, y in reversed(low))]], colour, opacity=0.055)


def _moon(stage: Stage, radius: float) -> None:
    x, y = stage.light
    stage.canvas.fill([ellipse(x, y, radius, points=96)], stage.palette.light)
    shade = mix(stage.palette.light, stage.palette.sky[1], 0.16)
    for dx, dy, size in ((-0.35, -0.3, 0.2), (0.3, 0.1, 0.26), (-0.2, 0.42, 0.14), (0.25, -0.5, 0.11)):
        stage.canvas.fill([ellipse(x + dx * radius, y + dy * radius, size * radius)], shade)


def _cloud(stage: Stage) -> None:
    canvas, rng = stage.canvas, stage.rng
    length = canvas.unit * rng.uniform(0.2, 0.4)
    x, y = rng.uniform(0, canvas.width), rng.uniform(0.1, 0.6) * stage.horizon
    high = length * 0.1
    shapes: list[Polygon] = stroke([(x - length / 2, y), (x + length / 2, y)], high)
    for at, size in ((-0.24, 1.0), (-0.02, 1.7), (0.2, 1.25)):
        bump = high * size * rng.uniform(0.85, 1.1)
        shapes.append(ellipse(x + (at + rng.uniform(-0.05, 0.05)) * length, y - bump * 0.3, bump))
    base = y + high / 2
    clipped = [[(px, min(py, base)) for px, py in shape] for shape in shapes]
    heavy = "rain" in stage.reading.moods
    top = stage.palette.sky[-2] if stage.dark else mix(stage.palette.sky[-1], WHITE, 0.1 if heavy else 0.7)
    canvas.fill(clipped, top, to=stage.palette.sky[-2], opacity=0.45 if stage.dark else 0.85)


def _birds(stage: Stage) -> None:
    canvas, rng = stage.canvas, stage.rng
    x, y = rng.uniform(0.2, 0.8) * canvas.width, rng.uniform(0.2, 0.5) * stage.horizon
    for _ in range(rng.randint(4, 7)):
        span = canvas.unit * rng.uniform(0.012, 0.024)
        at_x, at_y = x + rng.gauss(0, 0.09) * canvas.unit, y + rng.gauss(0, 0.04) * canvas.unit
        wing = [(-1.0, -0.1), (-0.5, -0.42), (0.0, 0.12), (0.5, -0.42), (1.0, -0.1)]
        line = smooth([(at_x + px * span, at_y + py * span) for px, py in wing], closed=False)
        canvas.fill(stroke(line, max(span * 0.14, 1.0)), mix(stage.palette.near, stage.palette.far, 0.2))


def draw_weather(stage: Stage) -> None:
    canvas, rng, moods = stage.canvas, stage.rng, stage.reading.moods
    if "snow" in moods:
        for _ in range(150):
            spot = (rng.uniform(0, canvas.width), rng.uniform(0, canvas.height))
            radius = max(canvas.unit * rng.choice((0.002, 0.003, 0.0045, 0.007)), 0.6)
            canvas.fill([ellipse(*spot, radius, points=14)], WHITE, opacity=rng.uniform(0.5, 0.95))
    if "rain" in moods:
        for _ in range(170):
            x, y = rng.uniform(0, canvas.width * 1.1), rng.uniform(-0.05, 1) * canvas.height
            fall = canvas.unit * rng.uniform(0.02, 0.055)
            drop = stroke([(x, y), (x - fall * 0.25, y + fall)], max(canvas.unit * 0.0022, 0.8))
            canvas.fill(drop, mix(stage.palette.sky[-1], WHITE, 0.4), opacity=rng.uniform(0.3, 0.6))
    if "fog" in moods:
        for at in (0.42, 0.55, 0.7, 0.84):
            line = ridge(stage, canvas.height * at, canvas.unit * 0.03)
            low = [
                (x, y + canvas.unit * 0.13) for x, y in reversed(ridge(stage, canvas.height * at, canvas.unit * 0.03))
            ]
            canvas.fill([[*line, *low]], mix(stage.palette.sky[-1], WHITE, 0.3), opacity=0.3)
