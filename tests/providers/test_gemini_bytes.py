"""The image that is kept is the one that Gemini sent, byte for byte, and no other."""

import base64
import io
from typing import Any

import orjson
import pytest
from PIL import Image

from benchmarks.gemini_standin import GeminiStandin
from tests.conftest import OPERATOR_KEY, OpenService
from tests.providers.upstream import answer_with, error_of, image_calls, kept_files, upstream_bytes, upstream_saying
from tests.support.service import RunningService


@pytest.mark.parametrize(("mime", "extension"), [("image/png", "png"), ("image/jpeg", "jpg"), ("image/webp", "webp")])
@pytest.mark.parametrize("formats", [[], ["escaped_base64", "pretty", "chunked"], ["url_safe_base64", "gzip"]])
async def test_the_stored_bytes_are_exactly_the_upstreams(
    gemini_service: RunningService, gemini: GeminiStandin, mime: str, extension: str, formats: list[Any]
) -> None:
    gemini.configure(mime=mime, formats=formats, image_bytes=700_000, pixels=(640, 480))
    guest = await gemini_service.guest()
    data = await guest.image(include_base64=True)
    sent = await upstream_bytes(gemini, image_calls(gemini)[0])
    assert len(sent) == 700_000
    (stored,) = gemini_service.stored(f"users/**/*.{extension}")
    assert stored.read_bytes() == sent
    assert base64.b64decode(data["image_base64"]) == sent
    linked = await gemini_service.client.get(data["image_url"])
    assert linked.content == sent
    assert linked.headers["content-type"] == data["mime_type"] == mime
    assert (await guest.history())["items"][0]["size"] == len(sent)
    assert list((gemini_service.data_dir / "spool").iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "mime", "extension"),
    [("PNG", "image/png", "png"), ("JPEG", "image/jpeg", "jpg"), ("WEBP", "image/webp", "webp")],
)
async def test_a_declared_type_that_lies_does_not_name_the_file(
    open_service: OpenService, kind: str, mime: str, extension: str
) -> None:
    picture = io.BytesIO()
    Image.new("RGB", (40, 30), "teal").save(picture, kind)
    text = base64.b64encode(picture.getvalue()).decode()
    lie = "image/gif" if kind == "PNG" else "image/png"
    body = orjson.dumps(answer_with({"inlineData": {"mimeType": lie, "data": text}}))
    async with upstream_saying(200, [body]) as url:
        service = await open_service(GOOGLE_API_KEY=OPERATOR_KEY, GOOGLE_GEMINI_BASE_URL=url)
        data = await (await service.guest()).image()
    assert data["mime_type"] == mime
    (stored,) = [path for path in service.stored("users/**/*") if path.suffix != ".json"]
    assert (stored.suffix, stored.read_bytes()) == (f".{extension}", picture.getvalue())


async def test_thoughts_come_as_text_and_their_images_are_dropped(
    gemini_service: RunningService, gemini: GeminiStandin
) -> None:
    gemini.configure(mode="thoughts", text="Here it is.", pixels=(64, 64))
    guest = await gemini_service.guest()
    data = await guest.image(enable_thinking=True)
    assert data["thinking"] == "I am weighing the composition."
    assert data["text_response"] == "Here it is."
    assert sorted(path.suffix for path in kept_files(gemini_service)) == [".json", ".png"]
    whole = (await guest.client.get(f"/api/history/{data['history_id']}")).json()
    assert (whole["thinking"], whole["text_response"]) == (data["thinking"], data["text_response"])


async def test_a_thought_is_never_taken_for_the_image_wherever_it_stands(open_service: OpenService) -> None:
    target = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(target, "PNG")
    inline = {"inlineData": {"data": base64.b64encode(target.getvalue()).decode()}}
    sketch = io.BytesIO()
    Image.new("RGB", (20, 20), "blue").save(sketch, "PNG")
    thought = {"inlineData": {"data": base64.b64encode(sketch.getvalue()).decode()}, "thought": True}
    async with upstream_saying(200, [orjson.dumps(answer_with(inline, thought))]) as url:
        service = await open_service(GOOGLE_API_KEY=OPERATOR_KEY, GOOGLE_GEMINI_BASE_URL=url)
        await (await service.guest()).image()
        assert [path.read_bytes() for path in kept_files(service) if path.suffix == ".png"] == [target.getvalue()]
    async with upstream_saying(200, [orjson.dumps(answer_with(thought))]) as url:
        service = await open_service(GOOGLE_API_KEY=OPERATOR_KEY, GOOGLE_GEMINI_BASE_URL=url)
        response = await (await service.guest()).generate()
    assert (response.status_code, error_of(response)["code"]) == (502, "NO_IMAGE")


async def test_of_several_images_the_last_is_kept_and_no_other(open_service: OpenService) -> None:
    pictures = []
    for color in ("red", "green", "blue"):
        target = io.BytesIO()
        Image.new("RGB", (40, 30), color).save(target, "PNG")
        pictures.append(target.getvalue())
    parts = [{"inlineData": {"data": base64.b64encode(picture).decode()}} for picture in pictures]
    async with upstream_saying(200, [orjson.dumps(answer_with(*parts))]) as url:
        service = await open_service(GOOGLE_API_KEY=OPERATOR_KEY, GOOGLE_GEMINI_BASE_URL=url)
        await (await service.guest()).image()
    assert [path.read_bytes() for path in kept_files(service) if path.suffix == ".png"] == [pictures[-1]]
    assert len(kept_files(service)) == 2
