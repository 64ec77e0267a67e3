"""The grounds of the demo painter's landscapes, drawn from far to near."""

import math
from collections.abc import Callable

from services.providers.demo.canvas import (
    WHITE,
    Colour,
    Point,
    Polygon,
    ellipse,
    gradient,
    mix,
    rectangle,
    smooth,
    stroke,
)
from services.providers.demo.figures import blossom
from services.providers.demo.sky import Stage, ground, ridge
from services.providers.demo.vistas import draw_city, draw_ribbons, draw_space


def _mountains(stage: Stage) -> None:
    canvas, rng = stage.canvas, stage.rng
    snowy = "snow" in stage.reading.moods
    base = stage.horizon + canvas.unit * 0.03
    for layer, (depth, share) in enumerate(((0.05, 0.36), (0.3, 0.24))):
        colour = stage.palette.land(depth)
        pitch = canvas.unit * (0.42, 0.3)[layer]
        count = max(2, round(canvas.width / pitch)) + 1
        centres = [((i - 0.5 + rng.uniform(-0.3, 0.3)) * pitch, rng.uniform(0.55, 1.0)) for i in range(count + 1)]
        for x, tall in sorted(centres, key=lambda peak: peak[1]):
            height = tall * share * min(canvas.height, canvas.unit * 1.4)
            _peak(stage, (x, base), height, height * rng.uniform(0.85, 1.1), colour, snowy or layer == 0)
    plain = mix(stage.palette.land(0.3), stage.palette.sky[-1], 0.55)
    canvas.fill([rectangle(-2, base, canvas.width + 2, canvas.height + 2)], plain)


def _peak(stage: Stage, foot: Point, height: float, half: float, colour: Colour, capped: bool) -> None:
    rng, palette = stage.rng, stage.palette
    x, y = foot
    apex = (x, y - height)

    def flank(side: int) -> list[Point]:
        steps = [0.18, 0.34, 0.5, 0.68, 0.84]
        return [(x + side * half * (s + rng.uniform(-0.035, 0.035)), y - height * (1 - s)) for s in steps]

    left, right = flank(-1), flank(1)
    foot_left, foot_right = (x - half, y), (x + half, y)
    haze = mix(colour, palette.sky[-1], 0.55)
    stage.canvas.fill([[apex, *right, foot_right, foot_left, *reversed(left)]], colour, to=haze)
    sun_side = 1 if stage.light[0] > x else -1
    spine = [(x + rng.uniform(-0.07, 0.12) * half * -sun_side, y - height * (1 - s)) for s in (0.2, 0.42, 0.6, 0.8)]
    lit, lit_foot = (right, foot_right) if sun_side > 0 else (left, foot_left)
    warm = mix(colour, palette.light, 0.28 if stage.dark else 0.42)
    stage.canvas.fill([[apex, *lit, lit_foot, (x, y), *reversed(spine)]], warm, to=haze)
    if capped:
        low = [(lit_left[0], lit_left[1]) for lit_left in (left[1], right[1])]
        zig = [
            (low[0][0] + (low[1][0] - low[0][0]) * at, y - height * (0.66 - drop * rng.uniform(0.6, 1.2)))
            for at, drop in ((0.2, -0.06), (0.36, 0.1), (0.5, -0.07), (0.66, 0.12), (0.82, -0.05))
        ]
        snow = mix(WHITE, palette.sky[-1], 0.5 if stage.dark else 0.2)
        stage.canvas.fill([[apex, right[0], low[1], *reversed(zig), low[0], left[0]]], snow, opacity=0.92)


def _hills(stage: Stage) -> None:
    layers = stage.rng.randint(4, 5)
    span = stage.canvas.height - stage.horizon
    for layer in range(layers):
        base = stage.horizon + span * (0.06 + 0.78 * layer / layers)
        line = ridge(stage, base, stage.canvas.unit * (0.045 + 0.012 * layer))
        depth = layer / (layers - 1)
        colour = stage.palette.land(depth)
        top = mix(colour, stage.palette.glow, 0.08 if stage.dark else 0.28)
        if 0 < layer < layers - 1:
            _groves(stage, line, depth, layer)
        stage.canvas.fill([ground(stage, line)], top, to=mix(colour, stage.palette.land(min(depth + 0.4, 1.0)), 0.8))


def _groves(stage: Stage, line: list[Point], depth: float, layer: int) -> None:
    """Trees behind a ridge, smaller far away: round ones, or conifers where it is high or cold."""
    rng = stage.rng
    conifers = bool("snow" in stage.reading.moods or "mountain" in stage.reading.places)
    leaf = _leaf(stage)
    colour = mix(leaf, stage.palette.far, 0.5 - 0.4 * depth)
    for _ in range(rng.randint(2, 4)):
        middle = rng.randrange(len(line))
        for _ in range(rng.randint(1, 4)):
            x, y = line[min(max(middle + rng.randint(-5, 5), 0), len(line) - 1)]
            size = stage.canvas.unit * (0.014 + 0.008 * layer) * rng.uniform(0.8, 1.3)
            shade = mix(colour, stage.palette.glow, rng.uniform(0, 0.14))
            if conifers:
                _conifer(stage, (x, y + size), size * 5, shade, mix(shade, stage.palette.near, 0.15))
                continue
            crown = ellipse(x, y - size * 1.9, size, size * rng.uniform(1.1, 1.5))
            stage.canvas.fill([crown, *stroke([(x, y + size), (x, y - size)], size * 0.2)], shade)


def _leaf(stage: Stage) -> Colour:
    """A tree's colour that stands out from its ground, which snow makes white."""
    if "snow" in stage.reading.moods:
        return mix(stage.palette.sky[0], (24, 62, 74), 0.6)
    return mix(stage.palette.near, (14, 40, 44), 0.3)


def _forest(stage: Stage) -> None:
    canvas, rng = stage.canvas, stage.rng
    span = canvas.height - stage.horizon
    rows = 5
    for row in range(rows):
        base = stage.horizon + span * (0.08 + 0.82 * row / (rows - 1))
        depth = 0.1 + 0.9 * row / (rows - 1)
        colour = stage.palette.land(depth)
        line = ridge(stage, base, canvas.unit * 0.03)
        tall = canvas.unit * (0.13 + 0.055 * row)
        mist = mix(colour, stage.palette.sky[-1], 0.5 * (1 - depth) + 0.05)
        step = tall * 0.3
        x = -step * rng.random()
        while x < canvas.width + step:
            index = min(max(int(x / canvas.width * 96), 0), 96)
            foot = (x, line[index][1] + tall * 0.15)
            _conifer(
                stage, foot, tall * rng.uniform(0.6, 1.15), mix(colour, stage.palette.glow, rng.uniform(0, 0.1)), mist
            )
            x += step * rng.uniform(0.7, 1.5) * (1 if row < rows - 1 else 2.2)
        canvas.fill([ground(stage, line)], mist, to=colour)


def _conifer(stage: Stage, foot: Point, tall: float, top: Colour, low: Colour) -> None:
    x, y = foot
    half = tall * 0.2
    right = [(0.0, 1.0)]
    for tier in range(4):
        at = 0.78 - tier * 0.21
        wide = half * (0.42 + 0.2 * tier)
        right += [(wide, at - 0.03), (wide * 0.52, at + 0.02)]
    outline = [(x + dx, y - dy * tall) for dx, dy in right]
    mirrored = [(2 * x - px, py) for px, py in reversed(outline)]
    stage.canvas.fill([[*outline, (x + half * 0.2, y), (x - half * 0.2, y), *mirrored]], top, to=low)


def _water(stage: Stage) -> None:
    canvas, rng, palette = stage.canvas, stage.rng, stage.palette
    top, bottom = stage.horizon, canvas.height
    deep: Colour = (16, 40, 92) if stage.dark else (64, 52, 104) if stage.time == "sunset" else (22, 118, 146)
    # Water is the sky upside down, and its own colour the more the steeper one looks into it.
    tones = [mix(tone, deep, 0.12 + 0.5 * i / len(palette.sky)) for i, tone in enumerate(reversed(palette.sky))]
    canvas.image.paste(gradient((canvas.width, round(bottom - top)), tones), (0, round(top)))
    x = stage.light[0]
    for _ in range(46):
        depth = rng.random() ** 1.4
        y = top + (bottom - top) * depth
        half = canvas.unit * (0.02 + 0.15 * depth) * rng.uniform(0.3, 1.0)
        middle = x + rng.gauss(0, 0.035 + 0.06 * depth) * canvas.unit
        thick = max(canvas.unit * (0.0018 + 0.005 * depth), 0.8)
        canvas.fill([_lens(middle, y, half, thick)], palette.light, opacity=0.55 * (1 - 0.55 * depth))
    for _ in range(30):
        depth = rng.random()
        y = top + (bottom - top) * depth
        half = canvas.unit * (0.02 + 0.09 * depth) * rng.uniform(0.4, 1.0)
        thick = max(canvas.unit * (0.001 + 0.003 * depth), 0.7)
        canvas.fill([_lens(rng.uniform(0, canvas.width), y, half, thick)], mix(tones[0], WHITE, 0.35), opacity=0.3)
    if "lake" not in stage.reading.places:
        _waves(stage, tones)


def _lens(x: float, y: float, half: float, thick: float) -> Polygon:
    return [
        (x - half, y),
        (x - half * 0.4, y - thick),
        (x + half * 0.4, y - thick),
        (x + half, y),
        (x + half * 0.4, y + thick),
        (x - half * 0.4, y + thick),
    ]


def _waves(stage: Stage, tones: list[Colour]) -> None:
    canvas = stage.canvas
    span = canvas.height - stage.horizon
    for layer in range(4):
        base = stage.horizon + span * (0.42 + 0.155 * layer)
        line = ridge(stage, base, canvas.unit * (0.012 + 0.005 * layer), waves=3.6)
        colour = tones[min(len(tones) - 1, len(tones) - 3 + layer)]
        crest = mix(colour, stage.palette.light, 0.1)
        canvas.fill([ground(stage, line)], crest, to=mix(colour, stage.palette.near, 0.3), opacity=0.75)
        thick = canvas.unit * (0.003 + 0.0018 * layer)
        foam = [
            *line,
            *((x, y + thick * (0.5 + 0.5 * math.sin(x / canvas.unit * 9 + layer))) for x, y in reversed(line)),
        ]
        canvas.fill([foam], mix(tones[0], WHITE, 0.5), opacity=0.65)


def _sand(stage: Stage) -> None:
    """A beach along the lower edge, wet where the last wave ends."""
    canvas = stage.canvas
    sand = mix(mix(stage.palette.far, (250, 216, 160), 0.7), stage.palette.near, 0.6 if stage.dark else 0.08)
    line = ridge(stage, canvas.height - (canvas.height - stage.horizon) * 0.36, canvas.unit * 0.02)
    for drop, colour in ((0.0, WHITE), (0.012, mix(sand, stage.palette.near, 0.25)), (0.045, sand)):
        edge = [(x, y + drop * canvas.unit * (1 + 0.3 * math.sin(x / canvas.unit * 5))) for x, y in line]
        canvas.fill([ground(stage, edge)], colour, to=mix(colour, stage.palette.near, 0.12))


def _desert(stage: Stage) -> None:
    canvas, rng = stage.canvas, stage.rng
    span = canvas.height - stage.horizon
    side = 1 if stage.light[0] < canvas.width / 2 else -1
    for layer in range(5):
        depth = layer / 4
        colour = stage.palette.land(depth)
        lit = mix(colour, stage.palette.light, 0.1 if stage.dark else 0.3)
        base = stage.horizon + span * (0.1 + 0.21 * layer)
        height = canvas.unit * (0.05 + 0.035 * layer)
        x = canvas.width * (0.5 + rng.uniform(0.1, 0.38) * (1 if layer % 2 else -1))
        reach = canvas.width * rng.uniform(0.5, 0.7)
        peak = (x, base - height)
        windward = [
            (x - side * reach * 2, base),
            (x - side * reach, base),
            (x - side * reach * 0.4, base - height * 0.5),
        ]
        lee = [
            (x + side * reach * 0.3, base - height * 0.4),
            (x + side * reach * 0.8, base),
            (x + side * reach * 2, base),
        ]
        ends = [(x + side * reach * 2, canvas.height + 2.0), (x - side * reach * 2, canvas.height + 2.0)]
        canvas.fill([[*smooth([*windward, peak, *lee], closed=False), *ends]], lit, to=colour)
        spine = [peak, (x - side * height * 0.5, base - height * 0.3), (x + side * height * 0.9, base + height * 0.5)]
        spine += [(x - side * height * 0.2, base + height * 1.5), (x + side * height * 1.4, base + height * 4)]
        shade = [*smooth(spine, closed=False), ends[0], *reversed(smooth([peak, *lee], closed=False))]
        canvas.fill([shade], mix(colour, stage.palette.near, 0.45), to=mix(lit, colour, 0.7))


_BACKDROPS: tuple[tuple[frozenset[str], Callable[[Stage], None]], ...] = (
    (frozenset({"mountain", "lake"}), _mountains),
    (frozenset({"city"}), draw_city),
    (frozenset({"sea", "lake", "beach"}), _water),
    (frozenset({"beach"}), _sand),
    (frozenset({"desert"}), _desert),
    (frozenset({"forest"}), _forest),
    (frozenset({"meadow"}), _hills),
)


def draw_ground(stage: Stage) -> None:
    """Every place of the reading, far ones first."""
    places = set(stage.reading.places)
    if "abstract" in stage.reading.moods:
        draw_ribbons(stage)
        return
    if "space" in places:
        draw_space(stage)
        return
    for names, painter in _BACKDROPS:
        if names & places:
            painter(stage)
    if not places - {"mountain"}:
        _hills(stage)


def draw_meadow_flowers(stage: Stage) -> None:
    """Flowers along the lower edge, larger towards the viewer."""
    canvas, rng = stage.canvas, stage.rng
    petals = [*(stage.reading.colours or stage.palette.accents), mix(stage.palette.accents[0], WHITE, 0.5)]
    stem_colour = mix(stage.palette.near, (70, 140, 80), 0.35)
    for index in range(min(90, round(34 * canvas.width / canvas.unit))):
        depth = index / 34 if index < 34 else rng.random()
        x, y = rng.uniform(0, canvas.width), canvas.height * (0.82 + 0.2 * min(depth, 1.0))
        size = canvas.unit * (0.012 + 0.02 * min(depth, 1.0)) * rng.uniform(0.8, 1.2)
        head = (x + rng.uniform(-1, 1) * size, y - size * rng.uniform(2.2, 4.0))
        canvas.fill(stroke([(x, y + size * 3), head], size * 0.16), stem_colour)
        blossom(canvas, head, size, rng.choice(petals), petals=rng.randint(5, 8))
