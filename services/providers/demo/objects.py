"""The demo painter's things, in the coordinates of a `Frame`: base at 0, top at 1."""

import math
from itertools import pairwise
from random import Random

from services.providers.demo.canvas import (
    INK,
    WHITE,
    Canvas,
    Colour,
    Frame,
    Point,
    ellipse,
    flipped,
    mix,
    path,
    rectangle,
    rounded,
    smooth,
    stroke,
)
from services.providers.demo.figures import Figures, blossom, shadow


def _one_banana(canvas: Canvas, frame: Frame, skin: Colour, turn: float) -> None:
    def edge(offset: float) -> list[Point]:
        line = []
        for step in range(49):
            at = step / 48
            angle = math.radians(202 + 136 * at) + turn
            thick = 0.03 + 0.105 * math.sin(math.pi * (0.06 + 0.88 * at)) ** 0.75
            reach = 0.5 + offset * thick
            line.append((math.cos(angle) * reach, 0.68 + math.sin(angle) * reach))
        return line

    def band(inner: float, outer: float) -> list[Point]:
        return [*edge(inner), *reversed(edge(outer))]

    brown = (112, 78, 44)
    left, right = edge(0.0)[0], edge(0.0)[-1]
    stem = (left[0] * 1.05 - 0.02, left[1] + 0.15)
    canvas.fill(frame.shapes(*stroke([left, stem], 0.07, end_width=0.05)), mix(skin, (150, 150, 60), 0.55))
    canvas.fill(frame.shapes(*stroke([stem, (stem[0], stem[1] + 0.012)], 0.056)), brown)
    canvas.fill(frame.shapes(ellipse(right[0], right[1] + 0.012, 0.034)), brown)
    canvas.fill(frame.shapes(band(-1.0, 1.0)), mix(skin, WHITE, 0.14), to=skin)
    canvas.fill(frame.shapes(band(0.25, 1.0)), mix(skin, (176, 104, 20), 0.34))
    canvas.fill(frame.shapes(band(-0.62, -0.3)[4:-4]), WHITE, opacity=0.38)


def _banana(canvas: Canvas, frame: Frame, skin: Colour, rng: Random) -> None:
    shadow(canvas, frame, 0.46)
    for turn in rng.choice(((0.0,), (0.26, -0.06), (0.4, 0.15, -0.1))):
        _one_banana(canvas, frame, mix(skin, (200, 150, 30), max(turn, 0.0)), turn)


def _coffee(canvas: Canvas, frame: Frame, glaze: Colour, rng: Random) -> None:
    for x, drift in ((-0.13, 0.05), (0.02, -0.05), (0.16, 0.05)):
        rise = [(x, 0.66), (x + drift, 0.75), (x - drift, 0.85), (x + drift * 0.6, 0.97)]
        canvas.fill(frame.shapes(*stroke(smooth(rise, closed=False), 0.035, end_width=0.008)), WHITE, opacity=0.5)
    shadow(canvas, frame, 0.56)
    canvas.fill(frame.shapes(ellipse(0, 0.045, 0.52, 0.085)), mix(glaze, INK, 0.2))
    canvas.fill(frame.shapes(ellipse(0, 0.06, 0.52, 0.085)), mix(glaze, WHITE, 0.3), to=glaze)
    canvas.fill(frame.shapes(ellipse(0, 0.06, 0.27, 0.042)), mix(glaze, INK, 0.22))
    handle = path("0.3,0.5 0.46,0.5 0.5,0.36 0.42,0.24 0.26,0.2")
    canvas.fill(frame.shapes(*stroke(smooth(handle, closed=False), 0.065)), mix(glaze, INK, 0.12))
    cup = path("-0.38,0.56 -0.36,0.36 -0.27,0.16 -0.16,0.07 0.16,0.07 0.27,0.16 0.36,0.36 0.38,0.56")
    canvas.fill(frame.shapes(smooth(cup, closed=False)), mix(glaze, WHITE, 0.2), to=mix(glaze, INK, 0.16))
    gleam = smooth([(-0.31, 0.48), (-0.29, 0.34), (-0.22, 0.2)], closed=False)
    canvas.fill(frame.shapes(*stroke(gleam, 0.035, end_width=0.015)), WHITE, opacity=0.4)
    canvas.fill(frame.shapes(ellipse(0, 0.56, 0.385, 0.1)), mix(glaze, WHITE, 0.6))
    canvas.fill(frame.shapes(ellipse(0, 0.555, 0.35, 0.083)), (124, 76, 46))
    canvas.fill(frame.shapes(ellipse(0, 0.548, 0.325, 0.07)), (176, 118, 74))
    tip = rng.uniform(-0.02, 0.02)
    heart = [
        (tip, 0.5),
        (0.15, 0.545),
        (0.13, 0.595),
        (0.03, 0.58),
        (0, 0.568),
        (-0.03, 0.58),
        (-0.13, 0.595),
        (-0.15, 0.545),
    ]
    canvas.fill(frame.shapes(smooth(heart)), (250, 234, 212))


def _boat(canvas: Canvas, frame: Frame, hull: Colour, rng: Random) -> None:
    lean = rng.uniform(-0.02, 0.03)
    canvas.fill(frame.shapes(ellipse(0, 0.0, 0.52, 0.03)), WHITE, opacity=0.35)
    canvas.fill(frame.shapes(*stroke([(0, 0.14), (lean, 0.98)], 0.022, end_width=0.012)), (96, 66, 50))
    main = smooth([(0.04, 0.2), (0.4, 0.22), (0.2, 0.6), (0.04 + lean, 0.94)], closed=False)
    canvas.fill(frame.shapes(main), (255, 252, 244), to=(232, 222, 214))
    jib = smooth([(-0.04, 0.2), (-0.34, 0.22), (-0.18, 0.5), (-0.03 + lean, 0.84)], closed=False)
    canvas.fill(frame.shapes(jib), mix(hull, WHITE, 0.55), to=mix(hull, WHITE, 0.3))
    body = path("-0.5,0.17 0.5,0.17 0.44,0.09 0.36,0 -0.34,0 -0.44,0.08")
    canvas.fill(frame.shapes(body), mix(hull, WHITE, 0.08), to=mix(hull, INK, 0.3))
    canvas.fill(frame.shapes(path("-0.5,0.175 0.5,0.175 0.48,0.135 -0.475,0.135")), (255, 250, 240))


def _balloon(canvas: Canvas, frame: Frame, cloth: Colour, rng: Random) -> None:
    for x in (-0.075, 0.075):
        canvas.fill(frame.shapes(*stroke([(x * 1.6, 0.32), (x, 0.12)], 0.008)), INK, opacity=0.8)
    second = rng.choice(((255, 244, 224), mix(cloth, INK, 0.3), mix(cloth, (255, 206, 90), 0.75)))

    def gore(inner: float, outer: float) -> list[Point]:
        sides = []
        for reach in (inner, outer):
            side = [
                (0, 1.0),
                (reach * 0.27, 0.95),
                (reach * 0.37, 0.75),
                (reach * 0.33, 0.55),
                (reach * 0.2, 0.38),
                (reach * 0.11, 0.29),
            ]
            sides.append(smooth(side, closed=False))
        return [*sides[0], *reversed(sides[1])]

    cuts = (-1.0, -0.78, -0.42, 0.0, 0.42, 0.78, 1.0)
    for index, (inner, outer) in enumerate(pairwise(cuts)):
        colour = cloth if index % 2 == 0 else second
        light = 0.22 - 0.07 * index
        shaded = mix(colour, WHITE, light) if light > 0 else mix(colour, INK, -light * 1.3)
        canvas.fill(frame.shapes(gore(inner, outer)), shaded, to=mix(shaded, INK, 0.16))
    canvas.fill(frame.shapes(rounded(-0.085, 0.0, 0.085, 0.13, 0.025)), (168, 112, 66), to=(120, 76, 46))
    canvas.fill(frame.shapes(rounded(-0.095, 0.11, 0.095, 0.14, 0.014)), (92, 58, 38))


def _house(canvas: Canvas, frame: Frame, roof: Colour, rng: Random) -> None:
    shadow(canvas, frame, 0.5)
    for x, y, size in ((0.25, 0.97, 0.035), (0.3, 1.06, 0.05), (0.37, 1.17, 0.065)):
        canvas.fill(frame.shapes(ellipse(x, y, size)), WHITE, opacity=0.5)
    canvas.fill(frame.shapes(rectangle(0.19, 0.92, 0.29, 0.6)), mix(roof, INK, 0.4))
    canvas.fill(frame.shapes(rectangle(-0.38, 0.55, 0.38, 0.0)), (255, 246, 230), to=(238, 220, 198))
    canvas.fill(frame.shapes([(-0.48, 0.5), (0, 0.95), (0.48, 0.5)]), mix(roof, WHITE, 0.1), to=mix(roof, INK, 0.12))
    canvas.fill(frame.shapes(rectangle(-0.38, 0.5, 0.38, 0.47)), INK, opacity=0.14)
    door = mix(roof, INK, 0.35)
    canvas.fill(frame.shapes(rounded(-0.09, -0.02, 0.09, 0.32, 0.08), rectangle(-0.09, 0.1, 0.09, 0.0)), door)
    canvas.fill(frame.shapes(ellipse(0.05, 0.14, 0.013)), (250, 206, 90))
    pane = rng.choice(((255, 214, 120), (176, 220, 236)))
    for x in (-0.24, 0.24):
        canvas.fill(frame.shapes(rounded(x - 0.09, 0.17, x + 0.09, 0.37, 0.015)), WHITE)
        canvas.fill(frame.shapes(rectangle(x - 0.075, 0.355, x + 0.075, 0.185)), pane)
        canvas.fill(
            frame.shapes(*stroke([(x, 0.18), (x, 0.36)], 0.014), *stroke([(x - 0.08, 0.27), (x + 0.08, 0.27)], 0.014)),
            WHITE,
        )
    canvas.fill(frame.shapes(ellipse(0, 0.67, 0.075)), WHITE)
    canvas.fill(frame.shapes(ellipse(0, 0.67, 0.058)), pane)


def _rocket(canvas: Canvas, frame: Frame, trim: Colour, rng: Random) -> None:
    flicker = rng.uniform(-0.03, 0.03)
    for wide, low, colour in ((0.13, -0.06 + flicker, (255, 140, 60)), (0.075, 0.03, (255, 226, 130))):
        canvas.fill(
            frame.shapes(smooth([(-wide, 0.2), (-wide * 0.7, 0.1), (0, low), (wide * 0.7, 0.1), (wide, 0.2)])), colour
        )
    fin = smooth(path("-0.15,0.42 -0.3,0.28 -0.32,0.12 -0.12,0.22"))
    for side in (1, -1):
        canvas.fill(frame.shapes(flipped(fin, side)), trim, to=mix(trim, INK, 0.3))
    canvas.fill(frame.shapes(rounded(-0.1, 0.14, 0.1, 0.24, 0.03)), mix(trim, INK, 0.5))
    body = smooth(path("0,1 0.13,0.84 0.19,0.6 0.17,0.34 0.12,0.2 -0.12,0.2 -0.17,0.34 -0.19,0.6 -0.13,0.84"))
    canvas.fill(frame.shapes(body), (255, 255, 255), to=(214, 218, 230))
    shade = smooth(path("0,1 0.13,0.84 0.19,0.6 0.17,0.34 0.12,0.2 0.06,0.2 0.1,0.5 0.07,0.84"))
    canvas.fill(frame.shapes(shade), INK, opacity=0.1)
    nose = smooth(path("0,1 0.105,0.87 0.125,0.84 0,0.82 -0.125,0.84 -0.105,0.87"))
    canvas.fill(frame.shapes(nose), trim)
    canvas.fill(frame.shapes(ellipse(0, 0.64, 0.095)), mix(trim, INK, 0.2))
    canvas.fill(frame.shapes(ellipse(0, 0.64, 0.07)), (140, 214, 240), to=(60, 120, 190))
    canvas.fill(frame.shapes(ellipse(-0.022, 0.665, 0.02)), WHITE, opacity=0.8)


def _tree(canvas: Canvas, frame: Frame, leaf: Colour, rng: Random) -> None:
    shadow(canvas, frame, 0.36)
    trunk = (104, 70, 52)
    canvas.fill(
        frame.shapes(smooth(path("-0.09,0 -0.045,0.2 -0.05,0.55 0.05,0.55 0.045,0.2 0.09,0"), closed=False)),
        trunk,
    )
    for side in (-1, 1):
        canvas.fill(frame.shapes(*stroke([(0, 0.36), (side * 0.17, 0.54)], 0.04, end_width=0.02)), trunk)
    blobs = [
        (-0.24, 0.56, 0.17),
        (0.24, 0.56, 0.18),
        (0, 0.6, 0.2),
        (-0.15, 0.74, 0.18),
        (0.16, 0.74, 0.18),
        (0, 0.84, 0.16),
    ]
    for shift, colour in ((0.0, mix(leaf, INK, 0.25)), (0.035, leaf), (0.075, mix(leaf, (255, 240, 160), 0.3))):
        scale = 1 - shift * 5
        crown = [ellipse(x * 0.98 - shift * 0.5, y + shift * 0.7, r * scale) for x, y, r in blobs]
        canvas.fill(frame.shapes(*crown), colour)
    for _ in range(14):
        x, y, r = rng.choice(blobs)
        spot = ellipse(x + rng.uniform(-0.5, 0.5) * r, y + rng.uniform(-0.5, 0.5) * r, 0.012, points=16)
        canvas.fill(frame.shapes(spot), WHITE, opacity=0.5)


def _bouquet(canvas: Canvas, frame: Frame, petal: Colour, rng: Random) -> None:
    shadow(canvas, frame, 0.3)
    heads = [
        (-0.26, 0.72, 0.11),
        (0.27, 0.7, 0.11),
        (-0.1, 0.6, 0.1),
        (0.12, 0.58, 0.1),
        (-0.15, 0.88, 0.12),
        (0.17, 0.87, 0.11),
        (0.0, 0.74, 0.14),
    ]
    for x, y, _ in heads:
        stem = smooth([(x * 0.1, 0.3), (x * 0.5, y * 0.7), (x, y)], closed=False)
        canvas.fill(frame.shapes(*stroke(stem, 0.016)), (72, 128, 84))
    for x, y in ((-0.36, 0.56), (0.37, 0.54), (-0.32, 0.88), (0.34, 0.9), (0.02, 1.0)):
        leaf = smooth([(x * 0.45, y * 0.75), (x * 0.9, y * 0.8), (x, y), (x * 0.6, y * 0.92)])
        canvas.fill(frame.shapes(leaf), (98, 156, 104), to=(62, 112, 78))
    vase = path("-0.1,0.42 -0.09,0.34 -0.19,0.2 -0.15,0.02 -0.1,0 0.1,0 0.15,0.02 0.19,0.2 0.09,0.34 0.1,0.42")
    canvas.fill(frame.shapes(smooth(vase, closed=False)), (250, 244, 234), to=(206, 204, 210))
    shades = (petal, mix(petal, WHITE, 0.4), mix(petal, (255, 190, 90), 0.5), mix(petal, INK, 0.15))
    for index, (x, y, size) in enumerate(heads):
        (centre,) = frame.points([(x, y)])
        blossom(
            canvas, centre, size * frame.size * 1.05, shades[(index + rng.randrange(2)) % 4], petals=rng.randint(6, 9)
        )


OBJECTS: Figures = {
    "banana": (_banana, ((252, 206, 62),)),
    "coffee": (_coffee, ((250, 246, 238), (88, 142, 150), (226, 112, 92), (70, 78, 116))),
    "boat": (_boat, ((206, 76, 64), (44, 88, 130), (150, 92, 58))),
    "balloon": (_balloon, ((226, 84, 78), (66, 130, 180), (240, 160, 70), (142, 96, 176))),
    "house": (_house, ((198, 90, 72), (78, 110, 140), (120, 92, 120))),
    "rocket": (_rocket, ((226, 84, 78), (66, 120, 200), (240, 160, 70))),
    "tree": (_tree, ((96, 160, 92), (70, 140, 110), (150, 170, 80))),
    "flower": (_bouquet, ((232, 92, 120), (240, 140, 84), (160, 110, 200), (240, 186, 80))),
}
