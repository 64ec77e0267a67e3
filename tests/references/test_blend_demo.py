"""Blend without a key: the demo provider's pictures show the images that they are made from, and say what they are."""

from typing import Any

import httpx
from PIL import Image

from tests.references import pictures
from tests.references.asking import blend, made
from tests.references.pictures import BLUE, RED, opened, picture, plain
from tests.support.answers import error_of, fields_of
from tests.support.service import Guest, RunningService


def letters(image: Image.Image) -> bytes:
    """What is white in the lower left, where the label stands."""
    return image.crop((0, 1270, 500, 1344)).convert("L").point([0] * 250 + [255] * 6).tobytes()


async def picture_of(guest: Guest, response: httpx.Response) -> Any:
    data = made(response)
    assert (data["provider"], data["width"], data["height"]) == ("demo", 1344, 1344)
    return opened((await guest.client.get(data["image_url"])).content).convert("RGB")


async def test_each_image_can_be_seen_in_its_place(service: RunningService) -> None:
    guest = await service.guest()
    image = await picture_of(guest, await blend(guest, plain(RED), plain(BLUE, kind="JPEG")))
    assert image.getpixel((336, 500)) == RED
    assert all(abs(a - b) < 4 for a, b in zip(image.getpixel((1008, 500)), BLUE, strict=True))
    alone = await guest.image("both in one", aspect_ratio="1:1")
    drawn = opened((await guest.client.get(alone["image_url"])).content)
    assert letters(image) == letters(drawn) != bytes(500 * 74), "the label"


async def test_sixteen_bits_of_grey_are_not_taken_for_white(service: RunningService) -> None:
    guest = await service.guest()
    image = await picture_of(guest, await blend(guest, pictures.deep_grey(0.25), plain(RED)))
    assert all(abs(part - 64) < 3 for part in image.getpixel((336, 500)))


async def test_an_image_wider_or_higher_than_its_place_keeps_its_middle(service: RunningService) -> None:
    guest = await service.guest()
    for sides in ((3000, 90), (90, 3000)):
        image = await picture_of(guest, await blend(guest, plain(RED, sides), plain(BLUE)))
        assert image.getpixel((336, 500)) == RED


async def test_style_gives_the_first_image_the_colours_of_the_second(service: RunningService) -> None:
    guest = await service.guest()
    ramp = picture("PNG", (256, 256), (255, 255, 255))
    image = await picture_of(guest, await blend(guest, ramp, plain(BLUE), mode="style"))
    top, bottom = image.getpixel((600, 60)), image.getpixel((600, 1200))
    assert all(pixel[2] > pixel[0] + 60 for pixel in (top, bottom)), "blue"
    assert sum(bottom) > sum(top), "still a ramp"


async def test_an_image_that_only_looks_like_one_is_refused_and_costs_nothing(
    service: RunningService,
) -> None:
    guest = await service.guest()
    response = await blend(guest, plain(RED), pictures.png_claiming(64, 64, b"no pixels"))
    (field,) = error_of(response, 400, "UNSUPPORTED_IMAGE")["details"]["fields"]
    assert (field["field"], field["reason"]) == ("images.1", "image_damaged")
    assert await guest.used() == 0


async def test_the_estimate_knows_the_mode(service: RunningService) -> None:
    guest = await service.guest()
    for mode in ("blend", "style", "search"):
        for query, cost in (("provider=gemini&count=3", 0.402), ("", 0.0)):
            response = await guest.client.get(f"/api/generate/estimate?mode={mode}&{query}")
            assert response.json()["data"]["total_cost"] == cost
        refused = await guest.client.get(f"/api/generate/estimate?mode={mode}&resolution=2K")
        assert fields_of(refused)["resolution"]["allowed"] == ["1K"]
    query = "mode=blend&provider=gemini&model=gemini-3.1-flash-lite-image"
    assert fields_of(await guest.client.get(f"/api/generate/estimate?{query}"))["model"]
