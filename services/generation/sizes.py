"""Sizes in pixels, for callers who think in them: which ratio and resolution of a model are meant."""

import itertools
import math

from core.errors import FieldProblem, ValidationFailed
from services.providers.base import Model

# The side of a square of each resolution, in pixels; other ratios have as many pixels.
SIDES = {"512": 512, "1K": 1024, "2K": 2048, "4K": 4096}
RATIO_TOLERANCE = 0.02
# A provider's own sizes are not exactly these; what is further off is another size.
AREA_TOLERANCE = 1.25
GRAIN = 16


def meant_by(model: Model, width: int, height: int) -> tuple[str, str]:
    """Ratio and resolution. Raises ValidationFailed, with the sizes that the model makes, for any other one."""
    ratio = min(model.aspect_ratios, key=lambda known: _off(width / height, _quotient(known)))
    resolution = min(_sided(model), key=lambda known: _off(width * height, SIDES[known] ** 2))
    fits = _off(width / height, _quotient(ratio)) <= 1 + RATIO_TOLERANCE
    if not fits or _off(width * height, SIDES[resolution] ** 2) > AREA_TOLERANCE:
        allowed = tuple(_text(*pair) for pair in itertools.product(model.aspect_ratios, _sided(model)))
        raise ValidationFailed([FieldProblem(field, "not_allowed", allowed=allowed) for field in ("width", "height")])
    return ratio, resolution


def _sided(model: Model) -> list[str]:
    return [resolution for resolution in model.resolutions if resolution in SIDES]


def _off(value: float, wanted: float) -> float:
    """How many times too large or too small."""
    return max(value / wanted, wanted / value)


def _quotient(ratio: str) -> float:
    width, _, height = ratio.partition(":")
    return int(width) / int(height)


def _text(ratio: str, resolution: str) -> str:
    stretch, side = math.sqrt(_quotient(ratio)), SIDES[resolution]
    width, height = (round(length / GRAIN) * GRAIN for length in (side * stretch, side / stretch))
    return f"{width}x{height}"
