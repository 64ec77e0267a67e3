"""Images are known by their structure, each format to its own end, and nothing is decoded for it."""

import os
import random
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from services.references.errors import UnsupportedImage
from services.references.models import Limits, ReferenceImage
from services.references.service import MAX_FRAMES, MIME_TYPES, check_all, first_frame
from services.references.walk import MAX_STEPS, Refused
from tests.references import pictures
from tests.references.pictures import animation, picture

LIMITS = Limits(20 * 1024 * 1024, 50_000_000, MAX_FRAMES)

HONEST = {
    "png": picture("PNG"),
    "png whose pixels nobody reads": pictures.png_claiming(8, 8, b"x"),
    "png with texts": pictures.with_metadata(),
    "animated png": animation("PNG", 3),
    "jpeg": picture("JPEG"),
    "progressive jpeg": picture("JPEG", progressive=True, quality=95),
    "jpeg with restarts": picture("JPEG", (200, 100), restart_marker_blocks=2),
    "jpeg with exif": pictures.phone_photo()[1],
    "gif": picture("GIF"),
    "animated gif": animation("GIF", 5),
    "lossy webp": picture("WEBP"),
    "lossless webp": picture("WEBP", lossless=True),
    "webp with metadata": picture("WEBP", xmp=b"<x/>"),
    "animated webp": animation("WEBP", 4),
    "one pixel": pictures.plain((0, 0, 0), (1, 1)),
    "frames at the limit": pictures.gif_of(MAX_FRAMES),
    "pixels at the limit": pictures.png_claiming(10_000, 5_000, b"x"),
}
REFUSED = {
    "empty": (b"", "image_empty"),
    "text": (b"This is a text file that is called PNG.\n" * 50, "image_format"),
    "svg": (pictures.SVG, "image_format"),
    "xml": (b'<?xml version="1.0"?>' + pictures.SVG, "image_format"),
    "html": (pictures.HTML, "image_format"),
    "bmp": (picture("BMP"), "image_format"),
    "tiff": (picture("TIFF"), "image_format"),
    "avif": (picture("AVIF"), "image_format"),
    "heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100), "image_format"),
    "pdf": (b"%PDF-1.7\n" + bytes(100), "image_format"),
    "zip": (pictures.ZIP, "image_format"),
    "wav": (b"RIFF\x24\0\0\0WAVEfmt " + bytes(40), "image_format"),
    "png and zip": (picture("PNG") + pictures.ZIP, "image_trailing_data"),
    "gif and html": (picture("GIF") + pictures.HTML, "image_trailing_data"),
    "webp and html": (picture("WEBP") + pictures.HTML, "image_trailing_data"),
    "png and one byte": (picture("PNG") + b"\0", "image_trailing_data"),
    "png bomb": (pictures.png_claiming(20_000, 20_000, b"x"), "image_pixels"),
    "one pixel too many": (pictures.png_claiming(50_000_001, 1, b"x"), "image_pixels"),
    "widest png": (pictures.png_claiming(2**31 - 1, 2**31 - 1, b"x"), "image_pixels"),
    "webp bomb": (pictures.webp_claiming(16_384, 16_384), "image_pixels"),
    "jpeg bomb": (picture("JPEG").replace(b"\x00\x30\x00\x40\x03", b"\xff\xff\xff\xff\x03"), "image_pixels"),
    "gif bomb": (pictures.gif_of(1, (65_535, 65_535)), "image_pixels"),
    "gif of pixels that add up": (pictures.gif_of(101, (1000, 500)), "image_pixels"),
    "gif of 10,000 frames": (pictures.gif_of(10_000), "image_frames"),
    "animated png of 10,000 frames": (pictures.apng_claiming(10_000), "image_frames"),
    "no width": (pictures.png_claiming(0, 9, b"x"), "image_damaged"),
    "gif without a frame": (pictures.gif_of(0), "image_damaged"),
    "gif of crumbs": (pictures.gif_of_crumbs(2 * MAX_STEPS + 100), "image_intricate"),
    "jpeg of 1,000 scans": (pictures.jpeg_of_scans(1000), "image_intricate"),
    "png of crumbs": (
        picture("PNG")[:33] + pictures.chunk(b"tEXt", b"") * (MAX_STEPS // 4 + 1) + picture("PNG")[33:],
        "image_intricate",
    ),
    "jpeg of nothing but filling": (picture("JPEG")[:-2] + b"\xff" * 1_000_000, "image_damaged"),
    "jpeg without a picture": (b"\xff\xd8\xff\xd9", "image_damaged"),
    "two pictures in one jpeg": (picture("JPEG")[:-2] + picture("JPEG"), "image_damaged"),
    "png without pixels": (picture("PNG")[:33] + pictures.chunk(b"IEND", b""), "image_damaged"),
    "png without a header": (picture("PNG")[:8] + picture("PNG")[33:], "image_damaged"),
}


def checked(folder: Path, *contents: bytes, limits: Limits = LIMITS) -> list[ReferenceImage]:
    paths = []
    for index, content in enumerate(contents):
        path = folder / str(index)
        path.write_bytes(content)
        paths.append(path)
    return check_all(paths, limits)


def reason(folder: Path, content: bytes) -> str:
    with pytest.raises(UnsupportedImage) as refused:
        checked(folder, content)
    fields: Any = refused.value.details["fields"]
    (field,) = fields
    assert field["field"] == "images.0"
    return str(field["reason"])


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_image_is_taken_for_what_it_is(tmp_path: Path, name: str) -> None:
    content = HONEST[name]
    (found,) = checked(tmp_path, content)
    with Image.open(tmp_path / "0") as picture:
        assert (found.width, found.height) == picture.size
        assert found.mime_type == Image.MIME[picture.format or ""]
        assert found.frames == getattr(picture, "n_frames", 1)
    assert found.size == len(content)
    assert found.path.read_bytes() == content


def test_every_format_that_we_name_is_tried(tmp_path: Path) -> None:
    assert {checked(tmp_path, content)[0].mime_type for content in HONEST.values()} == set(MIME_TYPES)


@pytest.mark.parametrize("name", REFUSED)
def test_a_hostile_image_is_refused_with_its_reason(tmp_path: Path, name: str) -> None:
    content, expected = REFUSED[name]
    assert reason(tmp_path, content) == expected


def test_every_reason_that_there_is_is_tried() -> None:
    sources = Path("services/references").glob("*.py")
    named = {part for path in sources for part in path.read_text(encoding="utf-8").split('"') if part[:6] == "image_"}
    assert named == {expected for _, expected in REFUSED.values()} | {"image_truncated", "image_bytes"}


@pytest.mark.parametrize("name", ["png", "animated png", "progressive jpeg", "animated gif", "lossy webp"])
def test_an_image_cut_off_anywhere_is_refused(tmp_path: Path, name: str) -> None:
    content = HONEST[name]
    for length in range(12, len(content)):
        assert reason(tmp_path, content[:length]) == "image_truncated", length


@pytest.mark.parametrize("name", ["png", "png with texts", "animated png"])
def test_any_changed_byte_of_a_png_is_seen(tmp_path: Path, name: str) -> None:
    content = HONEST[name]
    for position in range(len(content)):
        changed = content[:position] + bytes([content[position] ^ 0x20]) + content[position + 1 :]
        assert reason(tmp_path, changed).startswith("image_"), position


@pytest.mark.parametrize("name", HONEST)
def test_damage_is_refused_or_lets_pass_but_never_breaks_us(tmp_path: Path, name: str) -> None:
    chance = random.Random(name)
    content = HONEST[name]
    for _ in range(300):
        damaged = bytearray(content)
        for _ in range(chance.randint(1, 8)):
            damaged[chance.randrange(len(damaged))] = chance.choice((0, 1, 0x7F, 0xFF, chance.randrange(256)))
        path = tmp_path / "0"
        path.write_bytes(damaged)
        try:
            (found,) = check_all([path], LIMITS)
        except UnsupportedImage:
            continue
        assert 0 < found.width * found.height * found.frames <= LIMITS.pixels


def test_what_a_phone_writes_behind_a_photo_is_cut_off(tmp_path: Path) -> None:
    photo, image = pictures.phone_photo()
    (found,) = checked(tmp_path, photo)
    assert found.path.read_bytes() == image
    assert found.size == len(image)


def test_all_that_is_wrong_is_named_by_its_index(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedImage) as refused:
        checked(tmp_path, picture("PNG"), b"text", picture("GIF"), b"", pictures.png_claiming(20_000, 20_000, b"x"))
    assert refused.value.details["fields"] == [
        {"field": "images.1", "reason": "image_format", "allowed": list(MIME_TYPES)},
        {"field": "images.3", "reason": "image_empty"},
        {"field": "images.4", "reason": "image_pixels", "limit": LIMITS.pixels},
    ]


def test_steps_are_shared_by_all_images_of_a_request(tmp_path: Path) -> None:
    """14 files that are each just about allowed would otherwise take 14 times as long."""
    crumbs = pictures.gif_of_crumbs(2 * (MAX_STEPS - 100))
    assert checked(tmp_path, crumbs)
    with pytest.raises(UnsupportedImage):
        checked(tmp_path, crumbs, crumbs)


def test_the_header_alone_decides_about_a_bomb(tmp_path: Path) -> None:
    """A sparse file, 200 MB long, of which only the head is there."""
    path = tmp_path / "bomb"
    path.write_bytes(pictures.png_claiming(20_000, 20_000, b"")[:33])
    os.truncate(path, 200_000_000)
    with pytest.raises(UnsupportedImage, match="image_pixels"):
        check_all([path], LIMITS)


@pytest.mark.parametrize("lossless", [True, False])
def test_the_first_frame_of_a_damaged_animation_is_sound_or_refused(tmp_path: Path, lossless: bool) -> None:
    chance = random.Random(lossless)
    path, target, content = tmp_path / "0", tmp_path / "still", pictures.sticker(lossless=lossless)
    for _ in range(1000):
        damaged = bytearray(content)
        for _ in range(chance.randint(1, 4)):
            damaged[chance.randrange(len(damaged))] = chance.choice((0, 1, 0x7F, 0xFF, chance.randrange(256)))
        path.write_bytes(damaged)
        try:
            (found,) = check_all([path], LIMITS)
            still = first_frame(found, target, LIMITS)
        except (UnsupportedImage, Refused):
            assert not target.exists()
            continue
        assert check_all([target], LIMITS) == [still]
        target.unlink()
