"""A small antialiased canvas over Pillow, and the curves that the demo pictures are made of.

Coordinates are pixels of the canvas as floats, x to the right and y down. A shape is a list of polygons that are
filled as one, so that their overlaps don't show when the fill is translucent.
"""

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw

Colour = tuple[int, int, int]
Point = tuple[float, float]
Polygon = Sequence[Point]

WHITE: Colour = (255, 255, 255)
INK: Colour = (38, 34, 52)

_SMALL_AREA = 1 << 16
_CURVE_STEPS = 8


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """The colour `share` (0 to 1) of the way from `first` to `second`."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def gradient(size: tuple[int, int], stops: Sequence[Colour]) -> Image.Image:
    """A vertical gradient through evenly spaced stops, first stop on top."""
    rows = min(size[1], 512)
    column = bytearray()
    for row in range(rows):
        position = row / max(rows - 1, 1) * (len(stops) - 1)
        index = min(int(position), len(stops) - 2)
        column += bytes(mix(stops[index], stops[index + 1], position - index))
    strip = Image.frombytes("RGB", (1, rows), bytes(column))
    return strip.resize(size, Image.Resampling.BILINEAR)


class Canvas:
    """An RGB picture that takes antialiased shapes. `unit` is the shorter side, in pixels."""

    def __init__(self, width: int, height: int, background: Sequence[Colour]) -> None:
        self.width = width
        self.height = height
        self.unit = min(width, height)
        self.image = gradient((width, height), background)

    def fill(
        self, polygons: Sequence[Polygon], colour: Colour, *, to: Colour | None = None, opacity: float = 1.0
    ) -> None:
        """Fill the union of the polygons; with `to`, fade from `colour` on top to `to` at the bottom."""
        xs = [x for polygon in polygons for x, _ in polygon]
        ys = [y for polygon in polygons for _, y in polygon]
        left, right = max(0, math.floor(min(xs))), min(self.width, math.ceil(max(xs)) + 1)
        top, bottom = max(0, math.floor(min(ys))), min(self.height, math.ceil(max(ys)) + 1)
        if left >= right or top >= bottom:
            return
        size = (right - left, bottom - top)
        # Only the mask is supersampled: one byte a pixel, and no larger than the shape.
        factor = 4 if size[0] * size[1] <= _SMALL_AREA else 2
        mask = Image.new("L", (size[0] * factor, size[1] * factor))
        pen = ImageDraw.Draw(mask)
        for polygon in polygons:
            pen.polygon([((x - left) * factor, (y - top) * factor) for x, y in polygon], fill=255)
        mask = mask.reduce(factor)
        if opacity < 1:
            mask = mask.point([round(level * opacity) for level in range(256)])
        if to is None:
            self.image.paste(colour, (left, top, right, bottom), mask)
            return
        span = max(max(ys) - min(ys), 1)
        first, last = (min(max((edge - min(ys)) / span, 0.0), 1.0) for edge in (top, bottom))
        self.image.paste(gradient(size, (mix(colour, to, first), mix(colour, to, last))), (left, top), mask)

    def glow(self, centre: Point, radius: float, colour: Colour, *, strength: float) -> None:
        """A soft disc of light that fades to nothing at `radius`."""
        disc = Image.radial_gradient("L")
        # Pillow's gradient ends in the corners; ours must be gone at the edge, or the square would show.
        edge = min(disc.crop((0, 0, 256, 1)).tobytes()) - 1
        light = disc.point([round(255 * strength * max(0, 1 - level / edge) ** 2) for level in range(256)])
        diameter = max(2, round(radius * 2))
        left, top = round(centre[0] - radius), round(centre[1] - radius)
        box = (max(left, 0), max(top, 0), min(left + diameter, self.width), min(top + diameter, self.height))
        if box[0] >= box[2] or box[1] >= box[3]:
            return
        scale = 256 / diameter
        source = (
            (box[0] - left) * scale,
            (box[1] - top) * scale,
            (box[2] - left) * scale,
            (box[3] - top) * scale,
        )
        mask = light.resize((box[2] - box[0], box[3] - box[1]), Image.Resampling.BICUBIC, source)
        self.image.paste(colour, box, mask)


class Frame:
    """Places a figure: its own coordinates have the base line at y = 0, the top at y = 1, and x = 0 in the middle."""

    def __init__(self, centre: float, base: float, size: float, *, lean: float = 0.0) -> None:
        self.size = size
        self._centre = centre
        self._base = base
        self._cos, self._sin = math.cos(lean), math.sin(lean)

    def points(self, local: Polygon) -> list[Point]:
        """Figure coordinates to canvas coordinates; `lean` turns about the middle of the base line."""
        return [
            (
                self._centre + (x * self._cos + y * self._sin) * self.size,
                self._base - (y * self._cos - x * self._sin) * self.size,
            )
            for x, y in local
        ]

    def shapes(self, *locals_: Polygon) -> list[Polygon]:
        return [self.points(local) for local in locals_]


def ellipse(x: float, y: float, radius_x: float, radius_y: float | None = None, *, points: int = 64) -> list[Point]:
    """A polygon that passes for an ellipse; a circle without `radius_y`."""
    radius_y = radius_x if radius_y is None else radius_y
    turns = (math.tau * index / points for index in range(points))
    return [(x + math.cos(turn) * radius_x, y + math.sin(turn) * radius_y) for turn in turns]


def rectangle(left: float, top: float, right: float, bottom: float) -> list[Point]:
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def rounded(left: float, low: float, right: float, high: float, radius: float) -> list[Point]:
    """A rectangle with round corners."""
    east, west, north, south = right - radius, left + radius, high - radius, low + radius
    corners = ((east, north), (west, north), (west, south), (east, south))
    return [
        (x + math.cos(turn) * radius, y + math.sin(turn) * radius)
        for quarter, (x, y) in enumerate(corners)
        for turn in (math.pi / 2 * (quarter + step / 6) for step in range(7))
    ]


def path(text: str) -> list[Point]:
    """Points written as in an SVG: "x,y x,y"."""
    pairs = (pair.split(",") for pair in text.split())
    return [(float(x), float(y)) for x, y in pairs]


def flipped(points: Polygon, side: int) -> list[Point]:
    """The points as they are for side 1, mirrored for side -1."""
    return [(x * side, y) for x, y in points]


def smooth(points: Polygon, *, closed: bool = True) -> list[Point]:
    """A Catmull-Rom curve through the points."""
    count = len(points)
    curve: list[Point] = []
    for index in range(count if closed else count - 1):
        if closed:
            p0, p1, p2, p3 = (points[(index + offset) % count] for offset in (-1, 0, 1, 2))
        else:
            p0, p1, p2, p3 = (points[min(max(index + offset, 0), count - 1)] for offset in (-1, 0, 1, 2))
        for step in range(_CURVE_STEPS):
            t = step / _CURVE_STEPS
            curve.append((_spline(p0[0], p1[0], p2[0], p3[0], t), _spline(p0[1], p1[1], p2[1], p3[1], t)))
    return curve if closed else [*curve, points[-1]]


def _spline(a: float, b: float, c: float, d: float, t: float) -> float:
    return 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t * t + (3 * b - a - 3 * c + d) * t**3)


def stroke(points: Polygon, width: float, *, end_width: float | None = None) -> list[Polygon]:
    """A line with round ends and joints, optionally tapering to `end_width`, as polygons to fill together."""
    end_width = width if end_width is None else end_width
    last = len(points) - 1
    radii = [(width + (end_width - width) * index / last) / 2 for index in range(last + 1)]
    shapes: list[Polygon] = [
        ellipse(x, y, radius, points=16) for (x, y), radius in zip(points, radii, strict=True) if radius > 0
    ]
    for index in range(last):
        (x1, y1), (x2, y2) = points[index], points[index + 1]
        length = math.hypot(x2 - x1, y2 - y1) or 1.0
        nx, ny = (y1 - y2) / length, (x2 - x1) / length
        r1, r2 = radii[index], radii[index + 1]
        shapes.append(
            [
                (x1 + nx * r1, y1 + ny * r1),
                (x2 + nx * r2, y2 + ny * r2),
                (x2 - nx * r2, y2 - ny * r2),
                (x1 - nx * r1, y1 - ny * r1),
            ]
        )
    return shapes
