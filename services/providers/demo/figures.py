"""What the figures of the demo painter share."""

import math
from collections.abc import Callable
from random import Random

from services.providers.demo.canvas import INK, WHITE, Canvas, Colour, Frame, Point, ellipse, mix

Painter = Callable[[Canvas, Frame, Colour, Random], None]
# Who draws it, and the colours it comes in when the prompt names none.
Figures = dict[str, tuple[Painter, tuple[Colour, ...]]]


def shadow(canvas: Canvas, frame: Frame, half: float) -> None:
    """The soft dark pool under a figure, `half` its width in figure coordinates."""
    canvas.fill(frame.shapes(ellipse(0, 0.005, half, half * 0.13)), INK, opacity=0.22)


def blossom(canvas: Canvas, centre: Point, size: float, colour: Colour, *, petals: int) -> None:
    x, y = centre
    for scale, shade in ((1.0, colour), (0.62, mix(colour, WHITE, 0.28))):
        shapes = [
            ellipse(
                x + math.cos(turn) * size * 0.6 * scale,
                y + math.sin(turn) * size * 0.6 * scale,
                size * 0.42 * scale,
                points=20,
            )
            for turn in (math.tau * index / petals + scale for index in range(petals))
        ]
        canvas.fill(shapes, shade)
    canvas.fill([ellipse(x, y, size * 0.3, points=20)], (255, 212, 96))
