"""POST /api/generate/blend, from the caller's images over the wire to the one that is kept."""

import asyncio
import base64
from pathlib import Path
from typing import Any

import httpx
import pytest
from google.genai import Client
from google.genai import types as genai
from PIL import Image

from benchmarks.gemini_standin import GeminiStandin
from services.history.records import read_record
from services.providers.gemini_contents import STYLE_INSTRUCTION
from tests.conftest import OPERATOR_KEY, OpenService
from tests.providers.test_gemini import camel_case, google_config
from tests.providers.upstream import image_calls, image_rows, kept_files
from tests.references import pictures
from tests.references.asking import BLEND, blend, blend_form, made
from tests.references.pictures import BLUE, RED, animation, data_url, opened, picture, plain
from tests.support.answers import error_of, fields_of
from tests.support.service import Guest, RunningService
from tests.support.waiting import eventually

OWN_KEY = {"X-API-Key": "own-key.of_a-caller+0123456789"}


def parts(gemini: GeminiStandin, call: int = 0) -> list[Any]:
    (content,) = image_calls(gemini)[call]["body"]["contents"]
    found: list[Any] = content["parts"]
    return found


def sent(gemini: GeminiStandin, call: int = 0) -> list[tuple[str, bytes]]:
    """The images of a call, in their order."""
    inline = [part["inlineData"] for part in parts(gemini, call) if "inlineData" in part]
    return [(entry["mimeType"], base64.b64decode(entry["data"], validate=True)) for entry in inline]


def spooled(folder: Path) -> list[Path]:
    return list(folder.iterdir())


@pytest.fixture
async def guest(gemini_service: RunningService, gemini: GeminiStandin) -> Guest:
    gemini.configure(pixels=(64, 64))
    return await gemini_service.guest()


@pytest.fixture
def spool(gemini_service: RunningService) -> Path:
    return gemini_service.data_dir / "spool"


async def test_the_bytes_of_the_images_reach_the_provider_in_their_order(guest: Guest, gemini: GeminiStandin) -> None:
    images = [picture("PNG"), picture("JPEG", colour=BLUE), picture("WEBP"), picture("PNG", (900, 700))]
    types = ["image/png", "image/jpeg", "image/webp", "image/png"]
    made(await blend(guest, *images))
    made(await blend_form(guest, *images))
    for call in (0, 1):
        assert parts(gemini, call)[0] == {"text": "both in one"}
        assert sent(gemini, call) == list(zip(types, images, strict=True))


async def test_an_image_of_many_pieces_arrives_whole(guest: Guest, gemini: GeminiStandin) -> None:
    """Over the size of what is read, written and encoded at once, and of no round length."""
    noise = pictures.png_claiming(600, 600, bytes(range(256)) * 10_001 + b"x")
    made(await blend(guest, noise))
    made(await blend_form(guest, noise))
    assert sent(gemini, 0) == sent(gemini, 1) == [("image/png", noise)]


async def test_each_way_of_writing_an_image_in_json(guest: Guest, gemini: GeminiStandin) -> None:
    image = picture("JPEG")
    text = base64.b64encode(image).decode()
    ways = [
        text,
        text.replace("+", "-").replace("/", "_"),
        f"data:image/jpeg;base64,{text}",
        f"DATA:image/png;charset=utf-8;BASE64,{text}",
        f"data:;base64,{text}",
    ]
    made(await blend(guest, prompt="a", images=ways))
    assert sent(gemini) == [("image/jpeg", image)] * len(ways)


@pytest.mark.parametrize(
    "template",
    [
        '{"prompt": "a", "images": ["%s"]}',
        '{ "images" \n:\t[ "%s" ] , "prompt":"a"}',
        '{"im\\u0061ges": ["%s"], "prompt": "a"}',
        '{"images":' + " " * 1000 + '["%s"],"prompt":"a"}',
        '{"prompt": "\\"images\\": [\\"no\\"]", "images": ["%s"]}',
        '{"images": ["broken"], "prompt": "a", "images": ["%s"]}',
    ],
)
async def test_however_the_json_is_spelled(guest: Guest, gemini: GeminiStandin, template: str) -> None:
    image = picture("PNG")
    text = base64.b64encode(image).decode()
    response = await guest.client.post(
        BLEND, content=template.replace("broken", text) % text, headers={"content-type": "application/json"}
    )
    made(response)
    assert sent(gemini) == [("image/png", image)]


async def test_what_providers_do_not_take_is_sent_as_its_first_frame(guest: Guest, gemini: GeminiStandin) -> None:
    made(await blend(guest, plain(RED, kind="GIF"), animation("GIF", 3), animation("WEBP", 3)))
    assert [mime_type for mime_type, _ in sent(gemini)] == ["image/png", "image/png", "image/webp"]
    for mime_type, image in sent(gemini):
        still = opened(image)
        assert (Image.MIME[still.format or ""], getattr(still, "n_frames", 1)) == (mime_type, 1)
        red, green, blue = still.convert("RGB").getpixel((5, 5))  # type: ignore[misc]
        assert red > 150 > max(green, blue)


@pytest.mark.parametrize("lossless", [True, False])
async def test_the_first_frame_of_a_webp_keeps_its_pixels_and_their_transparency(
    guest: Guest, gemini: GeminiStandin, lossless: bool
) -> None:
    animated = pictures.sticker(lossless=lossless)
    made(await blend_form(guest, animated))
    ((mime_type, image),) = sent(gemini)
    expected = opened(animated).convert("RGBA")
    whole = Image.new("RGBA", expected.size)
    still = opened(image)
    whole.paste(still, pictures.STICKER_AT)
    assert (mime_type, still.size) == ("image/webp", pictures.STICKER_SIZE)
    assert whole.getchannel("A").tobytes() == expected.getchannel("A").tobytes()
    flat, wanted = (Image.alpha_composite(Image.new("RGBA", expected.size, "white"), one) for one in (whole, expected))
    assert flat.tobytes() == wanted.tobytes()


async def test_a_phones_photo_is_sent_without_what_stands_behind_it(guest: Guest, gemini: GeminiStandin) -> None:
    photo, image = pictures.phone_photo()
    made(await blend_form(guest, photo))
    assert sent(gemini) == [("image/jpeg", image)]


async def test_object_record_row_and_ledger_agree(
    gemini_service: RunningService, guest: Guest, gemini: GeminiStandin, spool: Path
) -> None:
    data = made(await blend(guest, picture(), picture("JPEG"), aspect_ratio="4:3", safety_level="strict"))
    (stored,) = gemini_service.stored("users/**/blend_*.png")
    record = read_record(stored.with_suffix(".json").read_bytes())
    assert (record.image.mode, record.image.resolution, record.image.aspect_ratio) == ("blend", "1K", "4:3")
    assert record.charge is not None
    assert (record.charge.mode, record.charge.points) == ("blend", 2)
    (item,) = (await guest.history(mode="blend"))["items"]
    assert (item["id"], item["settings"]) == (data["history_id"], {"aspect_ratio": "4:3", "resolution": "1K"})
    assert await guest.used() == 2
    assert spooled(spool) == []
    config = image_calls(gemini)[0]["body"]["generationConfig"]
    assert config["imageConfig"] == {"aspectRatio": "4:3", "imageSize": "1K"}


async def test_a_square_is_what_is_made_unless_another_ratio_is_asked_for(guest: Guest, gemini: GeminiStandin) -> None:
    made(await blend(guest, picture()))
    assert image_calls(gemini)[0]["body"]["generationConfig"]["imageConfig"]["aspectRatio"] == "1:1"


async def test_style_takes_the_content_first_and_counts_as_blend(guest: Guest, gemini: GeminiStandin) -> None:
    content, style = picture(colour=RED), picture(colour=BLUE)
    made(await blend_form(guest, content, style, mode="style", prompt="softly"))
    assert parts(gemini)[0] == {"text": f"{STYLE_INSTRUCTION}\n\nsoftly"}
    assert [image for _, image in sent(gemini)] == [content, style]
    (item,) = (await guest.history(mode="style"))["items"]
    assert item["prompt"] == "softly"
    quota = (await guest.client.get("/api/quota")).json()
    assert (quota["modes"]["blend"]["used"], quota["global"]["used"]) == (1, 2)


@pytest.mark.parametrize(("count", "reason"), [(1, "too_short"), (3, "too_long")])
async def test_style_takes_two_images_and_no_other_number(
    guest: Guest, gemini: GeminiStandin, spool: Path, count: int, reason: str
) -> None:
    field = fields_of(await blend(guest, *[picture()] * count, mode="style"))["images"]
    assert (field["reason"], field["limit"]) == (reason, 2)
    assert image_calls(gemini) == []
    assert spooled(spool) == []


async def test_fourteen_images_are_taken_and_fifteen_are_not(guest: Guest, gemini: GeminiStandin, spool: Path) -> None:
    made(await blend_form(guest, *[picture()] * 14))
    assert len(sent(gemini)) == 14
    for send in (blend, blend_form):
        field = fields_of(await send(guest, *[picture()] * 15))["images"]
        assert (field["reason"], field["limit"]) == ("too_long", 14)
    assert len(image_calls(gemini)) == 1
    assert spooled(spool) == []


async def test_a_model_that_takes_fewer_says_so_before_anything_is_spent(
    guest: Guest, gemini: GeminiStandin, spool: Path
) -> None:
    field = fields_of(await blend(guest, *[picture()] * 4, model="gemini-2.5-flash-image"))["images"]
    assert (field["reason"], field["limit"]) == ("too_long", 3)
    field = fields_of(await blend(guest, picture(), model="gemini-3.1-flash-lite-image"))["model"]
    assert field["reason"] == "not_allowed"
    assert "gemini-3-pro-image" in field["allowed"]
    assert "gemini-3.1-flash-lite-image" not in field["allowed"]
    assert image_calls(gemini) == []
    assert spooled(spool) == []
    assert await guest.used() == 0
    made(await blend(guest, *[picture()] * 3, model="gemini-2.5-flash-image"))


async def test_our_body_is_the_one_that_googles_own_client_sends(guest: Guest, gemini: GeminiStandin) -> None:
    images = [("image/png", picture("PNG")), ("image/jpeg", picture("JPEG"))]
    made(await blend(guest, *(image for _, image in images), aspect_ratio="16:9"))

    def call_google() -> None:
        with Client(api_key="good-key", http_options=genai.HttpOptions(base_url=gemini.url)) as google:
            config = google_config("moderate", thinking=False, seed=None)
            config.image_config = genai.ImageConfig(aspect_ratio="16:9", image_size="1K")
            contents: Any = [
                "both in one",
                *(genai.Part.from_bytes(data=data, mime_type=kind) for kind, data in images),
            ]
            google.models.generate_content(model="gemini-3-pro-image", contents=contents, config=config)

    await asyncio.to_thread(call_google)
    ours, theirs = (call["body"] for call in image_calls(gemini))
    for part in theirs["contents"][0]["parts"]:
        if "inlineData" in part:  # the SDK writes base64 in the alphabet of addresses
            part["inlineData"]["data"] = part["inlineData"]["data"].replace("-", "+").replace("_", "/")
    assert ours == camel_case(theirs)


async def test_a_second_try_sends_the_images_again(
    open_service: OpenService, gemini: GeminiStandin, tmp_path: Path
) -> None:
    gemini.script({"mode": "error", "status": 503, "times": 1}, {"pixels": (64, 64)})
    service = await open_service(GOOGLE_API_KEY=OPERATOR_KEY, GOOGLE_GEMINI_BASE_URL=gemini.url)
    image = picture("PNG", (900, 700))
    made(await blend(await service.guest(), image))
    assert sent(gemini, 0) == sent(gemini, 1) == [("image/png", image)]
    assert spooled(service.data_dir / "spool") == []


async def test_an_anonymous_caller_with_an_own_key_gets_it_inline(
    gemini_service: RunningService, gemini: GeminiStandin, spool: Path
) -> None:
    gemini.configure(pixels=(64, 64))
    client = gemini_service.with_headers(**OWN_KEY)
    data = made(await client.post(BLEND, data={"prompt": "a"}, files={"images": picture()}))
    assert opened(base64.b64decode(data["image_base64"])).size == (64, 64)
    assert (data["image_url"], data["history_id"]) == (None, None)
    assert kept_files(gemini_service) == spooled(spool) == []


async def test_nobodys_megabytes_are_not_taken_in(gemini_service: RunningService, spool: Path) -> None:
    response = await gemini_service.client.post(BLEND, data={"prompt": "a"}, files={"images": picture()})
    error_of(response, 401, "UNAUTHORIZED")
    assert spooled(spool) == []


@pytest.mark.parametrize("step", [{"mode": "safety"}, {"mode": "error", "status": 400, "message": "no"}])
async def test_what_fails_upstream_costs_nothing_and_leaves_no_file(
    gemini_service: RunningService, guest: Guest, gemini: GeminiStandin, spool: Path, step: dict[str, Any]
) -> None:
    gemini.configure(**step)
    assert (await blend(guest, picture())).status_code == 400
    assert await guest.used() == image_rows(gemini_service) == 0
    assert spooled(spool) == []


async def test_an_upstream_that_answers_before_it_has_read_all_is_heard(guest: Guest, gemini: GeminiStandin) -> None:
    image = pictures.png_claiming(600, 600, bytes(6_000_000))
    gemini.configure(mode="error", status=400, message="too much")
    assert (await blend_form(guest, image)).status_code in {400, 502}
    assert await guest.used() == 0


async def test_who_hangs_up_while_sending_leaves_nothing(gemini_service: RunningService, guest: Guest) -> None:
    async def half() -> Any:
        yield b'{"prompt": "a", "images": ["' + b"iVBORw0KGgo" * 100_000
        raise ConnectionResetError

    headers = {"content-type": "application/json", "content-length": "9000000"}
    with pytest.raises((httpx.HTTPError, ConnectionResetError)):
        await guest.client.post(BLEND, content=half(), headers=headers)

    async def nothing_is_left() -> bool:
        return spooled(gemini_service.data_dir / "spool") == []

    assert await eventually(nothing_is_left)


async def test_a_form_has_texts_where_json_has_booleans(
    gemini_service: RunningService, guest: Guest, gemini: GeminiStandin
) -> None:
    data = made(await blend_form(guest, picture(), save_to_history="false", include_base64="true"))
    assert data["history_id"] is None
    assert data["image_base64"] is not None
    assert gemini_service.stored("users/**/*") == []
    assert fields_of(await blend_form(guest, picture(), save_to_history="perhaps"))["save_to_history"]
    assert fields_of(await blend(guest, picture(), save_to_history="false"))["save_to_history"]


class TestIdempotency:
    async def test_the_same_images_are_the_same_call_however_they_are_sent(
        self, guest: Guest, gemini: GeminiStandin
    ) -> None:
        key = {"Idempotency-Key": "k1"}
        image, other = picture(), picture("JPEG")
        texts = [pictures.text_of(image), data_url(other, "image/jpeg")]
        files = [("images", ("a", image)), ("images", ("b", other))]
        answers = [
            await guest.client.post(BLEND, json={"prompt": "a", "images": texts}, headers=key),
            await guest.client.post(BLEND, data={"prompt": "a"}, files=files, headers=key),
            await guest.client.post(BLEND, data={"prompt": "a"}, files=files, headers=key),
        ]
        first, *later = (made(answer)["history_id"] for answer in answers)
        assert later == [first] * 2
        assert ["idempotency-replayed" in answer.headers for answer in answers] == [False, True, True]
        assert len(image_calls(gemini)) == 1
        assert await guest.used() == 2

    async def test_other_images_are_another_body(self, guest: Guest, gemini: GeminiStandin, spool: Path) -> None:
        key = {"Idempotency-Key": "k1"}
        one, two = ("images", ("a", picture())), ("images", ("a", picture(colour=BLUE)))
        made(await guest.client.post(BLEND, data={"prompt": "a"}, files=[one, two], headers=key))
        for files in ([two, one], [one], [one, two, two]):
            response = await guest.client.post(BLEND, data={"prompt": "a"}, files=files, headers=key)
            error_of(response, 422, "IDEMPOTENCY_MISMATCH")
        response = await guest.client.post(BLEND, data={"prompt": "b"}, files=[one, two], headers=key)
        error_of(response, 422, "IDEMPOTENCY_MISMATCH")
        assert len(image_calls(gemini)) == 1
        assert spooled(spool) == []

    async def test_without_an_account_there_is_no_key(self, gemini_service: RunningService, spool: Path) -> None:
        client = gemini_service.with_headers(**OWN_KEY, **{"Idempotency-Key": "k1"})
        response = await client.post(BLEND, data={"prompt": "a"}, files={"images": picture()})
        assert fields_of(response)["Idempotency-Key"]["reason"] == "needs_account"
        assert spooled(spool) == []


async def test_the_example_of_a_form_works(service: RunningService) -> None:
    document: Any = (await service.client.get("/openapi.json")).json()
    example: dict[str, Any] = document["components"]["schemas"]["BlendForm"]["example"]
    files = [("images", ("a.png", plain(RED))) for _ in example.pop("images")]
    made(await (await service.guest()).client.post(BLEND, data=example, files=files))
