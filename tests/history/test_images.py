"""The bytes of images and thumbnails over HTTP: who may open them, caching, ranges."""

import asyncio
import base64
import io
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import orjson
import pytest
from PIL import Image

from benchmarks.gemini_standin import GeminiStandin
from tests.conftest import OpenService
from tests.history.shelf import WIDE, image_files
from tests.providers.upstream import answer_with, upstream_saying
from tests.support.service import Guest, RunningService

MISSING = "img_" + "0" * 26
Get = Callable[..., Awaitable[httpx.Response]]


@dataclass(frozen=True)
class Made:
    """An image, its owner, its links, and its bytes as they lie in storage."""

    owner: Guest
    id: str
    link: str
    thumbnail: str
    content: bytes


@pytest.fixture
async def made(shelf: RunningService) -> Made:
    owner = await shelf.guest()
    data = await owner.image()
    (path,) = [path for path in image_files(shelf) if path.suffix == ".png"]
    return Made(owner, data["history_id"], data["image_url"], data["thumbnail_url"], path.read_bytes())


@pytest.fixture
def fetch(shelf: RunningService, made: Made) -> Get:
    """GET the image by its link, with these headers; nobody is signed in."""

    async def get(**headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await shelf.client.get(made.link, headers=named)

    return get


def picture_of(response: httpx.Response) -> Image.Image:
    return Image.open(io.BytesIO(response.content))


async def test_a_signed_link_opens_without_a_header(shelf: RunningService, made: Made, fetch: Get) -> None:
    response = await fetch()
    assert (response.status_code, response.content) == (200, made.content)
    assert response.headers["content-type"] == "image/png"
    assert response.headers["content-length"] == str(len(made.content))
    assert (await shelf.client.get(made.thumbnail)).status_code == 200


async def test_without_a_signature_or_a_token_nothing_opens(shelf: RunningService, made: Made) -> None:
    for image_id in (made.id, MISSING):
        for path in (f"/api/images/{image_id}", f"/api/images/{image_id}/thumbnail"):
            assert (await shelf.client.get(path)).status_code == 401
            assert (await shelf.client.get(path, params={"exp": "9999999999"})).status_code == 401


async def test_a_changed_link_does_not_open(shelf: RunningService, made: Made) -> None:
    other = await made.owner.image()
    query = {name: values[0] for name, values in parse_qs(urlsplit(made.link).query).items()}
    foreign = {name: values[0] for name, values in parse_qs(urlsplit(other["image_url"]).query).items()}
    first = "A" if query["sig"][0] != "A" else "B"
    for changed in (
        {**query, "exp": str(int(query["exp"]) + 1)},
        {**query, "sig": first + query["sig"][1:]},
        {**query, "sig": query["sig"][:-1]},
        {**query, "sig": query["sig"] + "="},
        {**query, "sig": ""},
        {**query, "sig": "图"},
        {**query, "sig": foreign["sig"]},
        {"sig": query["sig"]},
    ):
        for path in (f"/api/images/{made.id}", f"/api/images/{made.id}/thumbnail"):
            assert (await shelf.client.get(path, params=changed)).status_code == 401, changed


async def test_a_link_ends_after_its_time(open_service: OpenService, gemini: GeminiStandin) -> None:
    gemini.configure(pixels=(64, 48))
    service = await open_service(GOOGLE_GEMINI_BASE_URL=gemini.url, IMAGE_URL_TTL_SECONDS="1", **WIDE)
    guest = await service.guest()
    link = (await guest.image())["image_url"]
    expires_at = int(parse_qs(urlsplit(link).query)["exp"][0])
    assert expires_at <= time.time() + 1
    await asyncio.sleep(max(0.0, expires_at - time.time()) + 0.01)
    assert (await service.client.get(link)).status_code == 401
    assert (await guest.client.get(urlsplit(link).path)).status_code == 200


async def test_a_list_loaded_twice_has_the_same_links(made: Made) -> None:
    lists = [(await made.owner.history())["items"] for _ in range(2)]
    assert lists[0] == lists[1]


async def test_the_owners_token_opens_and_anothers_is_404(shelf: RunningService, made: Made) -> None:
    stranger = await shelf.guest()
    for path in (f"/api/images/{made.id}", f"/api/images/{made.id}/thumbnail"):
        assert (await made.owner.client.get(path)).status_code == 200
        assert (await stranger.client.get(path)).status_code == 404
    assert (await made.owner.client.get(f"/api/images/{MISSING}")).status_code == 404


async def test_what_is_cached_is_not_sent_again(shelf: RunningService, made: Made, fetch: Get) -> None:
    for link in (made.link, made.thumbnail):
        first = await shelf.client.get(link)
        assert first.headers["cache-control"] == "private, max-age=31536000, immutable"
        etag = first.headers["etag"]
        for given in (etag, f"W/{etag}", f'"other", {etag}', "*"):
            again = await shelf.client.get(link, headers={"If-None-Match": given})
            assert (again.status_code, again.content) == (304, b"")
            assert again.headers["etag"] == etag
        assert (await shelf.client.get(link, headers={"If-None-Match": '"other"'})).status_code == 200
    assert (await shelf.client.get(made.thumbnail)).headers["etag"] != (await fetch()).headers["etag"]


async def test_a_cached_copy_still_needs_the_right_to_see_it(shelf: RunningService, made: Made, fetch: Get) -> None:
    etag = (await fetch()).headers["etag"]
    response = await shelf.client.get(f"/api/images/{made.id}", headers={"If-None-Match": etag})
    assert response.status_code == 401


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [("0-99", 0, 100), ("100-299", 100, 300), ("-50", -50, None), ("500-", 500, None), ("0-0", 0, 1),
     ("10-999999999", 10, None), ("-999999999", 0, None), ("0-", 0, None)],
)  # fmt: skip
async def test_a_range_is_that_part_of_the_bytes(
    made: Made, fetch: Get, asked: str, start: int, end: int | None
) -> None:
    response = await fetch(Range=f"bytes={asked}")
    part = made.content[start:end]
    first = start % len(made.content)
    assert (response.status_code, response.content) == (206, part)
    assert response.headers["content-range"] == f"bytes {first}-{first + len(part) - 1}/{len(made.content)}"
    assert response.headers["content-length"] == str(len(part))
    assert response.headers["accept-ranges"] == "bytes"


async def test_a_range_outside_of_the_image_is_416(made: Made, fetch: Get) -> None:
    for asked in (f"{len(made.content)}-", "999999999-", "-0"):
        response = await fetch(Range=f"bytes={asked}")
        assert response.status_code == 416
        assert response.headers["content-range"] == f"bytes */{len(made.content)}"


@pytest.mark.parametrize("asked", ["bytes=0-9,20-29", "lines=0-9", "bytes=9-0", "bytes=x-y", "bytes=-", "bytes 0-9"])
async def test_several_ranges_or_none_that_is_one_are_the_whole(made: Made, fetch: Get, asked: str) -> None:
    response = await fetch(Range=asked)
    assert (response.status_code, response.content) == (200, made.content)


async def test_if_range_gives_the_part_of_the_same_image_and_else_the_whole(made: Made, fetch: Get) -> None:
    etag = (await fetch()).headers["etag"]
    assert (await fetch(Range="bytes=0-9", If_Range=etag)).status_code == 206
    for other in ('"other"', f"W/{etag}", "Sun, 22 Nov 2026 08:00:00 GMT"):
        response = await fetch(Range="bytes=0-9", If_Range=other)
        assert (response.status_code, response.content) == (200, made.content)


async def test_head_tells_what_get_would_send(shelf: RunningService, made: Made, fetch: Get) -> None:
    got, head = await fetch(), await shelf.client.head(made.link)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("content-length", "content-type", "etag", "cache-control", "accept-ranges"):
        assert head.headers[name] == got.headers[name], name
    part = await shelf.client.head(made.link, headers={"Range": "bytes=0-9"})
    assert (part.status_code, part.headers["content-length"]) == (200, got.headers["content-length"])
    small = await shelf.client.head(made.thumbnail)
    assert (small.status_code, small.headers["content-type"], small.content) == (200, "image/webp", b"")
    assert (await shelf.client.head(f"/api/images/{made.id}")).status_code == 401


async def test_download_names_the_file_as_it_lies_in_storage(shelf: RunningService, made: Made, fetch: Get) -> None:
    assert "content-disposition" not in (await fetch()).headers
    response = await shelf.client.get(f"{made.link}&download=1")
    (path,) = [path for path in image_files(shelf) if path.suffix == ".png"]
    assert response.headers["content-disposition"] == f'attachment; filename="{path.name}"'
    assert path.name.startswith("basic_")
    assert response.content == made.content


@pytest.mark.parametrize("pixels", [(640, 480), (480, 640), (1600, 200), (300, 200), (400, 400)])
@pytest.mark.parametrize("mime", ["image/png", "image/jpeg", "image/webp"])
async def test_a_thumbnail_is_webp_of_at_most_400_pixels_in_the_same_ratio(
    shelf: RunningService, gemini: GeminiStandin, pixels: tuple[int, int], mime: Any
) -> None:
    gemini.configure(pixels=pixels, mime=mime)
    response = await shelf.client.get((await (await shelf.guest()).image())["thumbnail_url"])
    assert response.headers["content-type"] == "image/webp"
    picture = picture_of(response)
    scale = min(1.0, 400 / max(pixels))
    assert picture.format == "WEBP"
    assert picture.size == tuple(round(side * scale) for side in pixels)


async def test_a_thumbnail_is_made_once_and_then_needs_no_original(shelf: RunningService, made: Made) -> None:
    first = await shelf.client.get(made.thumbnail)
    (original,) = [path for path in image_files(shelf) if path.suffix == ".png"]
    original.unlink()
    second = await shelf.client.get(made.thumbnail)
    assert (second.status_code, second.content) == (200, first.content)
    assert len(shelf.stored("thumbnails/*/*.webp")) == 1
    assert shelf.stored("thumbnails/*/*.webp")[0].stem == made.id
    assert (await shelf.client.get(made.link)).status_code == 404


async def test_many_first_looks_at_once_make_one_thumbnail(shelf: RunningService, made: Made) -> None:
    answers = await asyncio.gather(*(shelf.client.get(made.thumbnail) for _ in range(12)))
    assert {response.status_code for response in answers} == {200}
    assert len({response.content for response in answers}) == 1
    assert len(shelf.stored("thumbnails/**/*")) == 1


async def test_a_thumbnail_of_an_image_whose_bytes_are_gone_is_404(shelf: RunningService, made: Made) -> None:
    (original,) = [path for path in image_files(shelf) if path.suffix == ".png"]
    original.unlink()
    assert (await shelf.client.get(made.thumbnail)).status_code == 404
    assert shelf.stored("thumbnails/**/*") == []


async def test_an_image_that_cannot_be_decoded_has_no_thumbnail_but_its_bytes(open_service: OpenService) -> None:
    """The provider's bytes are kept as they came; only their head was looked at."""
    whole = io.BytesIO()
    Image.effect_noise((300, 300), 50).save(whole, "PNG")
    half = whole.getvalue()[: len(whole.getvalue()) // 2]
    body = orjson.dumps(answer_with({"inlineData": {"data": base64.b64encode(half).decode()}}))
    async with upstream_saying(200, [body]) as url:
        service = await open_service(GOOGLE_GEMINI_BASE_URL=url, **WIDE)
        data = await (await service.guest()).image()
    assert (await service.client.get(data["image_url"])).content == half
    assert (await service.client.get(data["thumbnail_url"])).status_code == 404
    assert service.stored("thumbnails/**/*") == []


async def test_a_thumbnail_stands_upright_as_its_exif_says(open_service: OpenService) -> None:
    picture = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    Image.new("RGB", (800, 400), "teal").save(picture, "JPEG", exif=exif)
    body = orjson.dumps(answer_with({"inlineData": {"data": base64.b64encode(picture.getvalue()).decode()}}))
    async with upstream_saying(200, [body]) as url:
        service = await open_service(GOOGLE_GEMINI_BASE_URL=url, **WIDE)
        data = await (await service.guest()).image()
    assert picture_of(await service.client.get(data["thumbnail_url"])).size == (200, 400)
