"""Thumbnails of everything that can lie in storage, made once by however many processes, in little memory."""

import asyncio
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.faults.support import SpareApi, plain_client
from tests.history.shelf import make
from tests.support.installation import Installation
from tests.support.service import Guest, RunningService
from tests.support.waiting import eventually

RED, BLUE, NOTHING = (255, 0, 0), (0, 0, 255), (0, 0, 0, 0)
FAR_OFF = 24  # how far a colour may be from what it was: WebP keeps colours at half the size


@pytest.fixture
async def guest(shelf: RunningService) -> Guest:
    return await shelf.guest()


async def store(service: RunningService, guest: Guest, content: bytes) -> str:
    """An image whose stored bytes are these, as an import could have brought them."""
    (image_id,) = await make(guest, 1)
    key = (await service.container.history.get(guest.id, image_id)).key
    (service.storage_dir / key).write_bytes(content)
    return image_id


def encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    target = io.BytesIO()
    picture.save(target, kind, **options)
    return target.getvalue()


def palette(first: tuple[int, int, int]) -> Image.Image:
    picture = Image.new("P", (800, 400), 0)
    picture.putpalette([*first, *BLUE, *(0, 255, 0) * 254])
    return picture


PICTURES: dict[str, tuple[Callable[[], bytes], tuple[int, ...]]] = {
    "png": (lambda: encoded(Image.new("RGB", (800, 400), RED), "PNG"), RED),
    "png, transparent": (lambda: encoded(Image.new("RGBA", (800, 400), NOTHING), "PNG"), NOTHING),
    "png, palette": (lambda: encoded(palette(RED), "PNG"), RED),
    "png, palette, transparent": (lambda: encoded(palette(RED), "PNG", transparency=0), NOTHING),
    "png, one bit": (lambda: encoded(Image.new("1", (800, 400), 1), "PNG"), (255, 255, 255)),
    "png, grey": (lambda: encoded(Image.new("L", (800, 400), 100), "PNG"), (100, 100, 100)),
    "png, grey, 16 bits": (lambda: encoded(Image.new("I;16", (800, 400), 100 * 256), "PNG"), (100, 100, 100)),
    "jpeg": (lambda: encoded(Image.new("RGB", (800, 400), RED), "JPEG"), RED),
    "jpeg, grey": (lambda: encoded(Image.new("L", (800, 400), 100), "JPEG"), (100, 100, 100)),
    "jpeg, cmyk": (lambda: encoded(Image.new("CMYK", (800, 400), (0, 255, 255, 0)), "JPEG"), RED),
    "webp": (lambda: encoded(Image.new("RGB", (800, 400), RED), "WEBP"), RED),
    "webp, transparent": (lambda: encoded(Image.new("RGBA", (800, 400), NOTHING), "WEBP"), NOTHING),
    "gif": (lambda: encoded(palette(RED), "GIF"), RED),
    "gif, animated": (
        lambda: encoded(palette(RED), "GIF", save_all=True, append_images=[palette(BLUE), palette(BLUE)]),
        RED,
    ),
    "webp, animated": (
        lambda: encoded(
            Image.new("RGB", (800, 400), RED), "WEBP", save_all=True, append_images=[Image.new("RGB", (800, 400), BLUE)]
        ),
        RED,
    ),
}


@pytest.mark.parametrize("name", PICTURES)
async def test_every_kind_of_picture_has_one_that_looks_like_its_first_frame(
    shelf: RunningService, guest: Guest, name: str
) -> None:
    make_bytes, colour = PICTURES[name]
    image_id = await store(shelf, guest, make_bytes())
    response = await guest.client.get(f"/api/images/{image_id}/thumbnail")
    assert response.status_code == 200, response.text
    small = Image.open(io.BytesIO(response.content))
    assert (small.format, small.size, getattr(small, "n_frames", 1)) == ("WEBP", (400, 200), 1)
    assert len(small.getbands()) == len(colour)
    seen = small.getpixel((200, 100))
    assert isinstance(seen, tuple)
    assert all(abs(is_ - was) < FAR_OFF for is_, was in zip(seen, colour, strict=True)), seen


@pytest.mark.parametrize(
    "content",
    [b"", b"GIF89a", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"\x89PNG\r\n\x1a\n" + b"\0" * 100,
     encoded(Image.new("RGB", (50, 50)), "BMP"), encoded(Image.new("RGB", (50, 50)), "TIFF")],
    ids=["empty", "cut", "svg", "broken", "bmp", "tiff"],
)  # fmt: skip
async def test_what_is_no_picture_that_we_store_has_none(shelf: RunningService, guest: Guest, content: bytes) -> None:
    image_id = await store(shelf, guest, content)
    assert (await guest.client.get(f"/api/images/{image_id}/thumbnail")).status_code == 404
    assert shelf.stored("thumbnails/**/*") == []


async def test_a_picture_over_the_limit_of_pixels_is_not_decoded(shelf: RunningService, guest: Guest) -> None:
    """Some kilobytes that would be 64 million pixels."""
    image_id = await store(shelf, guest, encoded(Image.new("1", (8000, 8000)), "PNG"))
    assert (await guest.client.get(f"/api/images/{image_id}/thumbnail")).status_code == 404
    assert shelf.stored("thumbnails/**/*") == []


async def test_the_loop_is_free_while_large_pictures_are_shrunk(shelf: RunningService, guest: Guest) -> None:
    """Others are answered before the pictures are there."""
    large = encoded(Image.effect_noise((3000, 3000), 60).convert("RGB"), "PNG", compress_level=1)
    ids = [await store(shelf, guest, large) for _ in range(8)]
    making = asyncio.gather(*(guest.client.get(f"/api/images/{image_id}/thumbnail") for image_id in ids))
    answered = 0
    while not making.done():
        assert (await shelf.client.get("/api/health/live")).status_code == 200
        answered += 1
    assert {response.status_code for response in await making} == {200}
    assert answered > 2 * len(ids), "a blocked loop answers once between two pictures"


async def test_two_processes_that_make_the_same_one_leave_one(
    shelf: RunningService, guest: Guest, tmp_path: Path, redis_url: str
) -> None:
    noise = encoded(Image.effect_noise((2000, 1500), 60).convert("RGB"), "PNG", compress_level=1)
    ids = [await store(shelf, guest, noise) for _ in range(6)]
    spares = [SpareApi(Installation(tmp_path), {"REDIS_URL": redis_url}) for _ in range(2)]
    headers = {"Authorization": guest.client.headers["authorization"]}
    try:
        clients = [plain_client(spare.url, headers) for spare in spares]
        for client in clients:
            assert (await client.get("/api/auth/me")).status_code == 200
        answers: list[httpx.Response] = await asyncio.gather(
            *(client.get(f"/api/images/{image_id}/thumbnail") for image_id in ids for client in clients)
        )
        for client in clients:
            await client.aclose()
    finally:
        for spare in spares:
            spare.close()
    assert {answer.status_code for answer in answers} == {200}
    assert len(shelf.stored("thumbnails/**/*")) == len(ids)
    assert list((shelf.data_dir / "spool").iterdir()) == []
    for first, second in zip(answers[::2], answers[1::2], strict=True):
        assert first.content == second.content


async def test_many_large_jpegs_at_once_take_little_memory(
    shelf: RunningService, guest: Guest, tmp_path: Path, redis_url: str
) -> None:
    """24 million pixels each, which whole would be 96 MB; a JPEG is decoded at a fraction of its size."""
    photo = encoded(Image.effect_noise((1500, 1000), 30).resize((6000, 4000)).convert("RGB"), "JPEG", quality=60)
    ids = [await store(shelf, guest, photo) for _ in range(12)]
    spare = SpareApi(Installation(tmp_path), {"REDIS_URL": redis_url})
    try:
        async with plain_client(spare.url, {"Authorization": guest.client.headers["authorization"]}) as client:
            assert (await client.get("/api/auth/me")).status_code == 200
            before, most = spare.memory(), 0
            making = asyncio.gather(*(client.get(f"/api/images/{image_id}/thumbnail") for image_id in ids))

            async def watched() -> bool:
                nonlocal most
                most = max(most, spare.memory())
                return making.done()

            assert await eventually(watched, 60)
            assert {answer.status_code for answer in await making} == {200}
    finally:
        spare.close()
    assert most - before < 80 * 2**20, f"{(most - before) / 2**20:.0f} MB"
    assert shelf.stored("thumbnails/**/*")[0].stat().st_size < 50_000
