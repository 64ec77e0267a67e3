"""What the demo painter shows instead of land: skylines, planets and plain ornament."""

import math

from services.providers.demo.canvas import WHITE, Colour, Point, Polygon, ellipse, mix, rectangle, stroke
from services.providers.demo.sky import Stage, ground, ridge


def draw_city(stage: Stage) -> None:
    canvas, rng = stage.canvas, stage.rng
    wet = bool({"sea", "lake", "beach"} & set(stage.reading.places))
    lit = stage.dark or stage.time == "sunset"
    for layer in range(2 if wet else 3):
        foot = stage.horizon + canvas.unit * (0.01 if wet else 0.02 + 0.15 * layer)
        colour = stage.palette.land(0.12 + 0.36 * layer)
        glow = mix(colour, stage.palette.glow, 0.35 - 0.1 * layer)
        x = -canvas.unit * 0.05 * rng.random()
        while x < canvas.width:
            wide = canvas.unit * rng.uniform(0.05, 0.1) * (1 + 0.25 * layer)
            swell = 0.7 + 0.5 * math.exp(-(((x / canvas.width - 0.5) / 0.28) ** 2))
            tall = canvas.unit * rng.uniform(0.14, 0.36) * swell * (1 - 0.12 * layer)
            _tower(stage, (x, foot), wide, tall, colour, glow, lit, foot if wet else canvas.height)
            x += wide * rng.uniform(0.92, 1.12)


def _tower(
    stage: Stage, foot: Point, wide: float, tall: float, colour: Colour, glow: Colour, lit: bool, bottom: float
) -> None:
    canvas, rng = stage.canvas, stage.rng
    x, y = foot
    top = y - tall
    shapes: list[Polygon] = [rectangle(x, top, x + wide, bottom + 2)]
    style = rng.randrange(5)
    if style == 0:
        shapes.append(rectangle(x + wide * 0.2, top - wide * 0.25, x + wide * 0.8, top + 1))
        shapes += stroke([(x + wide / 2, top), (x + wide / 2, top - wide * 0.9)], wide * 0.05)
    elif style == 1:
        shapes.append([(x, top + 1), (x + wide, top - wide * 0.45), (x + wide, top + 1)])
    elif style == 2:
        shapes.append(rectangle(x + wide * 0.15, top - wide * 0.18, x + wide * 0.6, top + 1))
    canvas.fill(shapes, colour, to=glow)
    columns = rng.randint(3, 5)
    gap = wide / (columns + 0.5)
    rows = min(int((bottom - top) / gap / 1.25), 26)
    panes = [
        rectangle(px, py, px + gap * 0.5, py + gap * 0.62)
        for row in range(rows)
        for column in range(columns)
        if rng.random() < (0.42 if lit else 0.7)
        for px, py in [(x + gap * (column + 0.5), top + gap * (0.5 + row * 1.25))]
        if py + gap < bottom
    ]
    if panes and gap >= 2:
        warm = rng.choice((stage.palette.light, stage.palette.accents[0], (255, 214, 130)))
        canvas.fill(panes, warm if lit else mix(colour, stage.palette.sky[-1], 0.5), opacity=0.85 if lit else 0.5)


def draw_space(stage: Stage) -> None:
    canvas, rng, palette = stage.canvas, stage.rng, stage.palette
    for colour in (*palette.accents, palette.glow):
        spot = (rng.uniform(0, canvas.width), rng.uniform(0, canvas.height))
        canvas.glow(spot, canvas.unit * rng.uniform(0.45, 0.8), colour, strength=0.32)
    accents = rng.sample(palette.accents, 3)
    for index, share in enumerate((0.24, 0.075, 0.045)):
        radius = canvas.unit * share * rng.uniform(0.85, 1.15)
        x = canvas.width * ((0.62, 0.16, 0.34)[index] + rng.uniform(-0.06, 0.06))
        y = canvas.height * ((0.52, 0.66, 0.2)[index] + rng.uniform(-0.06, 0.06))
        base = accents[index]
        _planet(stage, (x, y), radius, mix(base, palette.sky[2], 0.08), ringed=index == 0)


def _planet(stage: Stage, centre: Point, radius: float, colour: Colour, *, ringed: bool) -> None:
    canvas, (x, y) = stage.canvas, centre
    ring_colour = mix(colour, WHITE, 0.5)
    tilt = -0.32

    def ring(first: float, last: float, reach: float) -> list[Point]:
        arc = [first + (last - first) * i / 60 for i in range(61)]
        flat = [(math.cos(t) * reach, math.sin(t) * reach * 0.26) for t in arc]
        return [
            (
                x + (a * math.cos(tilt) - b * math.sin(tilt)) * radius,
                y + (a * math.sin(tilt) + b * math.cos(tilt)) * radius,
            )
            for a, b in flat
        ]

    def band(first: float, last: float) -> None:
        for inner, outer, opacity in ((1.35, 1.62, 0.75), (1.68, 1.9, 0.5)):
            canvas.fill(
                [[*ring(first, last, outer), *reversed(ring(first, last, inner))]], ring_colour, opacity=opacity
            )

    canvas.glow(centre, radius * 1.7, colour, strength=0.6)
    if ringed:
        band(math.pi, math.tau)
    canvas.fill([ellipse(x, y, radius, points=128)], mix(colour, WHITE, 0.35), to=mix(colour, stage.palette.near, 0.45))
    for at, thick in ((-0.45, 0.1), (-0.1, 0.16), (0.35, 0.12)):
        edges = [(math.sqrt(1 - v * v) * 0.995, v) for v in (at, at + thick / 2, at + thick)]
        stripe = [(x + w * radius, y + v * radius) for w, v in edges]
        stripe += [(x - w * radius, y + v * radius) for w, v in reversed(edges)]
        canvas.fill([stripe], mix(colour, WHITE, 0.6), opacity=0.35)
    if ringed:
        band(0, math.pi)


def draw_ribbons(stage: Stage) -> None:
    """Flowing bands over the whole picture: the answer to "abstract" and "pattern"."""
    canvas, rng, palette = stage.canvas, stage.rng, stage.palette
    colours = [*palette.accents, palette.far, palette.sky[-1], palette.near, palette.sky[1]]
    rng.shuffle(colours)
    canvas.fill([rectangle(-2, -2, canvas.width + 2, canvas.height + 2)], colours[-1])
    count = 9
    for index in range(count):
        base = canvas.height * (index / count - 0.06)
        line = ridge(stage, base, canvas.unit * 0.16, waves=1.0)
        colour = colours[index % len(colours)]
        canvas.fill([ground(stage, line)], mix(colour, palette.light, 0.25), to=mix(colour, palette.near, 0.45))
        edge = [*line, *((x, y + canvas.unit * 0.006) for x, y in reversed(line))]
        canvas.fill([edge], WHITE, opacity=0.35)
