"""The demo painter's figures with a face, in the coordinates of a `Frame`: base at 0, top at 1."""

from random import Random

from services.providers.demo.canvas import (
    INK,
    WHITE,
    Canvas,
    Colour,
    Frame,
    ellipse,
    flipped,
    mix,
    path,
    rectangle,
    rounded,
    smooth,
    stroke,
)
from services.providers.demo.figures import Figures, shadow

ROSE: Colour = (240, 140, 150)


def _pet_body(canvas: Canvas, frame: Frame, coat: Colour) -> None:
    shadow(canvas, frame, 0.4)
    tail = smooth(path("0.16,0.06 0.36,0.05 0.46,0.16 0.42,0.32 0.46,0.42"), closed=False)
    canvas.fill(frame.shapes(*stroke(tail, 0.085, end_width=0.06)), mix(coat, INK, 0.2))
    body = smooth(path("0,0.6 0.14,0.5 0.23,0.3 0.29,0.12 0.2,0 -0.2,0 -0.29,0.12 -0.23,0.3 -0.14,0.5"))
    canvas.fill(frame.shapes(body), mix(coat, WHITE, 0.08), to=mix(coat, INK, 0.18))
    canvas.fill(
        frame.shapes(smooth(path("0,0.52 0.11,0.38 0.08,0.2 0,0.15 -0.08,0.2 -0.11,0.38"))),
        mix(coat, WHITE, 0.6),
    )
    for side in (-1, 1):
        canvas.fill(frame.shapes(ellipse(side * 0.095, 0.035, 0.085, 0.045)), mix(coat, WHITE, 0.35))


def _eyes(canvas: Canvas, frame: Frame, y: float, iris: Colour, apart: float = 0.105) -> None:
    for side in (-1, 1):
        canvas.fill(frame.shapes(ellipse(side * apart, y, 0.042, 0.047)), iris)
        canvas.fill(frame.shapes(ellipse(side * apart, y, 0.028, 0.04)), INK)
        canvas.fill(frame.shapes(ellipse(side * apart + 0.012, y + 0.017, 0.011)), WHITE)


def _cat(canvas: Canvas, frame: Frame, coat: Colour, rng: Random) -> None:
    _pet_body(canvas, frame, coat)
    ear = [(-0.25, 0.76), (-0.235, 1.0), (-0.05, 0.9)]
    inner = [(-0.215, 0.82), (-0.212, 0.945), (-0.105, 0.89)]
    for side in (1, -1):
        canvas.fill(frame.shapes(flipped(ear, side)), mix(coat, INK, 0.08))
        canvas.fill(frame.shapes(flipped(inner, side)), mix(ROSE, coat, 0.2))
    head = smooth(path("0,0.92 0.2,0.87 0.27,0.72 0.17,0.57 0,0.535 -0.17,0.57 -0.27,0.72 -0.2,0.87"))
    canvas.fill(frame.shapes(head), mix(coat, WHITE, 0.12), to=coat)
    dark = mix(coat, INK, 0.35)
    for x, low in ((-0.06, 0.83), (0, 0.8), (0.06, 0.83)):
        canvas.fill(frame.shapes(*stroke([(x, 0.91 - abs(x) * 0.2), (x * 0.8, low)], 0.03, end_width=0.008)), dark)
    canvas.fill(
        frame.shapes(ellipse(-0.05, 0.62, 0.075, 0.055), ellipse(0.05, 0.62, 0.075, 0.055)), mix(coat, WHITE, 0.65)
    )
    _eyes(canvas, frame, 0.715, rng.choice(((250, 204, 80), (142, 210, 130), (120, 200, 230))))
    canvas.fill(frame.shapes(smooth([(-0.03, 0.662), (0.03, 0.662), (0, 0.635)])), ROSE)
    for side in (-1, 1):
        smile = [(0, 0.638), (side * 0.012, 0.617), (side * 0.045, 0.612)]
        canvas.fill(frame.shapes(*stroke(smooth(smile, closed=False), 0.009)), INK)
        for lift in (0.02, -0.015):
            whisker = [(side * 0.12, 0.625 + lift * 0.4), (side * 0.33, 0.63 + lift * 2)]
            canvas.fill(frame.shapes(*stroke(whisker, 0.007, end_width=0.003)), WHITE, opacity=0.8)


def _dog(canvas: Canvas, frame: Frame, coat: Colour, rng: Random) -> None:
    _pet_body(canvas, frame, coat)
    head = smooth(path("0,0.95 0.18,0.9 0.23,0.74 0.16,0.58 0,0.535 -0.16,0.58 -0.23,0.74 -0.18,0.9"))
    canvas.fill(frame.shapes(head), mix(coat, WHITE, 0.15), to=coat)
    canvas.fill(
        frame.shapes(smooth(path("0,0.94 0.05,0.8 0.13,0.62 0,0.54 -0.13,0.62 -0.05,0.8"))),
        mix(coat, WHITE, 0.7),
    )
    ear = smooth(path("-0.12,0.93 -0.24,0.9 -0.31,0.72 -0.28,0.58 -0.2,0.66 -0.17,0.8"))
    for side in (1, -1):
        canvas.fill(frame.shapes(flipped(ear, side)), mix(coat, INK, 0.38))
    _eyes(canvas, frame, 0.755, mix(coat, INK, 0.5))
    canvas.fill(frame.shapes(smooth(path("0.02,0.61 0.05,0.56 0.03,0.5 -0.02,0.5 -0.04,0.57"))), (236, 110, 120))
    canvas.fill(frame.shapes(ellipse(0, 0.665, 0.055, 0.04)), INK)
    mouth = smooth(path("-0.085,0.615 -0.05,0.592 0,0.615 0.05,0.592 0.085,0.615"), closed=False)
    canvas.fill(frame.shapes(*stroke(mouth, 0.012)), INK)
    collar = rng.choice(((214, 72, 72), (64, 128, 200), (60, 160, 120)))
    canvas.fill(frame.shapes(*stroke(smooth([(-0.16, 0.5), (0, 0.465), (0.16, 0.5)], closed=False), 0.04)), collar)
    canvas.fill(frame.shapes(ellipse(0, 0.44, 0.035)), (250, 206, 90))


def _portrait(canvas: Canvas, frame: Frame, dress: Colour, rng: Random) -> None:
    skin = rng.choice(((250, 214, 188), (236, 186, 148), (206, 148, 108), (150, 98, 68), (104, 66, 48)))
    hair = rng.choice(((44, 34, 44), (86, 54, 40), (168, 98, 52), (222, 178, 104), (120, 62, 70)))
    shade = mix(skin, (150, 60, 60), 0.22)
    back = path(
        "0,0.99 0.22,0.93 0.3,0.72 0.29,0.48 0.34,0.3 0.2,0.22 -0.2,0.22 -0.34,0.3 -0.29,0.48 -0.3,0.72 -0.22,0.93"
    )
    canvas.fill(frame.shapes(smooth(back)), mix(hair, WHITE, 0.08), to=mix(hair, INK, 0.35))
    bust = path("-.5,-.3 -0.47,0.1 -0.36,0.22 -0.12,0.29 0,0.3 0.12,0.29 0.36,0.22 0.47,0.1 .5,-.3")
    # It goes on far below the frame, so that no format shows where the figure ends.
    gown = [*smooth(bust, closed=False), (0.5, -4.0), (-0.5, -4.0)]
    canvas.fill(frame.shapes(gown), mix(dress, WHITE, 0.12), to=mix(dress, INK, 0.9))
    neck = smooth(
        path("-0.085,0.46 -0.085,0.32 -0.16,0.28 0,0.19 0.16,0.28 0.085,0.32 0.085,0.46"),
        closed=False,
    )
    canvas.fill(frame.shapes(neck), shade)
    face = path("0,0.9 0.16,0.85 0.205,0.7 0.17,0.54 0.08,0.44 0,0.42 -0.08,0.44 -0.17,0.54 -0.205,0.7 -0.16,0.85")
    canvas.fill(frame.shapes(smooth(face)), mix(skin, WHITE, 0.1), to=skin)
    part = rng.choice((-1, 1))
    fringe = path("0.08,0.915 -0.02,0.82 -0.14,0.74 -0.225,0.58 -0.26,0.72 -0.2,0.92 0,0.995")
    fringe += path("0.2,0.92 0.26,0.72 0.225,0.58 0.19,0.74 0.13,0.84")
    canvas.fill(frame.shapes(smooth(flipped(fringe, part))), mix(hair, WHITE, 0.14), to=hair)
    for side in (-1, 1):
        lid = smooth([(side * 0.05, 0.645), (side * 0.09, 0.625), (side * 0.14, 0.65)], closed=False)
        brow = smooth([(side * 0.045, 0.72), (side * 0.1, 0.74), (side * 0.15, 0.72)], closed=False)
        canvas.fill(frame.shapes(*stroke(lid, 0.013)), INK)
        canvas.fill(frame.shapes(*stroke(brow, 0.014, end_width=0.007)), mix(hair, INK, 0.3))
        canvas.fill(frame.shapes(ellipse(side * 0.12, 0.565, 0.045, 0.03)), (240, 110, 110), opacity=0.35)
        canvas.fill(frame.shapes(ellipse(side * 0.215, 0.53, 0.022)), (250, 206, 90))
    canvas.fill(frame.shapes(*stroke(smooth([(0.0, 0.64), (0.022, 0.575), (0.0, 0.565)], closed=False), 0.009)), shade)
    lips = smooth(path("-0.055,0.507 -0.02,0.517 0,0.512 0.02,0.517 0.055,0.507 0,0.485"))
    canvas.fill(frame.shapes(lips), (206, 74, 82))


def _robot(canvas: Canvas, frame: Frame, metal: Colour, rng: Random) -> None:
    shadow(canvas, frame, 0.34)
    dark, pale = mix(metal, INK, 0.45), mix(metal, WHITE, 0.3)
    for side in (-1, 1):
        canvas.fill(frame.shapes(rounded(side * 0.12 - 0.07, 0.0, side * 0.12 + 0.07, 0.16, 0.035)), dark)
        wave = 0.14 if side == 1 else -0.12
        arm = smooth([(side * 0.24, 0.42), (side * 0.36, 0.36), (side * 0.4, 0.36 + wave)], closed=False)
        canvas.fill(frame.shapes(*stroke(arm, 0.06)), dark)
        canvas.fill(frame.shapes(ellipse(side * 0.4, 0.37 + wave, 0.05)), pale)
    canvas.fill(frame.shapes(rounded(-0.25, 0.1, 0.25, 0.5, 0.08)), mix(metal, WHITE, 0.15), to=mix(metal, INK, 0.15))
    canvas.fill(frame.shapes(rounded(-0.14, 0.2, 0.14, 0.4, 0.04)), mix(metal, INK, 0.3))
    for index in range(3):
        light = ((250, 206, 90), (110, 220, 170), (244, 112, 112))[index]
        canvas.fill(frame.shapes(ellipse(-0.075 + 0.075 * index, 0.34, 0.022)), light)
    canvas.fill(frame.shapes(*stroke([(-0.08, 0.26), (0.08, 0.26)], 0.018)), pale)
    canvas.fill(frame.shapes(rectangle(-0.06, 0.48, 0.06, 0.56)), dark)
    canvas.fill(frame.shapes(*stroke([(0, 0.85), (0, 0.95)], 0.02)), dark)
    canvas.fill(frame.shapes(ellipse(0, 0.96, 0.038)), (244, 112, 112))
    for side in (-1, 1):
        canvas.fill(frame.shapes(rounded(side * 0.3 - 0.035, 0.62, side * 0.3 + 0.035, 0.76, 0.03)), dark)
    canvas.fill(frame.shapes(rounded(-0.29, 0.53, 0.29, 0.87, 0.11)), mix(metal, WHITE, 0.25), to=metal)
    canvas.fill(frame.shapes(rounded(-0.225, 0.59, 0.225, 0.81, 0.08)), INK)
    glow = rng.choice(((120, 240, 230), (255, 214, 120), (170, 240, 140)))
    for side in (-1, 1):
        canvas.fill(frame.shapes(ellipse(side * 0.1, 0.72, 0.042)), glow)
    canvas.fill(frame.shapes(*stroke(smooth([(-0.06, 0.655), (0, 0.635), (0.06, 0.655)], closed=False), 0.016)), glow)


def _fish(canvas: Canvas, frame: Frame, scales: Colour, rng: Random) -> None:
    fin = mix(scales, (255, 220, 150), 0.35)
    canvas.fill(frame.shapes(smooth(path("0.28,0.5 0.5,0.76 0.6,0.72 0.52,0.5 0.6,0.28 0.5,0.24"))), fin)
    canvas.fill(frame.shapes(smooth(path("-0.16,0.7 -0.02,0.9 0.18,0.84 0.2,0.62"))), fin)
    canvas.fill(frame.shapes(smooth(path("-0.08,0.32 0.06,0.14 0.18,0.2 0.14,0.36"))), fin)
    body = smooth(path("-0.5,0.5 -0.36,0.67 -0.1,0.76 0.16,0.66 0.36,0.52 0.36,0.48 0.16,0.34 -0.1,0.25 -0.36,0.34"))
    canvas.fill(frame.shapes(body), mix(scales, WHITE, 0.1), to=mix(scales, WHITE, 0.55))
    for x in (-0.12, 0.04, 0.18):
        half = 0.17 - abs(x + 0.05) * 0.3
        arc = smooth([(x, 0.5 + half), (x + 0.06, 0.5), (x, 0.5 - half)], closed=False)
        canvas.fill(frame.shapes(*stroke(arc, 0.03, end_width=0.015)), WHITE, opacity=0.5)
    canvas.fill(frame.shapes(ellipse(-0.33, 0.55, 0.05)), WHITE)
    canvas.fill(frame.shapes(ellipse(-0.34, 0.55, 0.03)), INK)
    for _ in range(4):
        bubble = ellipse(-0.56 + rng.uniform(-0.06, 0.04), rng.uniform(0.6, 1.0), rng.uniform(0.015, 0.035))
        canvas.fill(frame.shapes(bubble), WHITE, opacity=0.55)


CREATURES: Figures = {
    "cat": (_cat, ((236, 150, 72), (110, 112, 128), (66, 62, 80), (242, 230, 214), (170, 122, 88))),
    "dog": (_dog, ((214, 150, 90), (150, 104, 72), (232, 204, 160), (104, 100, 110))),
    "portrait": (_portrait, ((46, 110, 120), (214, 92, 84), (70, 72, 132), (240, 190, 90))),
    "robot": (_robot, ((120, 160, 180), (226, 140, 96), (140, 150, 200), (120, 176, 140))),
    "fish": (_fish, ((240, 124, 62), (66, 140, 190), (226, 92, 110))),
}
