"""The picture of the `demo` provider: an illustration drawn from the words of a prompt, without any model.

It lets the product be tried with no key, and says on its face that it is not the work of an AI model.
"""

import hashlib
import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from io import BytesIO
from random import Random

from PIL import Image, ImageDraw, ImageFont

from services.providers.demo.blending import blend, restyle
from services.providers.demo.canvas import WHITE, Canvas, Frame, ellipse, mix, rectangle
from services.providers.demo.creatures import CREATURES
from services.providers.demo.objects import OBJECTS
from services.providers.demo.palette import Reading, outdoor_palette, read_prompt, refined, studio_palette
from services.providers.demo.scenes import draw_ground, draw_meadow_flowers
from services.providers.demo.sky import Stage, draw_sky, draw_weather
from services.references.models import ReferenceImage

MARK = "DEMO · not made by an AI model"

# Beyond this the picture is drawn smaller and enlarged: its shapes are smooth, and 4K would cost four times as much.
_WORK_PIXELS = 4_600_000
_CAPTION_LETTERS = 400
_SMALLEST_TEXT = 4.0
_FIGURES = {**CREATURES, **OBJECTS}
_AIRBORNE = frozenset({"balloon", "rocket", "fish"})
_AFLOAT = frozenset({"boat", "fish", "balloon", "rocket"})
# Where a figure belongs when the prompt names no place; the others stand on a table.
_HOMES = {"boat": "sea", "balloon": "meadow", "house": "meadow", "rocket": "space", "tree": "meadow"}
_WILD_PLACES = ("meadow", "sea", "mountain", "forest", "desert", "city", "lake")


def draw(prompt: str, *, seed: int, width: int, height: int) -> bytes:
    """Draw `prompt` as a PNG of exactly `width` x `height` pixels.

    The same arguments give the same bytes in every process that runs the same Pillow release; the composition
    depends on prompt and seed alone, so a preview and its 4K version show the same scene.
    """
    return _finished(_scene(prompt, seed, width, height), prompt)


def draw_from(
    references: Sequence[ReferenceImage], prompt: str, *, seed: int, width: int, height: int, style_transfer: bool
) -> bytes:
    """A PNG made from images: of two the first in the colours of the second, else all of them over what `prompt`
    would be. Raises UnsupportedImage for one that cannot be decoded.
    """
    if style_transfer:
        return _finished(restyle(references, (width, height)), prompt)
    return _finished(blend(_scene(prompt, seed, width, height), references), prompt)


def draw_on(
    earlier: Sequence[str],
    references: Sequence[ReferenceImage],
    prompt: str,
    *,
    seed: int,
    width: int,
    height: int,
) -> bytes:
    """A PNG of what the `earlier` prompts have come to with this one: composed as for the first of them, and changed in
    what the later ones name. Raises UnsupportedImage.
    """
    prompts = [*earlier, prompt]
    scene = _painted(reduce(refined, map(read_prompt, prompts)), prompts[0], seed, width, height)
    return _finished(blend(scene, references) if references else scene, prompt)


def _scene(prompt: str, seed: int, width: int, height: int) -> Image.Image:
    return _painted(read_prompt(prompt), prompt, seed, width, height)


def _painted(reading: Reading, prompt: str, seed: int, width: int, height: int) -> Image.Image:
    """`prompt` and seed decide how what was read is laid out."""
    digest = hashlib.sha256(f"{seed}\n{prompt}".encode("utf-8", "surrogatepass")).digest()
    rng = Random(int.from_bytes(digest, "big"))
    scale = min(1.0, math.sqrt(_WORK_PIXELS / (width * height)))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    image = _compose(reading, rng, size)
    return image if size == (width, height) else image.resize((width, height), Image.Resampling.BICUBIC)


def _finished(image: Image.Image, prompt: str) -> bytes:
    _mark(image, prompt)
    out = BytesIO()
    image.save(out, "PNG", compress_level=1)
    return out.getvalue()


def _compose(reading: Reading, rng: Random, size: tuple[int, int]) -> Image.Image:
    subjects = reading.subjects
    outdoors = bool(reading.places or reading.times or reading.moods - {"flower"})
    if not outdoors and not subjects and "flower" in reading.moods:
        subjects = ("flower",)
    if subjects and not outdoors and not _HOMES.keys() & set(subjects):
        return _still_life(replace(reading, subjects=subjects), rng, size)
    return _landscape(reading, rng, size)


def _still_life(reading: Reading, rng: Random, size: tuple[int, int]) -> Image.Image:
    palette = studio_palette(reading, rng)
    canvas = Canvas(*size, palette.sky)
    unit, middle = canvas.unit, canvas.width / 2
    table = canvas.height / 2 + unit * 0.3
    canvas.glow((middle - unit * 0.3, table - unit * 0.75), unit * 1.1, palette.glow, strength=0.6)
    disc = (middle + rng.uniform(-0.1, 0.1) * unit, table - unit * 0.36)
    canvas.fill([ellipse(*disc, unit * 0.37, points=160)], mix(palette.far, WHITE, 0.18), to=palette.far)
    for _ in range(rng.randint(5, 8)):
        spot = (rng.uniform(0.04, 0.96) * canvas.width, rng.uniform(0.06, 0.9) * table)
        radius = unit * rng.uniform(0.008, 0.028)
        canvas.fill([ellipse(*spot, radius)], rng.choice(palette.accents), opacity=0.8)
    board = mix(palette.near, palette.sky[-1], 0.25)
    canvas.fill([rectangle(-2, table, canvas.width + 2, canvas.height + 2)], board, to=palette.near)
    canvas.fill([rectangle(-2, table, canvas.width + 2, table + unit * 0.008)], WHITE, opacity=0.25)
    _place_subjects(canvas, reading, rng, base=table + unit * 0.1, size=unit * 0.68)
    return canvas.image


def _landscape(reading: Reading, rng: Random, size: tuple[int, int]) -> Image.Image:
    width, height = size
    time = reading.times[0] if reading.times else _time_for(reading, rng)
    if not reading.places and "abstract" not in reading.moods:
        homes = [_HOMES.get(name, "meadow") for name in reading.subjects]
        reading = replace(reading, places=(homes[0] if homes else rng.choice(_WILD_PLACES),))
    if "sea" in reading.places and reading.subjects and reading.subjects[0] not in _AFLOAT:
        reading = replace(reading, places=(*reading.places, "beach"))
    palette = outdoor_palette(reading, time, rng)
    horizon = height * rng.uniform(0.52, 0.62)
    low = time in ("sunset", "dawn")
    light = (
        width * rng.choice((rng.uniform(0.2, 0.4), rng.uniform(0.6, 0.8))),
        horizon - min(width, height) * (rng.uniform(0.06, 0.2) if low else rng.uniform(0.28, 0.38)),
    )
    canvas = Canvas(width, height, palette.sky if "space" in reading.places else palette.sky[-1:] * 2)
    stage = Stage(canvas, palette, reading, rng, time, horizon, light)
    draw_sky(stage)
    draw_ground(stage)
    if "flower" in reading.moods or (reading.places == ("meadow",) and "snow" not in reading.moods):
        draw_meadow_flowers(stage)
    share = 0.46 if height >= width else 0.5
    _place_subjects(canvas, reading, rng, base=height * 0.9, size=canvas.unit * share)
    draw_weather(stage)
    return canvas.image


def _time_for(reading: Reading, rng: Random) -> str:
    if "space" in reading.places or "rocket" in reading.subjects or reading.moods & {"star", "moon", "aurora"}:
        return "night"
    if reading.moods & {"rain", "fog", "spring"}:
        return rng.choice(("day", "dawn"))
    return rng.choice(("day", "dawn", "sunset") if "snow" in reading.moods else ("day", "dawn", "sunset", "night"))


def _place_subjects(canvas: Canvas, reading: Reading, rng: Random, *, base: float, size: float) -> None:
    """At most two figures, the first one named in front."""
    names = [name for name in reading.subjects if name in _FIGURES][:2]
    if len(names) == 2:
        size = min(size * 0.8, canvas.width * 0.48)
    for index, name in reversed(list(enumerate(names))):
        painter, coats = _FIGURES[name]
        coat = reading.colours[index] if index < len(reading.colours) else rng.choice(coats)
        shift = 0.0 if len(names) == 1 else size * (-0.5 if index == 0 else 0.5)
        airborne = name in _AIRBORNE
        lean = rng.uniform(-0.12, 0.12) if airborne else 0.0
        frame = Frame(canvas.width / 2 + shift, base - canvas.unit * 0.14 * airborne, size, lean=lean)
        painter(canvas, frame, coat, rng)


def _mark(image: Image.Image, prompt: str) -> None:
    """Write the label, and the prompt where the font has its letters, on a translucent band in the lower left."""
    width, height = image.size
    text_size = max(10.0, min(width, height) * 0.024)
    font = ImageFont.load_default(text_size)
    room = width * 0.92
    if font.getlength(MARK) > room:
        text_size = max(_SMALLEST_TEXT, text_size * room / font.getlength(MARK))
        font = ImageFont.load_default(text_size)
    small = ImageFont.load_default(text_size * 0.82)
    caption = _caption(prompt, small, min(room, max(font.getlength(MARK), width * 0.5)))
    pad = text_size * 0.55
    lines = [(MARK, font), (caption, small)] if caption else [(MARK, font)]
    wide = max(line_font.getlength(line) for line, line_font in lines) + 2 * pad
    tall = text_size * (1.3 + 1.15 * (len(lines) - 1)) + pad
    box = (0, max(0, round(height - tall)), min(width, round(wide)), height)
    veil = Image.new("RGB", (box[2] - box[0], box[3] - box[1]), (12, 12, 20))
    image.paste(Image.blend(image.crop(box), veil, 0.62), box)
    pen = ImageDraw.Draw(image)
    y = box[1] + pad * 0.75
    for index, (line, line_font) in enumerate(lines):
        pen.text((pad, y), line, fill=WHITE if index == 0 else (214, 214, 222), font=line_font)
        y += text_size * 1.3


def _caption(prompt: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, room: float) -> str:
    """The prompt on one line, cut to `room` pixels; empty if the font lacks one of its characters."""
    text = " ".join(prompt.split())
    missing = bytes(font.getmask("\uffff"))
    if any(bytes(font.getmask(letter)) == missing for letter in sorted(set(text) - {" "})):
        return ""
    if len(text) <= _CAPTION_LETTERS and font.getlength(text) <= room:
        return text
    fits = bisect_right(range(1, _CAPTION_LETTERS), room, key=lambda length: font.getlength(f"{text[:length]}…"))
    return f"{text[:fits].rstrip()}…" if fits else ""
